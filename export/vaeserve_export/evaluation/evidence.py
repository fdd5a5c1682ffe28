"""What is measured on a model before anything is said about it."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import DataError
from vaeserve_export.evaluation import evaluate
from vaeserve_export.evaluation.loss_scale import KlWeight, kl_weight, worthwhile_weight
from vaeserve_export.evaluation.posterior import (
    PosteriorStatistics,
    posterior_terms,
    statistics_of,
)
from vaeserve_export.trained.of_run import RunSubject
from vaeserve_export.trained.subject import Subject
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.records import EpochRecord, read_records

ROWS = 2000  # of either part: a likelihood to a few tenths of a nat, in a second
_WEIGHED_ROWS = 1000
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Rows:
    """Rows of a model's data, as loaded and as it was trained on them.

    Attributes:
        data: the rows as a caller would send them, in an order of which the first are a sample.
        x: the first of them, binarised where the training was.
        held_out: whether it is known that the model was not trained on them.
    """

    data: Dataset
    x: Tensor
    held_out: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """Figures over rows trained on, or over others.

    Attributes:
        statistics: of the posteriors.
        constant_nats: -log p of the rows if each is answered with the mean of those trained on.
        gain_nats: by how much -ELBO is better than that.
        gain_error: standard error of the gain.
    """

    statistics: PosteriorStatistics
    constant_nats: float
    gain_nats: float
    gain_error: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything from which faults are named.

    Attributes:
        elements: of a row.
        latent_dim: latent dimensions.
        beta: recorded weight of the KL; None if unknown.
        kl_weight: the weight that the model shows; None if there is nothing to weigh.
        worthwhile_weight: up to which a latent dimension pays on these rows.
        train: figures over rows trained on.
        validation: figures over rows held out.
        history: of the training, an epoch each; empty if unknown.
    """

    elements: int
    latent_dim: int
    beta: float | None
    kl_weight: KlWeight | None
    worthwhile_weight: float
    train: Part
    validation: Part
    history: tuple[EpochRecord, ...]

    @property
    def warming_weight(self) -> float | None:
        """The KL weight in the epoch that was kept, if it was still growing then."""
        if not self.history or self.beta is None:
            return None
        kept = min(self.history, key=lambda epoch: epoch.validation_loss).beta_now
        return kept if self.history[0].beta_now < kept < 0.9 * self.beta else None

    @property
    def logged_weight(self) -> float | None:
        """The KL weight of the loss that was logged; None if unknown, or if that loss is no bound.

        A loss below reconstruction + weight * KL in nats is not made of their sums. (Free bits only
        raise it.)
        """
        if not self.history:
            return None
        last = self.history[-1]
        bound = last.train_reconstruction_nats + last.beta_now * last.train_kl_nats
        return last.beta_now if last.train_loss > bound - _ROUNDING * abs(bound) else None


def rows_for(
    subject: Subject, spec: str, data_dir: Path | None, *, binarise: bool
) -> tuple[Rows, Rows]:
    """The rows trained on and those held out.

    Args:
        subject: the model.
        spec: source of its data.
        data_dir: of named sets.
        binarise: draw pixels once, with the grey levels as probabilities.

    Raises:
        DataError: unreadable data, or other rows than a run was trained on.
    """
    parts = evaluate.parts_of_training(subject, spec, data_dir)
    if isinstance(subject, RunSubject) and not parts[0].same_data:
        raise DataError(f"{spec}: is not what {subject.origin.name} was trained on")
    train, validation = (_rows(part, binarise) for part in parts)
    return train, validation


def _rows(part: evaluate.Part, binarise: bool) -> Rows:
    # One seed for every model, so that two side by side are measured on the same rows.
    data = part.rows.shuffled(0)
    x = torch.from_numpy(data.x[:ROWS])
    if binarise:
        x = torch.bernoulli(x, generator=torch.Generator().manual_seed(0))
    return Rows(data, x, part.held_out)


def gather(subject: Subject, train: Rows, validation: Rows) -> Evidence:
    """Measure a model.

    Args:
        subject: the model.
        train: rows that it was trained on.
        validation: rows that it was not trained on.

    Raises:
        RunError: a run whose metrics.jsonl cannot be read.
    """
    folder = subject.origin.folder
    weighed = train.x[:_WEIGHED_ROWS]
    mean = train.x.mean(0)
    return Evidence(
        elements=math.prod(subject.input_shape),
        latent_dim=subject.latent_dim,
        beta=subject.origin.beta,
        kl_weight=kl_weight(subject, weighed, free_bits=_free_bits(subject)),
        worthwhile_weight=worthwhile_weight(subject, weighed),
        train=_part(subject, train.x, mean),
        validation=_part(subject, validation.x, mean),
        history=tuple(read_records(folder / run_folder.METRICS))
        if isinstance(subject, RunSubject)
        else (),
    )


def _free_bits(subject: Subject) -> float:
    """Of a run's training; 0 for a bundle, which does not say."""
    if isinstance(subject, RunSubject):
        return run_folder.read_config(subject.origin.folder).settings.free_bits
    return 0.0


def _part(subject: Subject, x: Tensor, mean: Tensor) -> Part:
    likelihood = subject.likelihood
    constant = likelihood.nats(likelihood.constant(mean).expand_as(x), x).double()
    terms = posterior_terms(subject, x, 0)
    gain = constant - (terms.reconstruction + terms.kl).double()
    return Part(
        statistics=statistics_of(subject, x, terms, seed=0),
        constant_nats=float(constant.mean()),
        gain_nats=float(gain.mean()),
        gain_error=float(gain.std()) / math.sqrt(len(x)),
    )
