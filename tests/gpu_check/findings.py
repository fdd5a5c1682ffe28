"""What a run found: figures, some with a bar, sent as they arise and shown as one table."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.bars import Bar

Value = float | str


@dataclass(frozen=True)
class Finding:
    """One figure.

    Attributes:
        part: that found it.
        net: that it is of; "" for none.
        what: in words; with the net it is the figure's name.
        value: a number, or a text such as a version.
        unit: of the number.
        limit: bar of the number; None where there is none.
        at_least: whether the number must reach the bar, or must not exceed it.
    """

    part: str
    net: str
    what: str
    value: Value | None
    unit: str = ""
    limit: float | None = None
    at_least: bool = True

    @property
    def bar(self) -> Bar | None:
        """The bar with its verdict."""
        if self.limit is None:
            return None
        number = None if self.value is None else float(self.value)
        return Bar(f"{self.net} {self.what}, {self.unit}", self.limit, self.at_least, number)

    def __str__(self) -> str:
        shown = self.value if isinstance(self.value, str) else _number(self.value)
        return f"{self.net:<10} {self.what:<46} {shown} {self.unit}".rstrip()


class Notes:
    """Where a part writes down what it finds.

    Args:
        part: its name.
        send: takes each finding at once, so that one that is stopped keeps what it has found.
    """

    def __init__(self, part: str, send: Callable[[Finding], None]) -> None:
        self._part = part
        self._send = send

    def add(self, net: str, what: str, value: Value | None, unit: str = "") -> None:
        """A figure without a bar."""
        self._send(Finding(self._part, net, what, value, unit))

    def at_least(self, net: str, what: str, value: float | None, limit: float, unit: str) -> None:
        """A figure that must reach a bar."""
        self._send(Finding(self._part, net, what, value, unit, limit))

    def at_most(self, net: str, what: str, value: float | None, limit: float, unit: str) -> None:
        """A figure that must not exceed a bar."""
        self._send(Finding(self._part, net, what, value, unit, limit, at_least=False))


def value_of(findings: Iterable[Finding], net: str, what: str) -> float | None:
    """A number that an earlier part found; None if it did not."""
    for finding in findings:
        if (finding.net, finding.what) == (net, what) and isinstance(finding.value, float | int):
            return float(finding.value)
    return None


def missed(findings: Iterable[Finding]) -> list[Bar]:
    """Bars that were not met, or could not be measured."""
    bars = [finding.bar for finding in findings]
    return [bar for bar in bars if bar is not None and not bar.passed]


def table(findings: Sequence[Finding], failures: dict[str, str], *, bars_apply: bool) -> str:
    """Everything, part by part; then bars and failures."""
    lines = list[str]()
    for part in dict.fromkeys(finding.part for finding in findings):
        lines.append(f"-- {part}")
        lines += [f"   {finding}" for finding in findings if finding.part == part]
    bars = [finding.bar for finding in findings if finding.bar is not None]
    lines.append("-- bars" if bars_apply else "-- bars (not applied to this run)")
    lines += [f"   {bar}" for bar in bars]
    lines.append("-- failures")
    lines += [f"   {part}: {reason}" for part, reason in failures.items()] or ["   none"]
    return "\n".join(lines)


def to_json(findings: Sequence[Finding], failures: dict[str, str], run: dict[str, Any]) -> str:
    """One JSON object: how it was run, the findings in order with their verdicts, failures."""
    rows = [
        {**asdict(finding), "passed": finding.bar.passed if finding.bar else None}
        for finding in findings
    ]
    return json.dumps({**run, "findings": rows, "failures": failures}, indent=1) + "\n"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 and math.isfinite(value) else f"{value:.4g}"
