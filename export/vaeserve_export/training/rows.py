"""The rows of a training, and what is drawn for them: order, pixels, noise."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaeserve_export.data.dataset import Dataset, training_rows
from vaeserve_export.training.settings import TrainSettings

PURPOSES = ("binarise", "eps")
"""Each has a generator of its own, so that drawing more for one does not shift the other."""

Generators = dict[str, torch.Generator]


class Validation(NamedTuple):
    """The validation rows; their noise is drawn once, so that epochs compare."""

    x: Tensor
    eps: Tensor
    as_sent: Tensor
    """The rows as a caller sends them: never binarised."""


class TrainRows:
    """The training rows, of which batches are drawn.

    Every process of a distributed training draws the pixels and the noise of the whole batch and
    takes its share. So each row gets the same noise in however many processes it is trained.
    """

    def __init__(self, x: Tensor, settings: TrainSettings) -> None:
        self._binarise = settings.binarise
        self._rows = thresholds(x) if settings.binarise else x
        self._latent_dim = settings.latent_dim
        self._noise = not settings.autoencoder

    def __len__(self) -> int:
        return len(self._rows)

    def draw(
        self, batch: Tensor, generators: Generators, rank: int = 0, processes: int = 1
    ) -> tuple[Tensor, Tensor]:
        """The process's share of a batch: x [share, ...] and eps [share, latent_dim].

        Args:
            batch: row numbers of the whole batch.
            generators: of PURPOSES.
            rank: of this process.
            processes: that take shares; they differ by a row at most.
        """
        share = slice(len(batch) * rank // processes, len(batch) * (rank + 1) // processes)
        if self._noise:
            eps = torch.randn(len(batch), self._latent_dim, generator=generators["eps"])[share]
        else:
            eps = torch.zeros(len(batch), self._latent_dim)[share]
        if not self._binarise:
            return self._rows[batch[share]], eps
        shape = (len(batch), *self._rows.shape[1:])
        levels = uniform_levels(shape, generators["binarise"])[share]
        return (levels < self._rows[batch[share]]).to(torch.float32), eps


def prepare(settings: TrainSettings, data: Dataset, seed: int) -> tuple[TrainRows, Validation]:
    """Training and validation rows; binarised validation rows are drawn once.

    Args:
        settings: of the training; their seed decides the split.
        data: all rows.
        seed: of the validation rows' pixels and noise.
    """
    train_part, validation_part = training_rows(data, settings.seed)
    x = as_sent = torch.from_numpy(validation_part.x)
    generator = torch.Generator().manual_seed(seed)
    if settings.binarise:
        x = torch.bernoulli(x, generator=generator)
    eps = torch.randn(len(x), settings.latent_dim, generator=generator)
    if settings.autoencoder:
        eps.zero_()
    return TrainRows(torch.from_numpy(train_part.x), settings), Validation(x, eps, as_sent)


def epoch_order(rows: int, seed: int, epoch: int) -> Tensor:
    """A permutation of the rows that an epoch can find again without those before it."""
    word = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])
    return torch.randperm(rows, generator=torch.Generator().manual_seed(word))


def thresholds(x: Tensor) -> Tensor:
    """What `uniform_levels` must stay below for a pixel to be 1 with probability x, in [0, 1].

    Int16, so that a draw costs a quarter of what comparing floats does, and a tenth of
    torch.bernoulli. Probabilities are rounded to 2^-16; 0 and 1 are exact.
    """
    return ((x * 65536).round() - 32768).clamp(max=32767).to(torch.int16)


def uniform_levels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform integers [-32768, 32766], the last twice as likely as others: int16 of a shape."""
    elements = int(np.prod(shape))
    words = torch.empty((elements + 3) // 4, dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)  # without bounds the sign would stay out
    return words.view(torch.int16)[:elements].clamp_(max=32766).view(shape)
