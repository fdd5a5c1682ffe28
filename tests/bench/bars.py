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
        floor: what a server without any feature reaches in the same run; None if unknown.
    """

    text: str
    limit: float
    at_least: bool
    value: float | None
    floor: float | None = None

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
        floor = "" if self.floor is None else f", floor {self.floor:.3g}"
        return f"{verdict:<13}{self.text}: {value} (bar {sign} {self.limit:g}{floor})"


def bars(results: Results) -> list[Bar]:
    """Every bar with what the run says about it."""

    def median(key: Key, server: str, column: str) -> float | None:
        found = results.median(key, server)
        return None if found is None else float(getattr(found, column))

    def share(key: Key, server: str, peer: str, column: str) -> float | None:
        own, other = median(key, server, column), median(key, peer, column)
        return None if own is None or other is None else own / other

    def beside_floor(
        text: str, limit: float, value: Callable[[str], float | None], *, at_least: bool = False
    ) -> Bar:
        return Bar(text, limit, at_least, value("vaeserve"), value("bare"))

    def cpu(text: str, limit: float, key: Key) -> Bar:
        return beside_floor(text, limit, lambda server: median(key, server, "cpu_us"))

    def cpu_share(text: str, limit: float, key: Key, peer: str) -> Bar:
        return beside_floor(text, limit, lambda server: share(key, server, peer, "cpu_us"))

    def rate_share(text: str, limit: float, key: Key, peer: str, column: str) -> Bar:
        return beside_floor(
            text, limit, lambda server: share(key, server, peer, column), at_least=True
        )

    def figure(text: str, limit: float, name: str) -> Bar:
        return Bar(
            text, limit, False, results.figures.get(name), results.figures.get(f"bare_{name}")
        )

    return [
        cpu("server CPU, MLP encode, 1 row, 8 streams, us", 60, _MLP_8),
        cpu("server CPU, MLP encode, 1 row, 64 streams, us", 40, _MLP_64),
        cpu_share("the first as a share of grpc.aio's", 0.35, _MLP_8, "aio"),
        cpu_share("the second as a share of grpc.aio's", 0.20, _MLP_64, "aio"),
        cpu_share("the first as a share of Triton's", 0.42, _MLP_8, "triton"),
        cpu_share("the second as a share of Triton's", 0.47, _MLP_64, "triton"),
        cpu_share(
            "server CPU, MLP encode, 16 rows, 8 streams, as a share of Triton's",
            0.75,
            _MLP_16_ROWS,
            "triton",
        ),
        figure("server CPU a one-row message of 8 streams, us", 30, "stream_message_us"),
        rate_share(
            "requests/s, MLP encode, 64 streams, as a multiple of grpc.aio's",
            5,
            _MLP_64,
            "aio",
            "requests_s",
        ),
        rate_share(
            "rows/s, conv encode, 64 streams, as a share of raw ONNX Runtime's",
            0.97,
            _CONV_64,
            "raw",
            "rows_s",
        ),
        *(
            figure(
                f"p99 as a multiple of p50 at 80 % of own capacity, {model}",
                5,
                f"{model}_open_loop_p99_of_p50",
            )
            for model in ("mlp", "conv")
        ),
        figure("p50 of one caller alone as a multiple of bare echo plus run", 1.3, "alone_ratio"),
        figure("median time of a refusal when full, ms", 1, "refusal_p50_ms"),
        figure("resident memory with the MLP loaded, MB", 150, "resident_mb"),
        figure("start to ready, s", 1.5, "start_to_ready_s"),
        figure("CPU of the idle server, % of a core", 1, "idle_cpu_percent"),
    ]
