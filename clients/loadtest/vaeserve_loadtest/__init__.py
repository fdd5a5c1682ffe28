"""Load tester for a vaeserve server, which counts latency as its callers would.

from vaeserve_loadtest import Load, run

report = run(Load(address="127.0.0.1:50051", model="digits", rate=200.0))
print(report.to_table())
"""

from vaeserve_loadtest.load import Load
from vaeserve_loadtest.report import ErrorCount, Latency, Report
from vaeserve_loadtest.runner import run

__all__ = ["ErrorCount", "Latency", "Load", "Report", "run"]
