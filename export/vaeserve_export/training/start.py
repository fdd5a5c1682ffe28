"""Before the first step: the folder, the rows, and the state, fresh or that of a checkpoint."""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import torch

from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import TrainError
from vaeserve_export.training import optimisers, provenance, run as run_folder
from vaeserve_export.training.checkpoint import TrainState, seeds
from vaeserve_export.training.group import Group
from vaeserve_export.training.rows import PURPOSES, TrainRows, Validation, prepare
from vaeserve_export.training.run import RunConfig
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.threads import measured_threads
from vaeserve_export.vae.model import Vae, build


class Start(NamedTuple):
    """What a training goes on from."""

    state: TrainState
    rows: TrainRows
    validation: Validation
    order_seed: int
    device: torch.device


def start(
    settings: TrainSettings, data: Dataset, run: Path, group: Group, *, resume: bool
) -> Start:
    """Open the run folder and make ready; arguments and errors as of `train`."""
    _require_range(settings, data)
    seed = seeds(settings.seed, ("init", "validation", "order", *PURPOSES))
    config = RunConfig(
        settings=settings,
        data=data.name,
        data_sha256=data.sha256,
        input_shape=data.row_shape,
        level=data.level,
        columns=data.columns,
        versions=provenance.versions(Path.cwd()),
        threads=settings.threads,
    )
    vae = build(config.vae, seed["init"])
    rows, validation = prepare(settings, data, seed["validation"])
    device = _device(settings)
    threads = _threads(settings, vae, data, run if resume else None, group)
    torch.set_num_threads(threads)
    checkpoint = _open(run, dataclasses.replace(config, threads=threads), group, resume=resume)

    vae.to(device)
    state = TrainState(
        vae=vae,
        optimisers=optimisers.build_optimisers(vae, settings),
        generators={name: torch.Generator().manual_seed(seed[name]) for name in PURPOSES},
        sums=torch.zeros(3, dtype=torch.float64, device=device),
    )
    if checkpoint:
        state.load(checkpoint)
        if not group.first:
            state.sums.zero_()  # the checkpoint's are those of all processes
    if group.first:
        run_folder.trim_metrics(run, state.progress.epoch)
    return Start(state, rows, validation, seed["order"], device)


def _require_range(settings: TrainSettings, data: Dataset) -> None:
    """Refuse what is not in the likelihood's range."""
    if settings.likelihood not in {"bernoulli", "continuous-bernoulli"}:
        return
    for part, what in ((data, "the data has"), (data.validation, "its rows for validation have")):
        if part and not 0 <= part.x.min() <= part.x.max() <= 1:
            raise TrainError(
                f"likelihood {settings.likelihood} needs values in [0, 1], {what} "
                f"{part.x.min():g} to {part.x.max():g}; use likelihood gaussian"
            )


def _open(run: Path, config: RunConfig, group: Group, *, resume: bool) -> bytes | None:
    """Open the run folder: its checkpoint, if it has one, in all processes."""
    content = None
    if group.first:
        run_folder.open_run(run, config, resume=resume)
        content = run_folder.read_checkpoint(run)
    return group.same(content)


def _threads(
    settings: TrainSettings, vae: Vae, data: Dataset, resumed: Path | None, group: Group
) -> int:
    """As set, as the resumed run had it, or as measured; one where processes or a GPU share."""
    if settings.threads:
        return settings.threads
    if group.size > 1 or _device(settings).type != "cpu":
        return 1
    if resumed:
        return run_folder.read_config(resumed).threads
    cores = len(os.sched_getaffinity(0))
    return measured_threads(vae, torch.from_numpy(data.x[: settings.batch_size]), cores)


def _device(settings: TrainSettings) -> torch.device:
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise TrainError("device cuda: PyTorch finds none here; use device cpu")
    return torch.device(settings.device)
