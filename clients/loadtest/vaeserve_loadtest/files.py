"""Reports as JSON and CSV."""

import csv
import io
import json
from collections.abc import Sequence
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
