"""The bars that the service must clear, each against one run's figures."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import Key, Results

_MLP_8 = Key("mlp", "encode", 1, 8)
_MLP_64 = Key("mlp", "encode", 1, 64)
_MLP_16_ROWS = Key("mlp", "encode", 16, 8)
_CONV_64 = Key("conv", "encode", 1, 64)


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        text: what is measured, with its unit.
        limit: the bar.
        at_least: whether the value must reach the limit, or must not exceed it.
        value: what was measured; None if it was not.
    """

    text: str
    limit: float
    at_least: bool
    value: float | None

    @property
    def passed(self) -> bool | None:
        """None if it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: "not measured"}[self.passed]
        sign = ">=" if self.at_least else "<="
        value = "-" if self.value is None else f"{self.value:.3g}"
        return f"{verdict:<13}{self.text}: {value} (bar {sign} {self.limit:g})"


def bars(results: Results) -> list[Bar]:
    """Every bar with what the run says about it."""

    def cpu(key: Key) -> float | None:
        found = results.median(key, "vaeserve")
        return None if found is None else found.cpu_us

    def ratio(key: Key, peer: str, column: str) -> float | None:
        own, other = results.median(key, "vaeserve"), results.median(key, peer)
        if own is None or other is None:
            return None
        return float(getattr(own, column) / getattr(other, column))

    at_most: Callable[[str, float, float | None], Bar]
    at_most = lambda text, limit, value: Bar(text, limit, False, value)  # noqa: E731
    figure = results.figures.get
    return [
        at_most("server CPU, MLP encode, 1 row, 8 streams, us", 60, cpu(_MLP_8)),
        at_most("server CPU, MLP encode, 1 row, 64 streams, us", 40, cpu(_MLP_64)),
        at_most("the first as a share of grpc.aio's", 0.35, ratio(_MLP_8, "aio", "cpu_us")),
        at_most("the second as a share of grpc.aio's", 0.20, ratio(_MLP_64, "aio", "cpu_us")),
        at_most("the first as a share of Triton's", 0.42, ratio(_MLP_8, "triton", "cpu_us")),
        at_most("the second as a share of Triton's", 0.47, ratio(_MLP_64, "triton", "cpu_us")),
        at_most(
            "server CPU, MLP encode, 16 rows, 8 streams, as a share of Triton's",
            0.75,
            ratio(_MLP_16_ROWS, "triton", "cpu_us"),
        ),
        at_most("server CPU a one-row message of 8 streams, us", 30, figure("stream_message_us")),
        Bar(
            "requests/s, MLP encode, 64 streams, as a multiple of grpc.aio's",
            5,
            True,
            ratio(_MLP_64, "aio", "requests_s"),
        ),
        Bar(
            "rows/s, conv encode, 64 streams, as a share of raw ONNX Runtime's",
            0.97,
            True,
            ratio(_CONV_64, "raw", "rows_s"),
        ),
        *(
            at_most(
                f"p99 as a multiple of p50 at 80 % of own capacity, {model}",
                5,
                figure(f"{model}_open_loop_p99_of_p50"),
            )
            for model in ("mlp", "conv")
        ),
        at_most(
            "p50 of one caller alone as a multiple of bare echo plus run",
            1.3,
            figure("alone_ratio"),
        ),
        at_most("median time of a refusal when full, ms", 1, figure("refusal_p50_ms")),
        at_most("resident memory with the MLP loaded, MB", 150, figure("resident_mb")),
        at_most("start to ready, s", 1.5, figure("start_to_ready_s")),
        at_most("CPU of the idle server, % of a core", 1, figure("idle_cpu_percent")),
    ]
