"""Tables: for the terminal, and in Markdown for docs/performance.md."""

from collections.abc import Iterator

from bench.bars import bars
from bench.measuring import Measurement
from bench.results import Key, Results, machine

_PEERS = ("raw", "aio", "pool", "bare", "triton")
_HEAD = ("server", "requests/s", "rows/s", "p50 ms", "p99 ms", "CPU us")


def lines_of(results: Results, key: Key) -> Iterator[str]:
    """The terminal's table of one key, a line a server; ratios are CPU, then requests/s."""
    yield f"{title(key)}"
    yield f"  {_HEAD[0]:<10}" + "".join(f"{name:>11}" for name in _HEAD[1:])
    own = results.median(key, "vaeserve")
    for server in results.runs[key]:
        found = results.median(key, server)
        assert found is not None
        ratio = ""
        if own is not None and server != "vaeserve":
            ratio = (
                f"  vaeserve: {own.cpu_us / found.cpu_us:.2f}x CPU, "
                f"{own.requests_s / found.requests_s:.2f}x requests/s"
            )
        yield f"  {server:<10}" + "".join(f"{cell:>11}" for cell in _cells(found)) + ratio


def title(key: Key) -> str:
    """A key in words."""
    rows = "1 row" if key.rows == 1 else f"{key.rows} rows"
    streams = "1 stream" if key.streams == 1 else f"{key.streams} streams"
    return f"{key.model} {key.rpc}, {rows}, {streams}"


def verdicts(results: Results) -> Iterator[str]:
    """Single figures, then each bar."""
    for name, value in results.figures.items():
        yield f"{name:<32} {value:.4g}"
    for bar in bars(results):
        yield str(bar)
    for problem in results.problems:
        yield f"not measured: {problem}"


def to_markdown(results: Results, command: str) -> str:
    """One table of medians with ratios, one of bars."""
    where = ", ".join(f"{name} {value}" for name, value in machine().items())
    head = ("case", *_HEAD, *(f"CPU / {peer}" for peer in _PEERS))
    lines = [f"`{command}`", "", where, "", _row(head), _row(["---"] * len(head))]
    for key, server, found in results.medians():
        ratios = [_ratio(results, key, peer) if server == "vaeserve" else "" for peer in _PEERS]
        lines.append(_row([title(key), server, *_cells(found), *ratios]))
    lines += ["", _row(["figure", "value"]), _row(["---"] * 2)]
    lines += [_row([name, f"{value:.4g}"]) for name, value in results.figures.items()]
    lines += ["", _row(["bar", "limit", "value", "floor", ""]), _row(["---"] * 5)]
    for bar in bars(results):
        sign = ">=" if bar.at_least else "<="
        value, floor = ("-" if each is None else f"{each:.3g}" for each in (bar.value, bar.floor))
        verdict = {True: "pass", False: "**fail**", None: "not measured"}[bar.passed]
        lines.append(_row([bar.text, f"{sign} {bar.limit:g}", value, floor, verdict]))
    return "\n".join(lines) + "\n"


def _cells(found: Measurement) -> tuple[str, ...]:
    return (
        f"{found.requests_s:.0f}",
        f"{found.rows_s:.0f}",
        f"{found.p50_ms:.3g}",
        f"{found.p99_ms:.3g}",
        f"{found.cpu_us:.1f}",
    )


def _ratio(results: Results, key: Key, peer: str) -> str:
    own, other = results.median(key, "vaeserve"), results.median(key, peer)
    return "" if own is None or other is None else f"{own.cpu_us / other.cpu_us:.2f}"


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |"
