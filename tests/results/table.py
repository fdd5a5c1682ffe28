"""The measured rows as Markdown."""

import shlex
from collections.abc import Sequence
from typing import Any

from results.rows import Row

_HEAD = (
    "| model | CPU minutes, epochs | -ELBO | -log p(x), K | KL | active units | bar | published |\n"
    "|---|---|---|---|---|---|---|---|"
)


def table(measured: Sequence[tuple[Row, dict[str, Any]]]) -> str:
    """The table, and below it what each row needs to be repeated.

    Args:
        measured: rows with their evaluation.json, summary.json and config.json.
    """
    lines = [_HEAD]
    lines += [_line(row, figures) for row, figures in measured]
    lines.append("")
    for row, figures in measured:
        lines += _commands(row, figures)
    return "\n".join(lines)


def _line(row: Row, figures: dict[str, Any]) -> str:
    summary, found = figures["summary"], figures["evaluation"]
    statistics, bound = found["statistics"], found["bounds"][-1]
    rows = "" if statistics["rows"] == 10_000 else f", {statistics['rows']} rows"
    minutes = summary["cpu_seconds"] / 60
    cells = (
        row.title,
        f"{minutes:.1f} of {row.budget}, {summary['epochs_run']}",
        f"{statistics['negative_elbo_nats']:.2f}",
        f"**{bound['nats']:.2f}** +- {bound['standard_error']:.2f}, {bound['samples']}{rows}",
        f"{statistics['kl_nats']:.1f}",
        f"{statistics['active_units']} of {len(statistics['kl_per_dimension'])}",
        _verdict(row, bound["nats"], minutes),
        row.published,
    )
    return f"| {' | '.join(cells)} |"


def _verdict(row: Row, nats: float, minutes: float) -> str:
    if row.bar is None:
        return "best reached"
    met = nats <= row.bar and minutes <= row.budget
    return f"<= {row.bar:g} in {row.budget} min: {'met' if met else 'MISSED'}"


def _commands(row: Row, figures: dict[str, Any]) -> list[str]:
    config, found = figures["config"], figures["evaluation"]
    digests = f"train `{config['data_sha256'][:16]}`, test `{found['data_sha256'][:16]}`"
    return [
        f"- **{row.name}**: `vaeserve train --data {row.data} {shlex.join(row.train)}`, "
        f"`vaeserve evaluate ... {shlex.join(row.evaluate)}`",
        f"  digests: {digests}; seed {config['settings']['seed']}; evaluation "
        f"{found['cpu_seconds'] / 60:.1f} CPU minutes; torch {config['versions']['torch']}",
    ]
