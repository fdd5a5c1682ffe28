"""Serialised replies of known shape, made by joining what never changes with the rows themselves.

Building a message costs more than running a small graph on it. Replies of one shape differ in their
array bytes alone, so each shape is serialised by protobuf once, and cut where the arrays were.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
from google.protobuf.message import Message

from vaeserve.v1 import arrays, tensor_pb2, vae_service_pb2 as pb
from vaeserve_server.call import Floats

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

    def __init__(
        self, version: int, space: str, input_shape: Sequence[int], latent_shape: Sequence[int]
    ) -> None:
        """Remember what every reply of the model holds.

        Args:
            version: of the model.
            space: latent space id.
            input_shape: shape of one input row.
            latent_shape: shape of one latent row.
        """
        self._version = version
        self._space = space
        self._input_shape = tuple(input_shape)
        self._latent_shape = tuple(latent_shape)
        self._posteriors: dict[int, Form] = {}
        self._decoded: dict[tuple[int, bool], Form] = {}
        self._samples: dict[tuple[int, bool], Form] = {}

    def posterior(self, mu: Floats, log_var: Floats) -> bytes:
        """EncodeResponse with mu and log_var."""
        rows = len(mu)
        form = self._posteriors.get(rows)
        if form is None:
            shape = (rows, *self._latent_shape)

            def build(mu_data: bytes, log_var_data: bytes) -> Message:
                return pb.EncodeResponse(
                    version=self._version,
                    latent_space_id=self._space,
                    mu=_tensor(arrays.FLOAT32, shape, mu_data),
                    log_var=_tensor(arrays.FLOAT32, shape, log_var_data),
                )

            form = self._posteriors[rows] = Form(build, (mu.nbytes, log_var.nbytes))
        return form.fill(mu, log_var)

    def decoded(self, x_hat: arrays.Array) -> bytes:
        """DecodeResponse."""
        key = (len(x_hat), x_hat.dtype == np.uint8)
        form = self._decoded.get(key)
        if form is None:
            form = self._decoded[key] = Form(
                lambda data: pb.DecodeResponse(
                    version=self._version, x_hat=self._picture(x_hat, data)
                ),
                (x_hat.nbytes,),
            )
        return form.fill(x_hat)

    def sample(self, x_hat: arrays.Array, seed: int) -> bytes:
        """SampleResponse with x_hat."""
        key = (len(x_hat), x_hat.dtype == np.uint8)
        form = self._samples.get(key)
        if form is None:
            form = self._samples[key] = Form(
                lambda data: pb.SampleResponse(
                    version=self._version,
                    latent_space_id=self._space,
                    x_hat=self._picture(x_hat, data),
                ),
                (x_hat.nbytes,),
            )
        # One serialised message behind another is their merger.
        return form.fill(x_hat) + pb.SampleResponse(seed=seed).SerializeToString()

    def _picture(self, x_hat: arrays.Array, data: bytes) -> tensor_pb2.Tensor:
        dtype = arrays.UINT8 if x_hat.dtype == np.uint8 else arrays.FLOAT32
        return _tensor(dtype, (len(x_hat), *self._input_shape), data)


def _tensor(
    dtype: tensor_pb2.DataType.ValueType, shape: Sequence[int], data: bytes
) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(dtype=dtype, shape=shape, data=data)
