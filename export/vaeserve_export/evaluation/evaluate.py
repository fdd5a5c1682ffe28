"""`vaeserve evaluate`: every figure of a model on rows that it was not trained on."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vaeserve_export.data.dataset import Dataset, training_rows
from vaeserve_export.errors import NoSuchPart, RunError
from vaeserve_export.evaluation.likelihood import Bound, importance_bounds
from vaeserve_export.evaluation.posterior import (
    PAIR_ROWS,
    PosteriorStatistics,
    posterior_statistics,
)
from vaeserve_export.trained.of_bundle import ONNXRUNTIME_VERSION, BundleSubject
from vaeserve_export.trained.of_run import RunSubject
from vaeserve_export.trained.rows import load_rows, same_data
from vaeserve_export.trained.subject import Subject
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.provenance import versions

PARTS = ("test", "validation", "train")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured, and on what.

    Attributes:
        model: name of the run or bundle.
        data: source of the rows.
        data_sha256: digest of that part's rows, all of them and before pixels are drawn, in the
            values that the model takes.
        trained_on_sha256: digest of the data that the model was trained on; empty if unknown.
        part: "test", "validation" or "train".
        held_out: whether the rows are known to have taken no part in the training: a test part; or
            of the very data that the model was trained on, the source's own validation part or
            what a run set aside. False of the validation part that is drawn for a bundle: it does
            not tell its seed.
        binarised: whether the pixels were drawn, once, with the grey levels as probabilities.
        trained_binarised: whether the training drew them; None if unknown.
        seed: of pixels and noise.
        statistics: of the posteriors.
        bounds: of -log p(x) by importance sampling.
        cpu_seconds: processor time that it took.
        versions: of Python, PyTorch, ONNX Runtime where it ran the model, vaeserve, and the commit
            of the working folder.
    """

    model: str
    data: str
    data_sha256: str
    trained_on_sha256: str
    part: str
    held_out: bool
    binarised: bool
    trained_binarised: bool | None
    seed: int
    statistics: PosteriorStatistics
    bounds: tuple[Bound, ...]
    cpu_seconds: float
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined is None, since JSON knows no NaN."""
        values = dataclasses.asdict(self)
        for record in (values["statistics"], *values["bounds"]):
            undefined = [
                name
                for name, value in record.items()
                if isinstance(value, float) and math.isnan(value)
            ]
            record.update(dict.fromkeys(undefined))
        return values


class Part(NamedTuple):
    """Rows to measure on; see Evaluation.

    Attributes:
        rows: in the values that the model takes.
        name: "test", "validation" or "train".
        held_out: whether it is known that the model was not trained on them.
        same_data: whether it is known that they belong to the data that it was trained on.
    """

    rows: Dataset
    name: str
    held_out: bool
    same_data: bool


def rows_of(subject: Subject, spec: str, part: str | None, data_dir: Path | None) -> Part:
    """The rows to measure on.

    Args:
        subject: the model; a run's seed says which rows it was validated on, for a bundle that of a
            run with the default seed is taken.
        spec: source of data.
        part: one of PARTS; None for the test part, or validation where the source has none.
        data_dir: of named sets.

    Raises:
        DataError: no such part, or as of `load_rows`.
    """
    found = _test_part(subject, spec, part, data_dir)
    if found is None:
        train, validation = parts_of_training(subject, spec, data_dir)
        return train if part == "train" else validation
    return found


def parts_of_training(subject: Subject, spec: str, data_dir: Path | None) -> tuple[Part, Part]:
    """The rows that a model was trained on and those it was validated on; as of `rows_of`."""
    data = load_rows(subject, spec, data_dir=data_dir)
    seed = 0
    told = data.validation is not None
    if isinstance(subject, RunSubject):
        seed = run_folder.read_config(subject.origin.folder).settings.seed
        told = True
    train, validation = training_rows(data, seed)
    same = same_data(subject, data)
    return (
        Part(train, "train", held_out=False, same_data=same),
        Part(validation, "validation", held_out=told and same, same_data=same),
    )


def _test_part(subject: Subject, spec: str, part: str | None, data_dir: Path | None) -> Part | None:
    if part not in {None, "test"}:
        return None
    try:
        rows = load_rows(subject, spec, part="test", data_dir=data_dir)
    except NoSuchPart:
        if part:
            raise
        return None
    return Part(rows, "test", held_out=True, same_data=False)


def evaluate(
    subject: Subject,
    spec: str,
    *,
    part: str | None = None,
    data_dir: Path | None = None,
    rows: int | None = None,
    samples: int = 5000,
    seed: int = 0,
    binarise: bool = False,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> Evaluation:
    """Measure a model.

    Args:
        subject: the model.
        spec: source of data.
        part: see `rows_of`.
        data_dir: of named sets.
        rows: at most so many, the first of a part that is `mixed`, else drawn; None for all.
        samples: importance samples a row.
        seed: of pixels, noise and drawn rows.
        binarise: draw the pixels once with the grey levels as probabilities.
        progress: told how many rows' likelihoods are done, and of how many.

    Raises:
        DataError: as of `rows_of`.
        RunError: a binarised measurement of a model that is not Bernoulli.
    """
    began = time.process_time()
    if binarise and subject.likelihood.name != "bernoulli":
        raise RunError(f"{subject.origin.name}: is no Bernoulli model; leave --binarise out")
    chosen = rows_of(subject, spec, part, data_dir)
    whole = chosen.rows
    # Where some rows stand for all: the first so many, or the first pairs. A file may be sorted.
    some = len(whole.x) > min(rows or PAIR_ROWS, PAIR_ROWS)
    x = torch.from_numpy((whole.shuffled(seed) if some else whole).x[:rows])
    if binarise:
        x = torch.bernoulli(x, generator=torch.Generator().manual_seed(seed))
    statistics = posterior_statistics(subject, x, seed=seed)
    bounds = importance_bounds(
        subject, x, samples, seed=seed, progress=lambda done: progress(done, len(x))
    )
    return Evaluation(
        model=subject.origin.name,
        data=spec,
        data_sha256=chosen.rows.sha256,
        trained_on_sha256=subject.origin.data_sha256,
        part=chosen.name,
        held_out=chosen.held_out,
        binarised=binarise,
        trained_binarised=subject.origin.binarise,
        seed=seed,
        statistics=statistics,
        bounds=tuple(bounds),
        cpu_seconds=time.process_time() - began,
        versions=versions(Path.cwd()) | _engine(subject),
    )


def _engine(subject: Subject) -> dict[str, str]:
    return {"onnxruntime": ONNXRUNTIME_VERSION} if isinstance(subject, BundleSubject) else {}
