"""Reports as JSON and CSV, and how they become files."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaeserve_loadtest.find_max import Found
from vaeserve_loadtest.report import Report

_COLUMNS = (
    *("mix", "concurrency", "rate", "requests", "succeeded", "failed", "dropped"),
    *("requests_per_second", "rows_per_second", "mean_ms", "p50_ms", "p90_ms", "p99_ms"),
    *("p99_9_ms", "max_ms", "cpu_share"),
)


def to_json(reports: Sequence[Report], found: Found | None = None) -> dict[str, Any]:
    """One object for every kind of measurement: its runs, and what a search found in them."""
    whole: dict[str, Any] = {"runs": [report.to_json() for report in reports]}
    if found is not None:
        whole["find_max"] = {
            "slo": str(found.slo),
            "rate": found.rate,
            "failed_at": found.failed_at,
            "gave_up": found.gave_up,
            "confidence": found.confidence,
            "caveat": found.caveat,
            "slow": found.slow,
            "requests": found.requests,
        }
    return whole


def json_text(whole: dict[str, Any]) -> str:
    """As it is written."""
    return json.dumps(whole, indent=2)


def to_csv(reports: Sequence[Report]) -> str:
    """A heading and a line a run."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for report in reports:
        latency = report.latency
        figures = [getattr(latency, name, "") for name in ("mean", "p50", "p90", "p99")]
        table.writerow(
            [
                " ".join(f"{part.label}:{part.share:g}" for part in report.load.mix),
                report.load.concurrency,
                report.load.rate,
                *(report.requests, report.succeeded, report.failed, report.dropped),
                *(report.requests_per_second, report.rows_per_second),
                *figures,
                *(getattr(latency, name, "") for name in ("p99_9", "max")),
                report.cpu_share,
            ]
        )
    return text.getvalue()


def write_all(*files: tuple[Path | None, Callable[[], str]]) -> list[str]:
    """Write files as far as it goes: a full disk under one keeps nothing from the others.

    Args:
        files: where to write, if anywhere, and what makes the text.

    Returns:
        What could not be written, and why.
    """
    failures = []
    for path, text in files:
        if path is not None:
            try:
                path.write_text(text(), encoding="utf-8")
            except OSError as error:
                failures.append(f"{path} cannot be written: {error.strerror}")
    return failures
