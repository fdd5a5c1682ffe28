"""Training: one flat loop in plain PyTorch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vaeserve_export import npz
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import TrainError
from vaeserve_export.training import optimisers, run as run_folder
from vaeserve_export.training.checkpoint import TrainState
from vaeserve_export.training.group import Group, current_group
from vaeserve_export.training.kl_weight import kl_weight, warm_since
from vaeserve_export.training.learning_rate import learning_rate_share
from vaeserve_export.training.loss import Loss
from vaeserve_export.training.precision import matrix_products
from vaeserve_export.training.records import EpochRecord, Listener
from vaeserve_export.training.rows import Validation, epoch_order
from vaeserve_export.training.run import Summary
from vaeserve_export.training.saving import Saving, not_finite
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.start import start
from vaeserve_export.training.validation import Figures, validate
from vaeserve_export.vae import calibration


def train(
    settings: TrainSettings,
    data: Dataset,
    run: Path,
    *,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Train until the epochs are over or the validation loss stalls, and keep the best weights.

    What is compared is the loss at full beta on the validation rows, always with the same noise:
    the -ELBO where beta is 1. Patience starts after the KL warm-up, and again after each of its
    cycles. Where torch.distributed is initialised, all its processes train one model.

    Args:
        settings: of the training.
        data: rows; see `training_rows` for those that are held out for validation.
        run: folder to write to; only the first process does.
        resume: continue the run in that folder; it ends in the same bits as one that was never
            interrupted if threads and versions are equal.
        listeners: told about progress; in the first process only.
        stop: asked after each step whether to write a checkpoint and end.

    Returns:
        The figures of the best weights.

    Raises:
        TrainError: data that the likelihood or model cannot take, or a loss that is not finite.
        RunError: the folder is taken, or does not fit what is to be resumed.
        Stopped: `stop` said so; the checkpoint is written.
    """
    group = current_group()
    state, rows, validation, order_seed, device = start(settings, data, run, group, resume=resume)
    vae, progress, saving = state.vae, state.progress, Saving(state, run, group)
    loss: nn.Module = Loss(vae, settings.free_bits, group)
    if group.size > 1:
        loss = DistributedDataParallel(loss)

    while progress.epoch < settings.epochs and not _has_stalled(state, settings):
        order = epoch_order(len(rows), order_seed, progress.epoch)
        batches = torch.split(order, settings.batch_size)
        with matrix_products(settings.precision, device, convolutional=vae.config.convolutional):
            for batch in batches[progress.batch :]:
                middle = progress.epoch + (progress.batch + 0.5) / len(batches)
                end = progress.epoch + (progress.batch + 1) / len(batches)
                optimisers.set_learning_rates(state.optimisers, settings, middle)
                weight = kl_weight(settings, end)
                x, eps = rows.draw(batch, state.generators, group.rank, group.size)
                part, sums = loss(x.to(device), eps.to(device), weight, len(batch))
                (group.size * part).backward()  # DistributedDataParallel takes the processes' mean
                optimisers.step(state.optimisers)
                state.sums += sums
                progress.step += 1
                progress.batch += 1
                for listener in listeners:
                    done = min(len(rows), progress.batch * settings.batch_size)
                    listener.batch(progress.epoch + 1, done)
                saving.after_step(settings, stop)

        progress.epoch, progress.batch = progress.epoch + 1, 0
        saving.collect()
        figures = validate(vae, validation, group)
        record = _record(state, settings, len(rows), len(batches), figures)
        state.sums.zero_()
        if not all(map(math.isfinite, (record.train_loss, record.validation_loss))):
            raise TrainError(not_finite(settings, progress.epoch))
        if record.validation_loss < progress.best_loss:
            progress.best_epoch, progress.best_loss = progress.epoch, record.validation_loss
            state.best = {name: value.clone() for name, value in vae.state_dict().items()}
        if group.first:
            run_folder.append_metrics(run, asdict(record))
        saving.after_epoch()
        for listener in listeners:
            listener.epoch(record)

    saving.write()
    return _finish(state, len(rows), validation, run, group)


def _record(
    state: TrainState, settings: TrainSettings, rows: int, batches: int, validation: Figures
) -> EpochRecord:
    """The figures of the epoch that has just been completed, of so many rows and batches."""
    progress, likelihood = state.progress, state.vae.likelihood
    train_rec, train_kl, train_loss = (state.sums / rows).tolist()
    last_share = learning_rate_share(settings, progress.epoch - 0.5 / batches)
    return EpochRecord(
        epoch=progress.epoch,
        step=progress.step,
        train_reconstruction_nats=train_rec,
        train_kl_nats=train_kl,
        train_negative_elbo_nats=train_rec + train_kl,
        train_loss=train_loss,
        beta_now=kl_weight(settings, progress.epoch),
        learning_rate=settings.learning_rate * last_share,
        validation_reconstruction_nats=validation.reconstruction,
        validation_kl_nats=validation.kl,
        validation_negative_elbo_nats=validation.reconstruction + validation.kl,
        validation_loss=validation.reconstruction + settings.beta * validation.kl,
        active_units=validation.active_units,
        gaussian_variance=likelihood.variance if likelihood.name == "gaussian" else 0.0,
        seconds=progress.seconds,
        cpu_seconds=progress.cpu_seconds,
    )


def _finish(
    state: TrainState, train_rows: int, validation: Validation, run: Path, group: Group
) -> Summary:
    """Measure the best weights and write what export needs.

    Under binarise the summary's figures are those of binarised rows, as in the literature. The
    calibration is that of grey ones: it places the scores of rows that callers send.
    """
    vae = state.vae.cpu()
    vae.load_state_dict(state.best)
    best = validate(vae, validation, Group())  # each process all rows, for each returns the figures
    summary = Summary(
        epochs=state.progress.best_epoch,
        epochs_run=state.progress.epoch,
        train_rows=train_rows,
        validation_rows=len(validation.x),
        reconstruction_nats=best.reconstruction,
        kl_nats=best.kl,
        negative_elbo_nats=best.reconstruction + best.kl,
        active_units=best.active_units,
        seconds=state.progress.seconds,
        cpu_seconds=state.progress.cpu_seconds,
    )
    if group.first:
        scores = npz.to_bytes(calibration.measure(vae, validation.as_sent))
        run_folder.finish(run, state.best, summary, scores)
    return summary


def _has_stalled(state: TrainState, settings: TrainSettings) -> bool:
    since = max(state.progress.best_epoch, warm_since(settings, state.progress.epoch))
    return state.progress.epoch - since >= settings.patience
