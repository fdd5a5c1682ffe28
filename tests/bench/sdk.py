"""`make bench-sdk`: what the Python SDK costs over a raw stub call, for one small row.

The server is a process of its own. Raw and SDK calls take turns in short rounds on one machine, so
that whatever else it does falls on both; medians over the rounds are shown. CPU is that of the
calling process, gRPC's threads included.
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
from vaeserve.v1 import vae_service_pb2 as pb, vae_service_pb2_grpc as pb_grpc
from vaeserve.v1.arrays import to_tensor

BAR_US = 60.0

_MODEL = MODELS["mlp"]
_RPCS = ("encode", "decode", "sample")
_X = np.random.default_rng(0).random((1, *_MODEL.row_shape), np.float32)
_Z = np.random.default_rng(1).standard_normal((1, _MODEL.latent)).astype(np.float32)


def _raw_request(rpc: str) -> tuple[str, Any]:
    outputs = [pb.ENCODE_OUTPUT_MU, pb.ENCODE_OUTPUT_LOG_VAR]
    return {
        "encode": ("Encode", pb.EncodeRequest(model="mlp", input=to_tensor(_X), outputs=outputs)),
        "decode": ("Decode", pb.DecodeRequest(model="mlp", latents=to_tensor(_Z))),
        "sample": ("Sample", pb.SampleRequest(model="mlp", n=1, seed=7)),
    }[rpc]


def _sdk_call(model: Any, rpc: str) -> Callable[[], Any]:
    """The same call by the SDK, of either kind."""
    return {
        "encode": lambda: model.encode(_X),
        "decode": lambda: model.decode(_Z),
        "sample": lambda: model.sample(1, seed=7),
    }[rpc]


Measured = tuple[float, float]
"""Microseconds of CPU and of wall time a call."""


def _measured(calls: int, run: Callable[[], object]) -> Measured:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    spent = time.process_time() - cpu, time.perf_counter() - wall
    return spent[0] / calls * 1e6, spent[1] / calls * 1e6


def _blocking(address: str, rpc: str, rounds: int, calls: int) -> list[tuple[Measured, Measured]]:
    name, request = _raw_request(rpc)

    def repeat(call: Callable[[], Any]) -> Measured:
        return _measured(calls, lambda: [call() for _ in range(calls)])

    with grpc.insecure_channel(address) as channel, Client(address) as client:
        method = getattr(pb_grpc.VaeServiceStub(channel), name)
        pair = (lambda: method(request, timeout=30)), _sdk_call(client.model("mlp"), rpc)
        repeat(pair[0]), repeat(pair[1])
        return [(repeat(pair[0]), repeat(pair[1])) for _ in range(rounds)]


async def _awaited(
    address: str, rpc: str, rounds: int, calls: int
) -> list[tuple[Measured, Measured]]:
    name, request = _raw_request(rpc)

    async def repeat(call: Callable[[], Awaitable[Any]]) -> Measured:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            await call()
        spent = time.process_time() - cpu, time.perf_counter() - wall
        return spent[0] / calls * 1e6, spent[1] / calls * 1e6

    async with grpc.aio.insecure_channel(address) as channel, AsyncClient(address) as client:
        method = getattr(pb_grpc.VaeServiceStub(channel), name)
        pair = (lambda: method(request, timeout=30)), _sdk_call(client.model("mlp"), rpc)
        await repeat(pair[0])
        await repeat(pair[1])
        return [(await repeat(pair[0]), await repeat(pair[1])) for _ in range(rounds)]


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
    click.echo("client   rpc     raw cpu  sdk cpu  overhead   raw wall  sdk wall  overhead")
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
                        statistics.median(raw[unit] for raw, _ in turns),
                        statistics.median(sdk[unit] for _, sdk in turns),
                        statistics.median(sdk[unit] - raw[unit] for raw, sdk in turns),
                    ]
                worst = max(worst, cells[2])
                figures = "".join(f"{cell:9.0f}" for cell in cells)
                click.echo(f"{kind:8} {rpc:6}{figures}")
    verdict = "met" if worst <= BAR_US else "missed"
    click.echo(f"largest overhead {worst:.0f} us of CPU, bar {BAR_US:.0f}: {verdict}")
    sys.exit(worst > BAR_US)


if __name__ == "__main__":
    main()
