"""Serialised replies of known shape, made by joining what never changes with the rows themselves.

Building a message costs more than running a small graph on it. Replies of one shape differ in their
array bytes alone, so each shape is serialised by protobuf once, and cut where the arrays were.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
from google.protobuf.message import Message

from vaeserve.v1 import arrays, model_pb2, tensor_pb2, vae_service_pb2 as pb
from vaeserve_server.call import Outputs
from vaeserve_server.levels import to_levels

# Two of them never meet by chance, and cutting checks that none did.
_MARK = 16


class Form:
    """A reply of one shape."""

    __slots__ = ("_parts",)

    def __init__(self, build: Callable[..., Message], sizes: Sequence[int]) -> None:
        """Serialise the reply once.

        Args:
            build: makes the message of the byte strings.
            sizes: their lengths, in the order in which the message's fields are numbered.
        """
        rest: bytes | None = None
        while rest is None:
            marks = [os.urandom(min(size, _MARK)).ljust(size, b"\0") for size in sizes]
            data = build(*marks).SerializeToString()
            if all(data.count(mark) == 1 for mark in marks):
                rest = data
        self._parts: list[bytes] = []
        for mark in marks:
            head, _, rest = rest.partition(mark)
            self._parts += [head, b""]
        self._parts.append(rest)

    def fill(self, *values: arrays.Array) -> bytes:
        """The serialised reply.

        Args:
            values: C-contiguous little-endian arrays of the sizes that the form was made for.
        """
        parts: list[bytes | arrays.Array] = list(self._parts)
        for number, value in enumerate(values):
            parts[2 * number + 1] = value
        return b"".join(parts)  # type: ignore[arg-type]  # takes whatever has the buffer protocol


class Forms:
    """The forms of one model's commonest replies, made when first needed."""

    def __init__(self, info: model_pb2.ModelInfo) -> None:
        """Remember what every reply of the model holds."""
        self._version = info.version
        self._space = info.latent_space_id
        self._input_shape = tuple(info.input_shape)
        self._latent_shape = tuple(info.latent_shape)
        self._preprocessing = info.preprocessing
        self._known: dict[tuple[str, int], Form] = {}

    def posterior(self, outputs: Outputs) -> bytes:
        """EncodeResponse with mu and log_var."""
        mu, log_var = outputs
        form = self._known.get(("posterior", len(mu)))
        if form is None:
            shape = (len(mu), *self._latent_shape)

            def build(*data: bytes) -> Message:
                reply = pb.EncodeResponse(version=self._version, latent_space_id=self._space)
                for part, array in zip((reply.mu, reply.log_var), data, strict=True):
                    part.CopyFrom(_tensor(arrays.FLOAT32, shape, array))
                return reply

            form = self._known["posterior", len(mu)] = Form(build, (mu.nbytes, log_var.nbytes))
        return form.fill(mu, log_var)

    def decoded(self, outputs: Outputs) -> bytes:
        """DecodeResponse of model values."""
        return self._of_pictures("decoded", outputs[0], self._decoded)

    def decoded_levels(self, outputs: Outputs) -> bytes:
        """DecodeResponse of uint8 levels."""
        return self._of_pictures("levels", self._levels(outputs[0]), self._decoded)

    def sample(self, seed: int, of_levels: bool, outputs: Outputs) -> bytes:
        """SampleResponse of model values or of uint8 levels."""
        x_hat = self._levels(outputs[0]) if of_levels else outputs[0]
        name = "sample-levels" if of_levels else "sample"
        # One serialised message behind another is their merger.
        rest = pb.SampleResponse(seed=seed).SerializeToString()
        return self._of_pictures(name, x_hat, self._sample) + rest

    def _levels(self, x_hat: arrays.Array) -> arrays.Array:
        if x_hat.dtype == np.uint8:
            return x_hat
        return to_levels(x_hat, self._preprocessing.scale, self._preprocessing.offset)

    def _of_pictures(
        self, name: str, x_hat: arrays.Array, build: Callable[[tensor_pb2.Tensor], Message]
    ) -> bytes:
        form = self._known.get((name, len(x_hat)))
        if form is None:
            dtype = arrays.UINT8 if x_hat.dtype == np.uint8 else arrays.FLOAT32
            shape = (len(x_hat), *self._input_shape)
            form = self._known[name, len(x_hat)] = Form(
                lambda data: build(_tensor(dtype, shape, data)), (x_hat.nbytes,)
            )
        return form.fill(x_hat)

    def _decoded(self, x_hat: tensor_pb2.Tensor) -> Message:
        return pb.DecodeResponse(version=self._version, x_hat=x_hat)

    def _sample(self, x_hat: tensor_pb2.Tensor) -> Message:
        return pb.SampleResponse(version=self._version, latent_space_id=self._space, x_hat=x_hat)


def _tensor(
    dtype: tensor_pb2.DataType.ValueType, shape: Sequence[int], data: bytes
) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(dtype=dtype, shape=shape, data=data)
