"""Load tester for a vaeserve server, which counts latency as its callers would.

from vaeserve_loadtest import Load, report_table, run

print(report_table(run(Load(address="127.0.0.1:50051", model="digits", rate=200.0))))
"""

from vaeserve_loadtest.cautions import Caution
from vaeserve_loadtest.figures import ErrorCount, Latency, PartReport, Second
from vaeserve_loadtest.find_max import Found, Slo, find_max
from vaeserve_loadtest.load import Load, Part
from vaeserve_loadtest.report import Report
from vaeserve_loadtest.runner import run
from vaeserve_loadtest.server_view import GraphView, ServerView
from vaeserve_loadtest.table import report_table
from vaeserve_loadtest.workers import WorkerDied

__all__ = [
    "Caution",
    "ErrorCount",
    "Found",
    "GraphView",
    "Latency",
    "Load",
    "Part",
    "PartReport",
    "Report",
    "Second",
    "ServerView",
    "Slo",
    "WorkerDied",
    "find_max",
    "report_table",
    "run",
]
