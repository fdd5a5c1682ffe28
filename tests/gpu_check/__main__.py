"""`make gpu-check`: everything about serving on CUDA, checked and measured within nine minutes."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import click

from gpu_check import bundles, findings, machine, nets, noise, numerics, service, speed
from gpu_check.findings import Finding, Notes
from gpu_check.parts import DEFAULT_TOTAL_S, Part, Setting, run_parts

_TESTS = Path(__file__).parents[1] / "gpu"


def parts_of(*, quick: bool) -> list[Part]:
    """The parts in their order; the last gets what the others leave."""
    if quick:
        measured = noisy = checked = [nets.TINY]
        soaked = nets.TINY
    else:
        measured = [nets.CONV64, nets.CONV256, nets.SD512]
        noisy = [nets.MLP, nets.CONV64, nets.SD512]
        checked, soaked = [nets.CONV64, nets.SD512], nets.CONV64
    made = list(dict.fromkeys([*noisy, *measured]))
    large = nets.SD512
    parts = [
        Part("environment", machine.environment, 15),
        Part("bundles", partial(bundles.make_missing, made), 80),
        Part("tests", run_tests, 60),
        Part("numerics", partial(numerics.measure, checked), 25),
        *(
            Part(f"speed {net.name}", partial(speed.measure, net), 60 if net is large else 30)
            for net in measured
        ),
        *(
            Part(f"service {net.name}", partial(service.measure, net), 60 if net is large else 45)
            for net in measured
        ),
        Part("workers", partial(service.workers, soaked), 25),
        Part("noise", partial(noise.measure, noisy), 15),
        Part("memory", partial(service.soak, soaked), 20),
    ]
    return (
        parts
        if quick
        else [*parts, Part("compile", partial(speed.measure_compiled, measured), 120)]
    )


def run_tests(setting: Setting, known: Sequence[Finding], notes: Notes) -> None:
    """The part: pytest on tests/gpu; on a CPU they are all skipped.

    Raises:
        RuntimeError: pytest could not run them.
    """
    del known
    setting.home.mkdir(parents=True, exist_ok=True)
    report, log = setting.home / "tests.xml", setting.home / "tests.log"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", str(_TESTS), "-m", "gpu", "-q"]
    with log.open("w") as sink:
        subprocess.run(
            [*command, f"--junitxml={report}"],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=os.environ | {"VAESERVE_GPU_DEVICE": setting.device},
            check=False,
        )
    if not report.exists():
        raise RuntimeError(f"pytest did not get to its report: see {log}")
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314  our own
    assert suite is not None
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    notes.add("", "tests", int(suite.attrib["tests"]))
    notes.at_most("", "tests that failed", failed, 0, "")
    notes.at_most("", "tests that were skipped", int(suite.attrib["skipped"]), 0, "")
    for case in suite.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            notes.add("", "failed", case.attrib["name"])


@click.command(context_settings={"show_default": True})
@click.option("--device", default="cuda", help="cpu, cuda or cuda:N.")
@click.option("--quick", is_flag=True, help="Tiny nets, moments each; bars are not applied.")
@click.option("--only", help="Some parts, by name, comma-separated.")
@click.option("--skip", default="", help="All parts but these.")
@click.option("--seconds", type=float, help="About how long a figure takes; 1, quick 0.1.")
@click.option("--total", default=DEFAULT_TOTAL_S, help="Seconds for the whole run.")
@click.option("--home", type=click.Path(path_type=Path), default=".gpu-check", help="Logs.")
@click.option("--bundles", "folder", type=click.Path(path_type=Path), help="Default HOME/bundles.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON; default HOME/DEVICE.json.")
def main(
    *,
    device: str,
    quick: bool,
    only: str | None,
    skip: str,
    seconds: float | None,
    total: float,
    home: Path,
    folder: Path | None,
    out: Path | None,
) -> None:
    """Print what is found as it is found, a table last; exit with 1 if a bar or part fails."""
    # So that CUDA counts devices as nvidia-smi does.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    parts = parts_of(quick=quick)
    names = [part.name for part in parts]
    asked, left_out = only.split(",") if only else names, skip.split(",") if skip else []
    if unknown := {*asked, *left_out} - {*names}:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    chosen = [part for part in parts if part.name in asked and part.name not in left_out]
    home = home.absolute()
    setting = Setting(
        device=device,
        quick=quick,
        home=home,
        bundles=(folder or home / "bundles").absolute(),
        seconds=seconds or (0.1 if quick else 1.0),
    )
    began = time.monotonic()
    found, failures = run_parts(chosen, setting, total_s=total, progress=click.echo)
    took = time.monotonic() - began
    click.echo(findings.table(found, failures, bars_apply=not quick))
    name = next((str(one.value) for one in found if one.what == "device name"), device)
    out = out or home / f"{name.lower().replace(' ', '-').replace('/', '-')}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "-m", "gpu_check", *sys.argv[1:]])
    out.write_text(
        findings.to_json(found, failures, {"command": command, "device": device, "seconds": took})
    )
    missed = [] if quick else findings.missed(found)
    click.echo(f"{took:.0f} s; {len(missed)} bars missed, {len(failures)} parts failed; {out}")
    sys.exit(bool(missed or failures))


if __name__ == "__main__":
    main()
