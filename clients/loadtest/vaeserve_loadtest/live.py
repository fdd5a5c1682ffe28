"""How a run shows its progress: one line that moves on a terminal, nothing elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from vaeserve_loadtest.loop import Progress
from vaeserve_loadtest.tally import Snapshot

_BAR = 24


@contextmanager
def shown(title: str) -> Iterator[Progress]:
    """Show a run on stderr: how far it is, and the latencies of the last moment.

    Args:
        title: what is running.

    Yields:
        What is to be told the progress.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    try:
        yield lambda snapshot: click.echo(f"\r{_line(title, snapshot)}\x1b[K", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


def _line(title: str, snapshot: Snapshot) -> str:
    done = round(_BAR * snapshot.share)
    recent = snapshot.recent
    figures = "no answers yet"
    if recent.count:
        p50, p99 = recent.percentile_ms(50), recent.percentile_ms(99)
        figures = f"p50 {p50:.2f}  p99 {p99:.2f}  max {1e3 * recent.max_s:.2f} ms"
    failed = f"  {snapshot.failed} failed" if snapshot.failed else ""
    return f"{title}  [{'#' * done}{'-' * (_BAR - done)}]  {figures}{failed}"
