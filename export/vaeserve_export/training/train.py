"""Training: one flat loop in plain PyTorch."""

import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vaeserve_export import npz
from vaeserve_export.data.dataset import Dataset, training_rows
from vaeserve_export.errors import TrainError
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.checkpoint import PURPOSES, TrainState, seeds
from vaeserve_export.training.run import RunConfig, Summary
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.vae import calibration
from vaeserve_export.vae.model import build
from vaeserve_export.vae.objective import evaluate, row_terms

CHECKPOINT_SECONDS = 5.0  # an epoch of a small net takes milliseconds, writing the file takes more


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One line of metrics.jsonl: means in nats per row; the -ELBO is always that of beta = 1."""

    epoch: int
    step: int
    train_reconstruction_nats: float
    train_kl_nats: float
    train_negative_elbo_nats: float
    train_loss: float
    beta_now: float
    validation_reconstruction_nats: float
    validation_kl_nats: float
    validation_negative_elbo_nats: float
    validation_loss: float
    active_units: int
    seconds: float


class Listener(Protocol):
    """Is told how training goes; an exception from it stops the training."""

    def batch(self, epoch: int, rows_done: int) -> None:
        """A step is done, and with it so many rows of this epoch."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""


class _Rows(NamedTuple):
    """The data as the loop needs it; the validation noise is drawn once, so epochs compare."""

    train: Tensor
    validation: Tensor
    validation_eps: Tensor
    validation_as_sent: Tensor
    """The validation rows as a caller sends them: never binarised."""


def train(
    settings: TrainSettings,
    data: Dataset,
    run: Path,
    *,
    resume: bool = False,
    listener: Listener | None = None,
) -> Summary:
    """Train until the epochs are over or the validation loss stalls, and keep the best weights.

    What is compared is the loss at full beta on the validation rows, always with the same noise:
    the -ELBO where beta is 1. Patience starts after the KL warm-up.

    Args:
        settings: of the training.
        data: rows; see `training_rows` for those that are held out for validation.
        run: folder to write to.
        resume: continue the run in that folder; it ends in the same bits as one that was never
            interrupted if threads and versions are equal.
        listener: told about progress.

    Returns:
        The figures of the best weights.

    Raises:
        TrainError: data that the likelihood or model cannot take, or a loss that is not finite.
        RunError: the folder is taken, or does not fit what is to be resumed.
    """
    torch.set_num_threads(settings.threads)
    seed = seeds(settings.seed, ("init", "validation", *PURPOSES))
    state = _prepare(settings, data, run, seed, resume=resume)
    rows = _split(settings, data, seed["validation"])
    vae, optimiser, generators, progress = (
        state.vae,
        state.optimiser,
        state.generators,
        state.progress,
    )
    started = time.monotonic() - progress.seconds
    saved_at = float("-inf")

    while progress.epoch < settings.epochs and not _has_stalled(state, settings):
        progress.epoch += 1
        beta_now = settings.beta * min(1.0, progress.epoch / max(1, settings.kl_warmup_epochs))
        rows_done, sums = 0, torch.zeros(3, dtype=torch.float64)
        order = torch.randperm(len(rows.train), generator=generators["shuffle"])
        for batch in torch.split(order, settings.batch_size):
            x = rows.train[batch]
            if settings.binarise:
                x = torch.bernoulli(x, generator=generators["binarise"])
            eps = torch.randn(len(x), settings.latent_dim, generator=generators["eps"])
            terms = row_terms(vae, x, eps)
            reconstruction, kl = terms.reconstruction.mean(), terms.kl.mean()
            loss = reconstruction + beta_now * kl
            if not torch.isfinite(loss):
                raise TrainError(_not_finite(settings, progress.epoch))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            progress.step += 1
            rows_done += len(x)
            sums += len(x) * torch.stack([reconstruction, kl, loss]).detach()
            if listener:
                listener.batch(progress.epoch, rows_done)

        train_rec, train_kl, train_loss = (sums / len(rows.train)).tolist()
        validation = evaluate(vae, rows.validation, rows.validation_eps)
        val_rec, val_kl = _mean(validation.reconstruction), _mean(validation.kl)
        val_loss = val_rec + settings.beta * val_kl
        if not math.isfinite(val_loss):
            raise TrainError(_not_finite(settings, progress.epoch))
        if val_loss < progress.best_loss:
            progress.best_epoch, progress.best_loss = progress.epoch, val_loss
            state.best = {name: value.clone() for name, value in vae.state_dict().items()}
        progress.seconds = time.monotonic() - started
        record = EpochRecord(
            epoch=progress.epoch,
            step=progress.step,
            train_reconstruction_nats=train_rec,
            train_kl_nats=train_kl,
            train_negative_elbo_nats=train_rec + train_kl,
            train_loss=train_loss,
            beta_now=beta_now,
            validation_reconstruction_nats=val_rec,
            validation_kl_nats=val_kl,
            validation_negative_elbo_nats=val_rec + val_kl,
            validation_loss=val_loss,
            active_units=calibration.active_units(validation.mu),
            seconds=progress.seconds,
        )
        run_folder.append_metrics(run, asdict(record))
        if time.monotonic() - saved_at >= CHECKPOINT_SECONDS:
            state.save(run / run_folder.CHECKPOINT)
            saved_at = time.monotonic()
        if listener:
            listener.epoch(record)

    state.save(run / run_folder.CHECKPOINT)
    return _finish(state, rows, run)


def _prepare(
    settings: TrainSettings, data: Dataset, run: Path, seed: dict[str, int], *, resume: bool
) -> TrainState:
    """Open the run folder; fresh state, or that of its checkpoint."""
    if settings.likelihood == "bernoulli" and not 0 <= data.x.min() <= data.x.max() <= 1:
        raise TrainError(
            f"likelihood bernoulli needs values in [0, 1], the data has {data.x.min():g} to "
            f"{data.x.max():g}; use likelihood gaussian"
        )
    config = RunConfig(
        settings=settings,
        data=data.name,
        data_sha256=data.sha256,
        input_shape=data.row_shape,
        level=data.level,
        columns=data.columns,
        versions={"python": platform.python_version(), "torch": str(torch.__version__)},
    )
    vae = build(config.vae, seed["init"])
    state = TrainState(
        vae=vae,
        optimiser=torch.optim.Adam(vae.parameters(), settings.learning_rate),
        generators={name: torch.Generator().manual_seed(seed[name]) for name in PURPOSES},
    )
    run_folder.open_run(run, config, resume=resume)
    checkpoint = run / run_folder.CHECKPOINT
    if checkpoint.exists():
        state.load(checkpoint)
    run_folder.trim_metrics(run, state.progress.epoch)
    return state


def _split(settings: TrainSettings, data: Dataset, seed: int) -> _Rows:
    """Training and validation rows; binarised validation rows are drawn once."""
    train_part, validation_part = training_rows(data, settings.seed)
    validation = as_sent = torch.from_numpy(validation_part.x)
    generator = torch.Generator().manual_seed(seed)
    if settings.binarise:
        validation = torch.bernoulli(validation, generator=generator)
    eps = torch.randn(len(validation), settings.latent_dim, generator=generator)
    return _Rows(torch.from_numpy(train_part.x), validation, eps, as_sent)


def _finish(state: TrainState, rows: _Rows, run: Path) -> Summary:
    """Measure the best weights and write what export needs.

    Under binarise the summary's figures are those of binarised rows, as in the literature. The
    calibration is that of grey ones: it places the scores of rows that callers send.
    """
    state.vae.load_state_dict(state.best)
    best = evaluate(state.vae, rows.validation, rows.validation_eps)
    reconstruction, kl = _mean(best.reconstruction), _mean(best.kl)
    summary = Summary(
        epochs=state.progress.best_epoch,
        epochs_run=state.progress.epoch,
        train_rows=len(rows.train),
        validation_rows=len(rows.validation),
        reconstruction_nats=reconstruction,
        kl_nats=kl,
        negative_elbo_nats=reconstruction + kl,
        active_units=calibration.active_units(best.mu),
        seconds=state.progress.seconds,
    )
    scores = npz.to_bytes(calibration.measure(state.vae, rows.validation_as_sent))
    run_folder.finish(run, state.best, summary, scores)
    return summary


def _has_stalled(state: TrainState, settings: TrainSettings) -> bool:
    since = max(state.progress.best_epoch, settings.kl_warmup_epochs)
    return state.progress.epoch - since >= settings.patience


def _mean(nats: Tensor) -> float:
    return float(nats.double().mean())


def _not_finite(settings: TrainSettings, epoch: int) -> str:
    cause = f"the learning rate {settings.learning_rate:g} is most likely too high"
    if settings.likelihood == "gaussian":
        cause += f", or the Gaussian variance {settings.gaussian_variance:g} too small"
    return f"the loss is not finite in epoch {epoch}: {cause}"
