"""`make bench-sdk`: what the Python SDK costs over a raw stub call, for one small row.

The server is a process of its own. Raw calls, calls by hand and SDK calls take turns in short
rounds on one machine, so that whatever else it does falls on all; medians over the rounds are
shown. A raw call sends a ready message and leaves the answer unread; one by hand makes the message
of an array and arrays of the answer, which no caller can do without, and checks nothing. CPU is
that of the calling process, gRPC's threads included.
"""

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np

from bench.models import MODELS, repository_of
from support.servers import server_process
from vaeserve import AsyncClient, Client
from vaeserve.v1 import tensor_pb2, vae_service_pb2 as pb, vae_service_pb2_grpc as pb_grpc
from vaeserve.v1.arrays import FLOAT32

BAR_US = 60.0

_MODEL = MODELS["mlp"]
_RPCS = ("encode", "decode", "sample")
_X = np.random.default_rng(0).random((1, *_MODEL.row_shape), np.float32)
_Z = np.random.default_rng(1).standard_normal((1, _MODEL.latent)).astype(np.float32)


def _sdk_call(model: Any, rpc: str) -> Callable[[], Any]:
    """The same call by the SDK, of either kind."""
    return {
        "encode": lambda: model.encode(_X),
        "decode": lambda: model.decode(_Z),
        "sample": lambda: model.sample(1, seed=7),
    }[rpc]


def _request(rpc: str) -> Any:
    """The message of a call, made of the arrays."""
    if rpc == "sample":
        return pb.SampleRequest(model="mlp", n=1, seed=7)
    array = _X if rpc == "encode" else _Z
    tensor = tensor_pb2.Tensor(dtype=FLOAT32, shape=array.shape, data=array.tobytes())
    if rpc == "encode":
        outputs = [pb.ENCODE_OUTPUT_MU, pb.ENCODE_OUTPUT_LOG_VAR]
        return pb.EncodeRequest(model="mlp", input=tensor, outputs=outputs)
    return pb.DecodeRequest(model="mlp", latents=tensor)


def _read_by_hand(rpc: str, reply: Any) -> list[Any]:
    """The arrays of an answer."""
    tensors = (reply.mu, reply.log_var) if rpc == "encode" else (reply.x_hat,)
    return [np.frombuffer(each.data, np.float32).reshape(each.shape) for each in tensors]


Measured = tuple[float, float]
"""Microseconds of CPU and of wall time a call."""

Turn = tuple[Measured, Measured, Measured]
"""Raw, by hand, by the SDK."""


def _measured(calls: int, run: Callable[[], object]) -> Measured:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    spent = time.process_time() - cpu, time.perf_counter() - wall
    return spent[0] / calls * 1e6, spent[1] / calls * 1e6


def _blocking(address: str, rpc: str, rounds: int, calls: int) -> list[Turn]:
    request = _request(rpc)

    def repeat(call: Callable[[], Any]) -> Measured:
        return _measured(calls, lambda: [call() for _ in range(calls)])

    with grpc.insecure_channel(address) as channel, Client(address) as client:
        method = getattr(pb_grpc.VaeServiceStub(channel), rpc.capitalize())
        sdk = _sdk_call(client.model("mlp"), rpc)

        def raw() -> Any:
            return method(request, timeout=30)

        def by_hand() -> Any:
            return _read_by_hand(rpc, method(_request(rpc), timeout=30))

        turns = [(repeat(raw), repeat(by_hand), repeat(sdk)) for _ in range(rounds + 1)]
        return turns[1:]


async def _awaited(address: str, rpc: str, rounds: int, calls: int) -> list[Turn]:
    request = _request(rpc)

    async def repeat(call: Callable[[], Awaitable[Any]]) -> Measured:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            await call()
        spent = time.process_time() - cpu, time.perf_counter() - wall
        return spent[0] / calls * 1e6, spent[1] / calls * 1e6

    async with grpc.aio.insecure_channel(address) as channel, AsyncClient(address) as client:
        method = getattr(pb_grpc.VaeServiceStub(channel), rpc.capitalize())
        sdk = _sdk_call(client.model("mlp"), rpc)

        async def raw() -> Any:
            return await method(request, timeout=30)

        async def by_hand() -> Any:
            return _read_by_hand(rpc, await method(_request(rpc), timeout=30))

        turns = [
            (await repeat(raw), await repeat(by_hand), await repeat(sdk)) for _ in range(rounds + 1)
        ]
        return turns[1:]


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=15, help="Turns of each.")
@click.option("--calls", default=150, help="Calls of a turn.")
@click.option("--home", type=click.Path(path_type=Path), default=".bench", help="Models.")
def main(rounds: int, calls: int, home: Path) -> None:
    """Print CPU and wall time of raw and SDK calls; exit 1 if the SDK costs over 60 us of CPU."""
    gc.collect()
    gc.freeze()  # what made the model is not what is measured
    worst = 0.0
    click.echo(
        f"one row of {list(_MODEL.row_shape)}, {rounds} rounds of {calls} calls, medians, us"
    )
    click.echo("                 CPU a call                   wall time a call")
    click.echo(
        "client   rpc         raw by hand      sdk  over raw      raw by hand      sdk  over raw"
    )
    with server_process(repository_of(_MODEL, home)) as server:
        address = server.wait_for("ready")["address"]
        for kind in ("blocking", "asyncio"):
            for rpc in _RPCS:
                if kind == "blocking":
                    turns = _blocking(address, rpc, rounds, calls)
                else:
                    turns = asyncio.run(_awaited(address, rpc, rounds, calls))
                cells = []
                for unit in (0, 1):
                    cells += [
                        *(statistics.median(turn[way][unit] for turn in turns) for way in range(3)),
                        statistics.median(sdk[unit] - raw[unit] for raw, _, sdk in turns),
                    ]
                worst = max(worst, cells[3])
                figures = "".join(f"{cell:9.0f}" for cell in cells)
                click.echo(f"{kind:8} {rpc:6}{figures}")
    verdict = "met" if worst <= BAR_US else "missed"
    click.echo(f"largest overhead {worst:.0f} us of CPU, bar {BAR_US:.0f}: {verdict}")
    sys.exit(worst > BAR_US)


if __name__ == "__main__":
    main()
