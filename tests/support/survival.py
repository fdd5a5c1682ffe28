"""A training in a process of its own that may be killed at any moment."""

from pathlib import Path

from vaeserve_export.data.dataset import load
from vaeserve_export.training import run as run_folder, saving
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

SETTINGS = TrainSettings(
    hidden=16,
    latent_dim=3,
    batch_size=256,
    epochs=20,
    binarise=True,
    kl_warmup_epochs=10,
    schedule="cosine",
    threads=1,
)
"""Seven steps an epoch, of about a millisecond each."""


def train_on(run: Path) -> None:
    """Begin, or go on where there is something to go on from; a checkpoint every few steps."""
    saving.CHECKPOINT_SECONDS = 0.01
    train(SETTINGS, load("digits"), run, resume=(run / run_folder.CONFIG).exists())
