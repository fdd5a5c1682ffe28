"""The messages that servers speak: rows to request bytes, reply bytes to arrays."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from bench import messages
from bench.cases import SEED, Case, Floats, Outputs
from vaeserve.v1 import arrays, noise, vae_service_pb2

Prior = Callable[[int, int], Floats]
"""Latents that a server draws for SEED: rows and size to [rows, size]."""


class Wire(Protocol):
    """One dialect."""

    def path(self, case: Case) -> str:
        """ "/package.Service/Method"."""
        ...

    def request(self, case: Case) -> bytes | None:
        """The serialised request; None where the dialect has no such call."""
        ...

    def read(self, case: Case, reply: bytes) -> Outputs:
        """The arrays of a reply."""
        ...

    def latents(self, case: Case) -> Floats:
        """What the server decodes when it is asked for samples: [rows, latent]."""
        ...


def philox_prior(rows: int, size: int) -> Floats:
    """The draws that vaeserve.v1.noise defines."""
    drawn = noise.standard_normal(SEED, noise.Stream.PRIOR, first_row=0, rows=rows, size=size)
    return drawn[:, 0]


def numpy_prior(rows: int, size: int) -> Floats:
    """The draws of a server that makes no promise about them."""
    return np.random.default_rng(SEED).standard_normal((rows, size), np.float32)


_REPLIES: dict[str, Any] = {
    "encode": vae_service_pb2.EncodeResponse,
    "decode": vae_service_pb2.DecodeResponse,
    "sample": vae_service_pb2.SampleResponse,
}


class VaeserveWire:
    """The messages of vaeserve.v1."""

    def __init__(self, prior: Prior) -> None:
        self._prior = prior

    def path(self, case: Case) -> str:
        return f"/vaeserve.v1.VaeService/{case.rpc.capitalize()}"

    def request(self, case: Case) -> bytes:
        name = case.model.name
        if case.rpc == "sample":
            asked = vae_service_pb2.SampleRequest(model=name, n=case.rows, seed=SEED)
            return asked.SerializeToString()
        tensor = arrays.to_tensor(case.input())
        if case.rpc == "encode":
            return vae_service_pb2.EncodeRequest(model=name, input=tensor).SerializeToString()
        return vae_service_pb2.DecodeRequest(model=name, latents=tensor).SerializeToString()

    def read(self, case: Case, reply: bytes) -> Outputs:
        message = _REPLIES[case.rpc].FromString(reply)
        return {
            name: arrays.from_tensor(getattr(message, name)).astype(np.float32)
            for name in case.outputs
        }

    def latents(self, case: Case) -> Floats:
        return self._prior(case.rows, case.model.latent)


class FloatsWire:
    """`repeated float`, as many a tutorial has it."""

    def path(self, case: Case) -> str:
        return f"/bench.Pool/{case.rpc.capitalize()}"

    def request(self, case: Case) -> bytes:
        if case.rpc == "sample":
            return bytes(messages.Floats(rows=case.rows, seed=SEED).SerializeToString())
        values = case.input().ravel().tolist()
        return bytes(messages.Floats(values=values).SerializeToString())

    def read(self, case: Case, reply: bytes) -> Outputs:
        message = messages.Outputs.FromString(reply)
        shape = (case.rows, *case.output_shape)
        fields = zip(case.outputs, ("first", "second"), strict=False)
        return {
            name: np.array(getattr(message, field), np.float32).reshape(shape)
            for name, field in fields
        }

    def latents(self, case: Case) -> Floats:
        return numpy_prior(case.rows, case.model.latent)


class BareWire:
    """The arrays' bytes and nothing else. It has no sample."""

    def path(self, case: Case) -> str:
        return f"/bench.Bare/{case.rpc.capitalize()}"

    def request(self, case: Case) -> bytes | None:
        return None if case.rpc == "sample" else case.input().tobytes()

    def read(self, case: Case, reply: bytes) -> Outputs:
        shape = (len(case.outputs), case.rows, *case.output_shape)
        arrays_read = np.frombuffer(reply, np.float32).reshape(shape)
        return dict(zip(case.outputs, arrays_read, strict=True))

    def latents(self, case: Case) -> Floats:
        raise NotImplementedError


class InferWire:
    """ModelInfer of the Open Inference Protocol, the tensors as raw bytes. It has no sample."""

    def path(self, case: Case) -> str:
        del case
        return "/inference.GRPCInferenceService/ModelInfer"

    def request(self, case: Case) -> bytes | None:
        if case.rpc == "sample":
            return None
        rows = case.input()
        message = messages.InferRequest(
            model_name=f"{case.model.name}_{case.graph}", raw_input_contents=[rows.tobytes()]
        )
        message.inputs.add(name=case.graph_input, datatype="FP32", shape=rows.shape)
        return bytes(message.SerializeToString())

    def read(self, case: Case, reply: bytes) -> Outputs:
        message = messages.InferResponse.FromString(reply)
        found = zip(message.outputs, message.raw_output_contents, strict=True)
        return {
            tensor.name: np.frombuffer(raw, np.float32).reshape(tuple(tensor.shape))
            for tensor, raw in found
        }

    def latents(self, case: Case) -> Floats:
        raise NotImplementedError
