"""Export a run: what a finished training left behind becomes a bundle."""

from dataclasses import asdict
from pathlib import Path

import torch

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export.bundling import contents
from vaeserve_export.bundling.contents import RealRows
from vaeserve_export.bundling.pair import Pair
from vaeserve_export.bundling.publish import place_of, publish
from vaeserve_export.data.dataset import Dataset, training_rows
from vaeserve_export.errors import ExportError
from vaeserve_export.latent.fitted import into, read_run
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.run import RunConfig, Summary


def export_run(
    run: Path,
    repository: Path,
    name: str,
    version: int | None = None,
    *,
    precision: str = "float32",
    dataset: Dataset | None = None,
) -> Path:
    """Export the best weights of a finished run; equal runs give equal bytes.

    Args:
        run: the run folder.
        repository: folder of models; made if it is not there.
        name: of the model: lower-case letters, digits, dot, dash and underscore; at most 64.
        version: a positive integer; by default one above the highest there is.
        precision: "float32", "fp16" or "int8".
        dataset: the run's data; a reduced precision is then set on its training rows, its cost and
            its calibration are measured on its validation rows. Else samples of the model's own
            are taken, and the calibration is the float32 model's.

    Returns:
        The version's folder.

    Raises:
        ExportError: an impossible name or precision, other data than the run's, a version that
            exists, or a folder that cannot be written.
        RunError: no finished run, or a prior or attributes that were fitted to other weights.
        VerifyError: ONNX Runtime does not reproduce PyTorch's outputs.
    """
    place_of(repository, name, version)  # before the work
    contents.require_precision(precision)
    config, summary = run_folder.read_config(run), run_folder.read_summary(run)
    fitted = read_run(run)
    vae = run_folder.load_model(run)
    pair = Pair(
        encoder=vae.encoder,
        decoder=vae.decoder,
        input_shape=config.input_shape,
        latent_shape=(config.settings.latent_dim,),
    )
    likelihood = vae.likelihood  # "l2" is a Gaussian to it, and a variance may be learned
    info = model_pb2.ModelInfo(
        likelihood=contents.LIKELIHOODS[likelihood.name],
        gaussian_variance=likelihood.variance if likelihood.name == "gaussian" else 0.0,
        columns=[model_pb2.Column(**asdict(column)) for column in config.columns],
        preprocessing=model_pb2.Preprocessing(scale=config.level) if config.level else None,
        training=_training(config, summary),
    )
    real = None if dataset is None else _real_rows(run, config, dataset)
    files = contents.fill(info, pair, precision, real)
    files[bundle.CALIBRATION] = (
        run_folder.read_calibration(run)  # of the float32 model: another one needs its rows
        if real is None or precision == "float32"
        else contents.calibration(info, files, real.held_out)
    )
    return publish(*into(fitted, files, info), repository, name, version)


def _real_rows(run: Path, config: RunConfig, dataset: Dataset) -> RealRows:
    if dataset.sha256 != config.data_sha256:
        raise ExportError(
            f"{dataset.name}: is not the data that {run} was trained on ({config.data})"
        )
    train, validation = training_rows(dataset, config.settings.seed)
    return RealRows(
        ranges=torch.from_numpy(train.shuffled(config.settings.seed).x),
        held_out=torch.from_numpy(validation.x),
        source="validation",
    )


def _training(config: RunConfig, summary: Summary) -> model_pb2.TrainingMetrics:
    return model_pb2.TrainingMetrics(
        epochs=summary.epochs,
        train_rows=summary.train_rows,
        validation_rows=summary.validation_rows,
        reconstruction_nats=summary.reconstruction_nats,
        kl_nats=summary.kl_nats,
        negative_elbo_nats=summary.negative_elbo_nats,
        beta=config.settings.beta,
        data_sha256=config.data_sha256,
        active_units=summary.active_units,
    )
