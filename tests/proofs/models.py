"""VAEs for the proofs, trained by the product and kept: a proof that is repeated trains nothing."""

from pathlib import Path

from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import RunError
from vaeserve_export.trained.of_run import RunSubject
from vaeserve_export.training.run import SUMMARY, read_config
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train

MLP = TrainSettings(hidden=300, latent_dim=20, epochs=20, schedule="cosine", threads=1)


def trained(run: Path, settings: TrainSettings, data: Dataset) -> RunSubject:
    """The model of a run with these settings and data; trained, or gone on with, if need be."""
    try:
        config = read_config(run)
        same = config.settings == settings and config.data_sha256 == data.sha256
    except RunError:
        same = False
    if not same:
        for file in run.glob("*"):
            file.unlink()
    if not (run / SUMMARY).exists():
        train(settings, data, run, resume=same)
    return RunSubject(run)
