"""The run folder: what a training leaves behind, and what export reads.

    config.json              settings, data, versions
    metrics.jsonl            one line per epoch
    checkpoint.safetensors   everything needed to go on (see checkpoint.py)
    model.safetensors        the best weights          \
    summary.json             their validation figures   } once training has finished
    calibration.npz          their score percentiles   /

No file is pickled, and none is ever seen half-written.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from vaeserve.v1 import bundle
from vaeserve_export.data.rows import Column
from vaeserve_export.errors import RunError
from vaeserve_export.training.files import json_bytes, read_json, write_atomic
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.vae.likelihood import L2_VARIANCE
from vaeserve_export.vae.model import Vae, VaeConfig, build

CONFIG = "config.json"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "model.safetensors"
SUMMARY = "summary.json"

_MAY_CHANGE = ("epochs", "patience", "threads", "device")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run was started with.

    Attributes:
        settings: of the training.
        data: specification the data was loaded from.
        data_sha256: digest of the data.
        input_shape: shape of one row.
        level: model units of one uint8 level where rows are pictures, else None.
        columns: of the table that rows come from; empty unless they come from one.
        versions: of Python, PyTorch and vaeserve; and the commit of the folder that the training
            was started in, where that is a git repository, with "-dirty" if it had changes. All
            that took part, where a run was resumed under others.
        threads: of PyTorch in each process, as set or measured.
    """

    settings: TrainSettings
    data: str
    data_sha256: str
    input_shape: tuple[int, ...]
    level: float | None
    versions: dict[str, str]
    threads: int
    columns: tuple[Column, ...] = ()

    @property
    def vae(self) -> VaeConfig:
        """The model's configuration."""
        settings = self.settings
        l2 = settings.likelihood == "l2"
        return VaeConfig(
            model=settings.model,
            input_shape=self.input_shape,
            latent_dim=settings.latent_dim,
            hidden=settings.hidden,
            layers=settings.layers,
            activation=settings.activation,
            likelihood="gaussian" if l2 else settings.likelihood,
            gaussian_variance=L2_VARIANCE if l2 else settings.gaussian_variance,
            learn_variance=settings.learn_variance,
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures of a finished run, measured on its validation rows with the best weights.

    Attributes:
        epochs: epochs trained when the best weights were reached.
        epochs_run: epochs trained in all.
        train_rows: rows trained on.
        validation_rows: rows measured on.
        reconstruction_nats: mean reconstruction term, one posterior draw a row.
        kl_nats: mean KL.
        negative_elbo_nats: their sum, whatever beta was.
        active_units: latent dimensions with Var_x(mu) > 0.01.
        seconds: time spent in training.
        cpu_seconds: processor time spent in training, by all threads and processes.
    """

    epochs: int
    epochs_run: int
    train_rows: int
    validation_rows: int
    reconstruction_nats: float
    kl_nats: float
    negative_elbo_nats: float
    active_units: int
    seconds: float
    cpu_seconds: float


def open_run(folder: Path, config: RunConfig, *, resume: bool) -> None:
    """Start a run in a folder, or make sure that the one in it is the same.

    A run that ended before its first checkpoint has nothing to lose and may be started again. One
    that is resumed may change its epochs, patience, threads and device; config.json then has the
    new ones.

    Raises:
        RunError: the folder is taken, or holds no run to resume, or one of other data or settings.
    """
    if resume:
        before = read_config(folder)
        _require_same(folder, before, config)
        versions = {
            name: _joined(before.versions.get(name), version)
            for name, version in config.versions.items()
        }
        now = dataclasses.replace(config, data=before.data, versions=versions)
        write_atomic(folder / CONFIG, json_bytes(dataclasses.asdict(now)))
        return
    if any((folder / file).exists() for file in (CHECKPOINT, SUMMARY)):
        raise RunError(
            f"{folder}: already holds a run; continue it with --resume or choose another"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made: {error.strerror}") from error
    write_atomic(folder / METRICS, b"")
    write_atomic(folder / CONFIG, json_bytes(dataclasses.asdict(config)))


def read_config(folder: Path) -> RunConfig:
    """Read config.json.

    Raises:
        RunError: missing, or not written by `open_run`.
    """
    values = read_json(folder / CONFIG, f"{folder}: holds no run")
    try:
        settings = TrainSettings(**values.pop("settings"))
        shape = tuple(values.pop("input_shape"))
        columns = tuple(Column(**column) for column in values.pop("columns"))
        return RunConfig(settings=settings, input_shape=shape, columns=columns, **values)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder / CONFIG}: is not of this version: {error}") from error


def read_checkpoint(folder: Path) -> bytes | None:
    """The bytes of the checkpoint, if there is one.

    Raises:
        RunError: it cannot be read.
    """
    path = folder / CHECKPOINT
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error


def trim_metrics(folder: Path, epochs: int) -> None:
    """Drop the lines of epochs after the checkpoint: they will be trained, and written, again.

    Raises:
        RunError: metrics.jsonl cannot be read or written.
    """
    path = folder / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
    write_atomic(path, "".join(lines[:epochs]).encode())


def append_metrics(folder: Path, record: dict[str, float]) -> None:
    """Add an epoch's line to metrics.jsonl.

    Raises:
        RunError: it cannot be written.
    """
    path = folder / METRICS
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def finish(folder: Path, best: dict[str, Tensor], summary: Summary, calibration: bytes) -> None:
    """Write what export needs; the summary last, because it marks the run as finished."""
    weights = {name: value.cpu().contiguous() for name, value in best.items()}
    write_atomic(folder / WEIGHTS, safetensors.torch.save(weights))
    write_atomic(folder / bundle.CALIBRATION, calibration)
    write_atomic(folder / SUMMARY, json_bytes(dataclasses.asdict(summary)))


def read_summary(folder: Path) -> Summary:
    """Read summary.json.

    Raises:
        RunError: the run is not finished, or its summary not written by `finish`.
    """
    read_config(folder)
    values = read_json(
        folder / SUMMARY, f"{folder}: training has not finished; continue it with --resume"
    )
    try:
        return Summary(**values)
    except TypeError as error:
        raise RunError(f"{folder / SUMMARY}: is not of this version: {error}") from error


def read_calibration(folder: Path) -> bytes:
    """Read calibration.npz as it is.

    Raises:
        RunError: it is not there.
    """
    path = folder / bundle.CALIBRATION
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error


def load_model(folder: Path) -> Vae:
    """The model of a finished run: best weights, eval mode, on the CPU.

    Raises:
        RunError: no run, not finished, or weights that do not fit.
    """
    config = read_config(folder)
    read_summary(folder)
    vae = build(config.vae, 0)  # whatever the seed, the weights are replaced
    try:
        vae.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(f"{folder / WEIGHTS}: cannot be loaded: {error}") from error
    return vae.eval()


def _require_same(folder: Path, before: RunConfig, now: RunConfig) -> None:
    if before.data_sha256 != now.data_sha256:
        raise RunError(f"{folder}: was started with other data ({before.data}), not {now.data}")
    for field in dataclasses.fields(TrainSettings):
        old, new = getattr(before.settings, field.name), getattr(now.settings, field.name)
        if old != new and field.name not in _MAY_CHANGE:
            raise RunError(f"{folder}: was started with {field.name} {old}, not {new}")


def _joined(before: str | None, now: str) -> str:
    versions = before.split(", ") if before else []
    return ", ".join([*versions, *([] if now in versions else [now])])
