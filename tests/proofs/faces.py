"""The `smiles` faces, split so that a person is on one side only, and a VAE trained on them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vaeserve_export.data.dataset import Dataset
from vaeserve_export.training.settings import TrainSettings

_BLOCK = (
    40  # consecutive numbers: the source is ordered by person, so most persons are in one block
)
_HELD_OUT = 0.2

SETTINGS = TrainSettings(
    model="conv",
    latent_dim=96,
    hidden=512,
    activation="silu",
    likelihood="gaussian",
    gaussian_variance=0.005,
    epochs=30,
    patience=99,
    batch_size=64,
    schedule="cosine",
    kl_warmup_epochs=1,
    threads=1,
)


class Faces(NamedTuple):
    """Grey pictures in [0, 1], [rows, 1, 64, 64], and whether each smiles, 0 or 1."""

    x: npt.NDArray[np.float32]
    smiles: npt.NDArray[np.int64]

    @property
    def dataset(self) -> Dataset:
        """As what a trainer takes."""
        return Dataset(self.x, self.smiles, level=1 / 255, name="smiles, training part")


def load(file: Path) -> tuple[Faces, Faces]:
    """The training part, of which alone anything is learned, and the validation part."""
    with np.load(file) as archive:
        x = archive["images"][:, None].astype(np.float32) / 255
        smiles, ids = archive["labels"].astype(np.int64), archive["ids"]
    blocks = np.unique(ids // _BLOCK)
    chosen = np.random.default_rng(1).permutation(blocks)[: int(_HELD_OUT * len(blocks))]
    held_out = np.isin(ids // _BLOCK, chosen)
    return Faces(x[~held_out], smiles[~held_out]), Faces(x[held_out], smiles[held_out])
