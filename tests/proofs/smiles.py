"""`make prove-smiles`: an edit along `smile`, judged by a classifier, beside three other changes.

Of the validation faces, none of which anything was learned from, those that do not smile are given
+k, those that smile -k, and a classifier says how many then smile. Beside it stand the plain
reconstruction (k = 0), a random direction of equal length, and the mean pixel difference between
smiling and other faces, added with the weight that changes pictures by as much: the mean absolute
change of a pixel, all values clipped to [0, 1]. Figures only: no picture leaves this program.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from proofs import classifier, faces
from proofs.classifier import Judge
from proofs.faces import Faces
from proofs.models import trained
from proofs.report import Report
from vaeserve.v1.noise import Floats
from vaeserve_export.latent.attribute import fit_attribute
from vaeserve_export.latent.posterior import encode
from vaeserve_export.trained.subject import Subject

_AMOUNTS = (1.0, 2.0)
_RANDOM_DIRECTIONS = 3
_HALVINGS = 16  # of the interval in which the weight of the pixel difference is sought


class Side(NamedTuple):
    """Faces of one kind and what is to become of them: +1 gives a smile, -1 takes it."""

    mu: Floats
    plain: Tensor
    sign: int


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default="../shared/data")
@click.option("--out", type=click.Path(path_type=Path), default=".proofs")
def main(data_dir: Path, out: Path) -> None:
    """Prove the smile edit."""
    out.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    report = Report()
    learned, apart = faces.load(data_dir / "smiles" / "smiles-train.npz")
    subject = trained(out / "runs" / "smiles", faces.SETTINGS, learned.dataset)
    prove(report, subject, learned, apart)
    report.add("CPU seconds", time.process_time())
    sys.exit(report.finish(out / "smiles.json"))


def prove(report: Report, subject: Subject, learned: Faces, apart: Faces) -> None:
    report.heading(f"{len(learned.x)} faces to learn from, {len(apart.x)} to judge by")
    judge = classifier.train(learned.x, learned.smiles)
    mu = encode(subject, apart.x).mu
    plain = _decode(subject, mu)
    for what, pictures in (("photographs", torch.from_numpy(apart.x)), ("reconstructions", plain)):
        report.add(
            f"classifier's AUC on {what}", roc_auc_score(apart.smiles, judge.logits(pictures))
        )
    smiling = apart.smiles == 1
    gives = Side(mu[~smiling], plain[~smiling], 1)
    takes = Side(mu[smiling], plain[smiling], -1)
    pixels = torch.from_numpy(
        learned.x[learned.smiles == 1].mean(0) - learned.x[learned.smiles == 0].mean(0)
    )
    fit = fit_attribute(subject, learned.x, learned.smiles, name="smile")
    report.add(f"held-out AUC of the direction ({fit.entry.method})", fit.entry.auc)
    for side, what in ((gives, "do not smile"), (takes, "smile")):
        report.heading(f"Faces that {what}: share called smiling after")
        report.add("k = 0, the plain reconstruction", judge.share(side.plain))
        for amount in _AMOUNTS:
            _compare(report, judge, subject, side, amount, fit.direction, pixels)


def _compare(
    report: Report,
    judge: Judge,
    subject: Subject,
    side: Side,
    amount: float,
    direction: Floats,
    pixels: Tensor,
) -> None:
    signed = f"{side.sign * amount:+g}"
    before = judge.share(side.plain)
    edited = _decode(subject, side.mu + np.float32(side.sign * amount) * direction)
    change = _change(edited, side.plain)
    added = _of_change(change, side.plain, lambda weight: side.plain + side.sign * weight * pixels)
    share, share_added = judge.share(edited), judge.share(added)
    share_random, change_random = _random(
        judge, subject, side, amount * float(np.linalg.norm(direction))
    )
    report.add(f"{signed}: mean change of a pixel", change)
    better = side.sign * (share - share_added) > 0
    wanted = f"{'above' if side.sign > 0 else 'below'} the pixel difference's"
    report.require("smile", f"{signed}: edit", share, wanted=wanted, passed=better)
    report.add(f"{signed}: pixel difference, equal change", share_added)
    report.add(f"{signed}: random directions, equal length", share_random)
    report.add(f"{signed}: their mean change of a pixel", change_random)
    if amount == _AMOUNTS[-1]:
        moved = side.sign * (share - before)
        report.require(
            "smile",
            f"{signed}: share that the edit moved",
            moved,
            wanted=">= 0.4",
            passed=moved >= 0.4,
        )


def _random(judge: Judge, subject: Subject, side: Side, length: float) -> tuple[float, float]:
    """Share called smiling and mean change, over random directions of that length."""
    rng = np.random.default_rng(0)
    shares, changes = [], []
    for _ in range(_RANDOM_DIRECTIONS):
        direction = rng.standard_normal(side.mu.shape[1])
        step = (direction * (length / np.linalg.norm(direction))).astype(np.float32)
        moved = _decode(subject, side.mu + step)
        shares.append(judge.share(moved))
        changes.append(_change(moved, side.plain))
    return float(np.mean(shares)), float(np.mean(changes))


def _of_change(change: float, plain: Tensor, made: Callable[[float], Tensor]) -> Tensor:
    """The pictures made with the weight that changes them by so much."""
    low, high = 0.0, 8.0
    for _ in range(_HALVINGS):
        weight = (low + high) / 2
        if _change(made(weight).clamp(0, 1), plain) < change:
            low = weight
        else:
            high = weight
    return made(high).clamp(0, 1)  # rather more than the edit's change than less


def _change(x: Tensor, plain: Tensor) -> float:
    return float((x - plain).abs().mean())


def _decode(subject: Subject, z: Floats) -> Tensor:
    rows = torch.split(torch.from_numpy(z.astype(np.float32)), 256)
    return torch.cat([subject.decode(part) for part in rows]).clamp(0, 1)


if __name__ == "__main__":
    main()
