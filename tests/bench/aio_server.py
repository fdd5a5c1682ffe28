"""Baseline (b): the server that most Python services are, a minimal grpc.aio one.

It batches as well as one event loop can: what has arrived by the time the loop comes round runs as
one batch, on the loop. No checks, limits, deadlines, metrics or health.
"""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench import arguments
from bench.cases import Floats, make_session
from vaeserve.v1 import tensor_pb2, vae_service_pb2

try:
    import uvloop  # type: ignore[import-not-found]
except ImportError:
    uvloop = None

_MOST_ROWS = 256


class Graph:
    """One graph and the rows that wait for it."""

    def __init__(self, file: Path, threads: int) -> None:
        self._session = make_session(file, threads)
        self._input = self._session.get_inputs()[0].name
        self._waiting: list[tuple[Floats, asyncio.Future[list[Floats]]]] = []

    async def run(self, rows: Floats) -> list[Floats]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Floats]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((rows, done))
        return await done

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        batch: list[tuple[Floats, asyncio.Future[list[Floats]]]] = []
        for item in waiting:
            if batch and sum(len(rows) for rows, _ in batch) + len(item[0]) > _MOST_ROWS:
                self._run(batch)
                batch = []
            batch.append(item)
        self._run(batch)

    def _run(self, batch: list[tuple[Floats, "asyncio.Future[list[Floats]]"]]) -> None:
        rows = np.concatenate([rows for rows, _ in batch]) if len(batch) > 1 else batch[0][0]
        outputs = self._session.run(None, {self._input: rows})
        first = 0
        for own, done in batch:
            last = first + len(own)
            if not done.done():
                done.set_result([output[first:last] for output in outputs])
            first = last


def _tensor(array: Floats) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=array.shape, data=array.tobytes()
    )


def _floats(tensor: Any) -> Floats:
    return np.frombuffer(tensor.data, np.float32).reshape(tuple(tensor.shape))


async def _serve(port: int, folder: Path, latent: int, threads: int) -> None:
    encoder = Graph(folder / "encoder.onnx", threads)
    decoder = Graph(folder / "decoder.onnx", threads)

    async def encode(request: vae_service_pb2.EncodeRequest, _: Any) -> Any:
        mu, log_var = await encoder.run(_floats(request.input))
        return vae_service_pb2.EncodeResponse(mu=_tensor(mu), log_var=_tensor(log_var))

    async def decode(request: vae_service_pb2.DecodeRequest, _: Any) -> Any:
        (x_hat,) = await decoder.run(_floats(request.latents))
        return vae_service_pb2.DecodeResponse(x_hat=_tensor(x_hat))

    async def sample(request: vae_service_pb2.SampleRequest, _: Any) -> Any:
        rng = np.random.default_rng(request.seed)
        (x_hat,) = await decoder.run(rng.standard_normal((request.n, latent), np.float32))
        return vae_service_pb2.SampleResponse(x_hat=_tensor(x_hat), seed=request.seed)

    def method(handler: Any, request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            handler, request.FromString, lambda reply: reply.SerializeToString()
        )

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handlers = {
        "Encode": method(encode, vae_service_pb2.EncodeRequest),
        "Decode": method(decode, vae_service_pb2.DecodeRequest),
        "Sample": method(sample, vae_service_pb2.SampleRequest),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("vaeserve.v1.VaeService", handlers),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    options = arguments.baseline()
    serving = _serve(options.port, options.folder, options.latent, options.threads)
    if uvloop is None:
        asyncio.run(serving)
    else:
        uvloop.run(serving)


if __name__ == "__main__":
    main()
