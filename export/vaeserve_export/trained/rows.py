"""Rows of a source as a model takes them, and what is known of them."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from vaeserve_export.data.dataset import Dataset, load
from vaeserve_export.errors import DataError
from vaeserve_export.trained.subject import Subject


def load_rows(
    subject: Subject,
    spec: str,
    *,
    part: Literal["train", "test"] = "train",
    data_dir: Path | None = None,
) -> Dataset:
    """Load a part of a source, in the values that a model takes.

    Columns of a table are standardised as they were for its training. Sources give pictures in
    [0, 1], as runs are trained on them. Where a bundle of other modules states how a level becomes
    a value of its own, pictures are given to it as the service would: level * scale + offset.

    Args:
        subject: the model.
        spec: source of data.
        part: see `dataset.load`.
        data_dir: of named sets.

    Raises:
        NoSuchPart: a source without that part.
        DataError: as of `dataset.load`, rows of another shape than the model's, or values that its
            likelihood does not allow.
    """
    data = load(spec, part=part, data_dir=data_dir, columns=subject.origin.columns)
    if data.row_shape != subject.input_shape:
        raise DataError(
            f"{spec}: rows are {list(data.row_shape)}, those of {subject.origin.name} "
            f"{list(subject.input_shape)}"
        )
    rows = _as_served(data, subject.origin.preprocessing)
    _require_range(subject, rows)
    return rows


def same_data(subject: Subject, data: Dataset) -> bool:
    """Whether this is known to be what the model was trained on, by the digests."""
    return data.sha256 == subject.origin.data_sha256


def _as_served(data: Dataset, preprocessing: tuple[float, float] | None) -> Dataset:
    """Pictures of a source in a model's own values; any other rows as they are."""
    if preprocessing is None or data.level is None or preprocessing == (data.level, 0.0):
        return data
    scale, offset = preprocessing
    white = scale / data.level + offset
    return dataclasses.replace(
        data,
        x=data.x * np.float32(white - offset) + np.float32(offset),
        level=scale,
        black=offset,
        white=white,
        validation=data.validation and _as_served(data.validation, preprocessing),
    )


def _require_range(subject: Subject, data: Dataset) -> None:
    if subject.likelihood.name == "gaussian":
        return
    for part in filter(None, (data, data.validation)):
        if not 0 <= part.x.min() <= part.x.max() <= 1:
            raise DataError(
                f"{part.name}: values are {part.x.min():g} to {part.x.max():g}; "
                f"{subject.origin.name} takes [0, 1]{_because(subject)}"
            )


def _because(subject: Subject) -> str:
    if subject.origin.preprocessing is None:
        return ""
    scale, offset = subject.origin.preprocessing
    return f", and reads a level as level * {scale:g} + {offset:g}"
