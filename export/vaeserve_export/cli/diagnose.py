"""The command `diagnose`."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaeserve_export.cli.command import FOLDER, Command
from vaeserve_export.cli.data_options import data_options

if TYPE_CHECKING:
    from vaeserve_export.evaluation.diagnosis import Diagnosis

FAULTY = 3  # 1 is an error, 2 a command line that is wrong


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("model", type=FOLDER)
@click.argument("other", type=FOLDER, required=False)
@click.option(
    "--out",
    default="diagnosis.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Page to write.",
)
@data_options(required=False)
@click.option("--binarise", is_flag=True, help="A bundle was trained on binarised pixels.")
@click.option("--threads", type=click.IntRange(1), default=1, help="PyTorch's threads.")
@click.option("--json", "as_json", is_flag=True, help="Print faults and figures as JSON.")
def diagnose(
    *,
    model: Path,
    other: Path | None,
    out: Path,
    spec: str | None,
    data_dir: Path | None,
    binarise: bool,
    threads: int,
    as_json: bool,
) -> None:
    """Name what is wrong with the run or bundle MODEL, and draw a page about it.

    With OTHER, of the same data, both stand side by side. A run knows its data; a bundle needs
    --data. The exit status is 0 if no fault is found, though a run that was still improving is
    remarked on, and 3 if a fault is named.
    """
    if not out.parent.is_dir():  # said now, and not when all is measured
        raise click.ClickException(f"{out}: cannot be written: {out.parent} is no folder")
    import torch

    from vaeserve_export.evaluation.diagnosis import diagnose as examine
    from vaeserve_export.evaluation.page.document import page
    from vaeserve_export.trained.open import open_subject

    torch.set_num_threads(threads)
    subjects = [open_subject(folder) for folder in (model, other) if folder]
    diagnoses = examine(subjects, spec=spec, data_dir=data_dir, binarise=binarise)
    try:
        out.write_text(page(diagnoses), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{out}: cannot be written: {error.strerror}") from error
    if as_json:
        results = [diagnosis.to_json() for diagnosis in diagnoses]
        click.echo(json.dumps({"page": str(out), "models": results}, indent=2))
    else:
        click.echo(_told(diagnoses))
        click.echo(f"page: {out}")
    if any(diagnosis.faults for diagnosis in diagnoses):
        sys.exit(FAULTY)


def _told(diagnoses: "list[Diagnosis]") -> str:
    from vaeserve_export.evaluation.comparison import claim, figures

    lines = []
    for diagnosis in diagnoses:
        name = diagnosis.subject.origin.name
        if remark := diagnosis.remark:
            lines.append(f"{name}: {remark.title} ({remark.name})")
            lines += [f"    {sentence}" for sentence in remark.evidence]
            lines.append(f"    Remedy: {remark.remedy}")
        elif not diagnosis.faults:
            lines.append(f"{name}: sound")
        for fault in diagnosis.faults:
            lines.append(f"{name}: {fault.title} ({fault.name})")
            lines += [f"    {sentence}" for sentence in fault.evidence]
            lines += [f"    Likely cause: {fault.cause}", f"    Remedy: {fault.remedy}"]
    lines.append("")
    if len(diagnoses) > 1:
        lines += [claim(diagnoses), ""]
    for row in figures(diagnoses):
        written = [row.written(number) for number in range(len(diagnoses))]
        lines.append(f"{row.name:28}{''.join(f'{text:>12}' for text in written)}  {row.about}")
    return "\n".join(lines)
