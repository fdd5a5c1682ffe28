"""What people do with tritonclient, in a process of its own.

Its generated code defines the same protobuf names as ours, so one process cannot hold both.
"""

import asyncio
import queue
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.uint8): "UINT8"}


class TritonError(Exception):
    """An InferenceServerException that can be sent to another process: status and message."""


class Triton:
    """Runs functions of this module in the process that has tritonclient."""

    def __init__(self, pool: ProcessPoolExecutor, address: str) -> None:
        self.pool = pool
        self._address = address

    def __call__(self, function: Any, *args: Any, **options: Any) -> Any:
        return self.pool.submit(_guarded, function, self._address, args, options).result(60)


def new_pool() -> ProcessPoolExecutor:
    """One fresh process."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def published_files(_: str) -> list[bytes]:
    """Serialised descriptors of tritonclient's own .proto files."""
    from tritonclient.grpc import model_config_pb2, service_pb2

    return [service_pb2.DESCRIPTOR.serialized_pb, model_config_pb2.DESCRIPTOR.serialized_pb]


def beside_the_sdk(address: str) -> list[str]:
    """Use the SDK in the process that has tritonclient."""
    from vaeserve import Client

    with Client(address) as client:
        return [state.name for state in client.models()]


def about(address: str, model: str) -> dict[str, Any]:
    """Everything that can be asked without running anything, as JSON."""
    with _client(address) as client:
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(model),
            "nobody_ready": client.is_model_ready("nobody"),
            "server": client.get_server_metadata(as_json=True),
            "metadata": client.get_model_metadata(model, as_json=True),
            "config": client.get_model_config(model, as_json=True),
            "index": client.get_model_repository_index(as_json=True),
            "regions": client.get_system_shared_memory_status(as_json=True),
            "cuda": client.get_cuda_shared_memory_status(as_json=True),
        }


def statistics(address: str, model: str) -> Any:
    """Statistics of a model, as JSON."""
    with _client(address) as client:
        return client.get_inference_statistics(model, as_json=True)["model_stats"][0]


def load_model(address: str, model: str) -> None:
    """Something that the server does not do."""
    with _client(address) as client:
        client.load_model(model)


def infer(address: str, model: str, values: Array, **options: Any) -> dict[str, Any]:
    """One call: outputs by name, and the reply's id and parameters."""
    import tritonclient.grpc as triton

    names = options.pop("outputs", None)
    if names is not None:
        options["outputs"] = [triton.InferRequestedOutput(name) for name in names]
    with _client(address) as client:
        return _result(client.infer(model, [_input(triton, model, values)], **options))


def infer_async(address: str, model: str, values: Array, calls: int) -> list[Any]:
    """Many calls at once through asyncio, the outputs of each."""
    import tritonclient.grpc.aio as triton

    async def run() -> list[Any]:
        async with triton.InferenceServerClient(address) as client:
            results = await asyncio.gather(
                *(
                    client.infer(model, [_input(triton, model, values)], request_id=str(number))
                    for number in range(calls)
                )
            )
        return [_result(result) for result in results]

    return asyncio.run(run())


def stream(address: str, requests: list[tuple[str, Array, dict[str, Any]]]) -> list[Any]:
    """Requests on one stream: for each the result, or the error's text."""
    import tritonclient.grpc as triton

    answers: queue.Queue[Any] = queue.Queue()
    with _client(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number, (model, values, parameters) in enumerate(requests):
            client.async_stream_infer(
                model,
                [_input(triton, model, values)],
                request_id=str(number),
                parameters=parameters,
            )
        got = [answers.get(timeout=30) for _ in requests]
        client.stop_stream()
    return [str(error) if error else _result(result) for result, error in got]


def stream_async(address: str, model: str, values: Array, calls: int) -> list[Any]:
    """The same request many times on one asyncio stream."""
    import tritonclient.grpc.aio as triton

    async def requests() -> Any:
        for number in range(calls):
            yield {
                "model_name": model,
                "inputs": [_input(triton, model, values)],
                "request_id": str(number),
            }

    async def run() -> list[Any]:
        async with triton.InferenceServerClient(address) as client:
            answers = client.stream_infer(requests())
            return [str(error) if error else _result(result) async for result, error in answers]

    return asyncio.run(run())


def through_shared_memory(address: str, model: str, values: Array, rows_bytes: int) -> Any:
    """Input and first output in shared memory, both at an offset.

    Returns:
        the output, and the regions while they were registered and after.
    """
    import tritonclient.grpc as triton
    from tritonclient.utils import shared_memory

    offset = 64
    into = shared_memory.create_shared_memory_region("in", "/vaeserve_in", values.nbytes + offset)
    out = shared_memory.create_shared_memory_region("out", "vaeserve_out", rows_bytes + offset)
    try:
        shared_memory.set_shared_memory_region(into, [values], offset=offset)
        with _client(address) as client:
            client.register_system_shared_memory("in", "/vaeserve_in", values.nbytes + offset)
            client.register_system_shared_memory("out", "vaeserve_out", rows_bytes, offset=offset)
            registered = client.get_system_shared_memory_status(as_json=True)
            name = "z" if model.endswith("_decoder") else "x"
            given = triton.InferInput(name, list(values.shape), DATATYPES[values.dtype])
            given.set_shared_memory("in", values.nbytes, offset=offset)
            wanted = triton.InferRequestedOutput("mu" if name == "x" else "x_hat")
            wanted.set_shared_memory("out", rows_bytes)
            result = client.infer(model, [given], outputs=[wanted])
            output = result.get_response().outputs[0]
            assert output.parameters["shared_memory_region"].string_param == "out"
            assert output.parameters["shared_memory_byte_size"].int64_param == rows_bytes
            got = shared_memory.get_contents_as_numpy(
                out, np.float32, list(output.shape), offset=offset
            ).copy()
            client.unregister_system_shared_memory("in")
            client.unregister_system_shared_memory()
            client.unregister_cuda_shared_memory()
            return got, registered, client.get_system_shared_memory_status(as_json=True)
    finally:
        shared_memory.destroy_shared_memory_region(into)
        shared_memory.destroy_shared_memory_region(out)


def _guarded(function: Any, address: str, args: Any, options: Any) -> Any:
    from tritonclient.utils import InferenceServerException

    try:
        return function(address, *args, **options)
    except InferenceServerException as error:
        raise TritonError(error.status(), error.message()) from None


def _client(address: str) -> Any:
    import tritonclient.grpc as triton

    return triton.InferenceServerClient(address)


def _input(triton: Any, model: str, values: Array) -> Any:
    name = "z" if model.endswith("_decoder") else "x"
    datatype = DATATYPES.get(values.dtype, "FP64")
    return triton.InferInput(name, list(values.shape), datatype).set_data_from_numpy(values)


def _result(result: Any) -> dict[str, Any]:
    reply = result.get_response()
    return {
        "id": reply.id,
        "version": reply.model_version,
        "seed": reply.parameters["seed"].uint64_param if "seed" in reply.parameters else None,
        **{output.name: result.as_numpy(output.name) for output in reply.outputs},
    }
