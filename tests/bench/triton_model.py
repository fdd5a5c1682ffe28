"""Baseline (d)'s model.py: the same graph under Triton's Python backend, batched.

Runs inside Triton's own Python process, in an environment with numpy < 2.
"""

import json
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as backend  # type: ignore[import-not-found]


class TritonPythonModel:
    """The class that Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = config["parameters"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            parameters["file"]["string_value"], options, providers=["CPUExecutionProvider"]
        )
        self._input = config["input"][0]["name"]
        self._outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        arrays = [
            backend.get_input_tensor_by_name(request, self._input).as_numpy()
            for request in requests
        ]
        batch = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        outputs = self._session.run(self._outputs, {self._input: batch})
        responses, first = [], 0
        for array in arrays:
            last = first + len(array)
            tensors = [
                backend.Tensor(name, np.ascontiguousarray(output[first:last]))
                for name, output in zip(self._outputs, outputs, strict=True)
            ]
            responses.append(backend.InferenceResponse(tensors))
            first = last
        return responses
