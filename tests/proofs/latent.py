"""`make prove-latent`: the bars L3, L4, L5 and L6 of the latent toolkit on real data."""

import sys
import time
from pathlib import Path

import click

from proofs import anomalies, planted, priors
from proofs.report import Report


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default="../shared/data")
@click.option("--out", type=click.Path(path_type=Path), default=".proofs")
def main(data_dir: Path, out: Path) -> None:
    """Prove the latent toolkit's bars."""
    out.mkdir(exist_ok=True)
    report = Report()
    for proof in (planted, priors, anomalies):
        proof.prove(report, data_dir, out / "runs")
    click.echo(f"\n{time.process_time():.0f} CPU seconds")
    sys.exit(report.finish(out / "latent.json"))


if __name__ == "__main__":
    main()
