"""Reads the repository and makes its models ready.

Loading is all or nothing: a version is served only after its digests, its graphs' signatures, a
warm-up of every batch size and a self-test on its golden rows.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vaeserve.v1 import bundle, model_pb2
from vaeserve_server.batcher import Batcher
from vaeserve_server.call import Rows
from vaeserve_server.chaining import each_once
from vaeserve_server.config import MAX_MESSAGE_BYTES, ServerConfig
from vaeserve_server.devices import Device
from vaeserve_server.engine import EngineLostError, Slot, one_of_each_engine
from vaeserve_server.errors import StartupError
from vaeserve_server.metrics import Metrics
from vaeserve_server.model_engines import EngineRoom
from vaeserve_server.models import Catalogue, Model, levels_of
from vaeserve_server.packing import AsLevels, bare
from vaeserve_server.run_times import RunTimes
from vaeserve_server.self_test import read_golden, self_test
from vaeserve_server.toolkit import read_toolkit
from vaeserve_server.turn import Turn
from vaeserve_server.worker_messages import Served

_log = logging.getLogger(__name__)

# Room in a message for everything but the rows: names, shapes, seeds.
_MESSAGE_OVERHEAD_BYTES = 4096

# A queue holds at most this much, whatever its rows weigh.
_MAX_QUEUE_BYTES = 1 << 30

# Draws of one Encode or Score, in floats: about 40 ms of work, and 60 MB while it lasts.
_MAX_DRAWN_FLOATS = 1 << 20


def load_catalogue(
    config: ServerConfig,
    devices: Sequence[Device],
    metrics: Metrics,
    *,
    on_death: Callable[[BaseException], None],
    turn: Turn,
    like: Served | None = None,
) -> Catalogue:
    """Load the highest loadable version of every model in the repository.

    Args:
        config: where, and with which limits.
        devices: where graphs run.
        metrics: told of every model.
        on_death: called, with the cause, if a batcher dies.
        turn: of the transport.
        like: what other workers serve; the repository may have changed since.

    Raises:
        StartupError: there is no repository, or nothing in it can be served; the message lists the
            reasons.
        EngineLostError: a device has failed for good.
    """
    if not config.repository.is_dir():
        raise StartupError(f"{config.repository}: is no folder; give the model repository")
    catalogue = Catalogue()
    room = EngineRoom(config, devices)
    found = find_versions(config.repository)
    if like is not None:
        catalogue.problems.update(like.refused)
        found = {
            name: [config.repository / name / str(version)]
            for name, version in like.versions.items()
        }
    for name, versions in found.items():
        problems = []
        for version in versions:
            try:
                catalogue.models[name] = _load(
                    version, config, room, metrics, on_death=on_death, turn=turn
                )
                break
            except EngineLostError:
                raise  # nothing else will run on the device either
            except Exception as error:  # noqa: BLE001  one bad bundle must not stop the others
                problem = str(error)
                if not isinstance(error, bundle.BundleError | StartupError):
                    problem = f"{version}: {type(error).__name__}: {error}"
                _log.error("refused", extra={"bundle": str(version), "problem": problem})
                problems.append(problem)
        if problems:
            catalogue.problems[name] = "; ".join(problems)
    if like is not None and catalogue.models.keys() != like.versions.keys():
        reasons = "\n".join(catalogue.problems[name] for name in found.keys() - catalogue.models)
        raise StartupError(f"what the other workers serve cannot be loaded any more\n{reasons}")
    if not catalogue.models:
        reasons = "\n".join(catalogue.problems.values()) or "there is no model folder in it"
        raise StartupError(f"{config.repository}: nothing can be served\n{reasons}")
    return catalogue


def find_versions(repository: Path) -> dict[str, list[Path]]:
    """Version folders by model name, highest first.

    A version is a folder named by a positive integer; a half-written `.3.part` is none. A folder
    without versions, such as a volume's `lost+found`, is no model.

    Raises:
        StartupError: the repository cannot be listed.
    """
    models = {}
    try:
        folders = sorted(path for path in repository.iterdir() if path.is_dir())
    except OSError as error:
        raise StartupError(f"{repository}: cannot be listed: {error.strerror}") from error
    for folder in folders:
        try:
            versions = [path for path in folder.iterdir() if path.is_dir() and _is_version(path)]
        except OSError as error:
            _log.warning("skipped", extra={"folder": str(folder), "problem": str(error)})
            continue
        if versions and not folder.name.startswith("."):
            models[folder.name] = sorted(versions, key=lambda path: int(path.name), reverse=True)
    return models


def read_bundle(folder: Path) -> tuple[model_pb2.ModelInfo, dict[str, bytes]]:
    """Read a version as a whole.

    Returns:
        its manifest, and its files by name.

    Raises:
        bundle.BundleError: it is no sound bundle, or another model's or version's.
    """
    info = bundle.read_manifest(folder)
    if (info.name, info.version) != (folder.parent.name, int(folder.name)):
        raise bundle.BundleError(f"{folder}: its manifest is of {info.name}/{info.version}")
    return info, bundle.read_files(folder, info)


def _is_version(path: Path) -> bool:
    return path.name.isascii() and path.name.isdecimal() and not path.name.startswith("0")


def _load(
    folder: Path,
    config: ServerConfig,
    room: EngineRoom,
    metrics: Metrics,
    *,
    on_death: Callable[[BaseException], None],
    turn: Turn,
) -> Model:
    """Check, warm up and self-test one version.

    Raises:
        bundle.BundleError: the folder is no sound bundle.
        StartupError: its graphs do not run, or not to its golden rows.
    """
    info, files = read_bundle(folder)
    max_rows = _max_rows(info, config.max_rows)
    info.limits.max_rows = max_rows
    info.limits.max_message_bytes = MAX_MESSAGE_BYTES
    info.limits.max_draws = max(max_rows, _MAX_DRAWN_FLOATS // math.prod(info.latent_shape))
    try:
        toolkit, golden = read_toolkit(files, info), read_golden(files[bundle.GOLDEN])
    except bundle.BundleError as error:
        raise bundle.BundleError(f"{folder}: {error}") from error
    info.latent_statistics.CopyFrom(toolkit.statistics())

    observers = {name: metrics.graph(info.name, name) for name in ("encoder", "decoder")}
    try:
        engines = room.engines(info, files, observers["encoder"].encoded)
    except StartupError as error:
        raise StartupError(f"{folder}: {error}") from error
    graphs = map(one_of_each_engine, (engines.encoder, engines.decoder))
    for pair in zip(*graphs, strict=True):
        self_test(folder, golden, info, *pair, on_cuda=engines.on_cuda)

    x, z = (np.zeros((1, *shape), np.float32) for shape in (info.input_shape, info.latent_shape))
    # Rows of each graph, to be run one after the other, and floats of a row of it.
    warm: dict[str, tuple[list[Slot], Sequence[Rows], int]] = {
        "encoder": (engines.encoder, [x, x], x.size),
        "decoder": (engines.decoder, [z, z], z.size),
    }
    if engines.chain:
        # They have kernels of their own for uint8 levels, coming and going.
        of_levels = x if levels_of(info) is None else x.astype(np.uint8)
        chained: list[Rows] = [AsLevels(each_once(of_levels)), each_once(x)]
        warm = {
            "encoder": (engines.encoder, [of_levels, x], x.size),
            "decoder": (engines.decoder, [AsLevels(z), z], z.size),
            "chain": (engines.chain, chained, x.size),
        }
    # All of them before the first batcher has threads.
    times = {name: _warm_up(slots, kinds, max_rows) for name, (slots, kinds, _) in warm.items()}

    def batcher(name: str) -> Batcher:
        observer = observers.get(name) or metrics.graph(info.name, name)
        slots, _, floats = warm[name]
        most = max(max_rows, _MAX_QUEUE_BYTES // (4 * floats))
        placement = config.placement
        if placement == "auto" and engines.on_cuda:
            placement = "thread"  # others can be received while the device computes
        made = Batcher(
            slots,
            name=f"{info.name}-{name}",
            max_rows=max_rows,
            max_queue_rows=min(config.max_queue_rows, most),
            max_delay_s=config.max_delay_ms / 1000,
            run_times=times[name],
            observer=observer,
            on_death=on_death,
            turn=turn,
            placement=placement,
        )
        observer.watch(made)
        return made

    model = Model(
        info=info,
        encoder=batcher("encoder"),
        decoder=batcher("decoder"),
        chain=batcher("chain") if engines.chain else None,
        toolkit=toolkit,
    )
    provider = engines.encoder[0].engine.provider
    metrics.model_loaded(info, provider, toolkit.calibration)
    encoder_threads, decoder_threads = engines.threads
    _log.info(
        "model loaded",
        extra={
            "model": info.name,
            "version": info.version,
            "provider": provider,
            "encoder_threads": encoder_threads,
            "decoder_threads": decoder_threads,
            "max_rows": max_rows,
        },
    )
    return model


def _max_rows(info: model_pb2.ModelInfo, configured: int) -> int:
    """At most the configured rows, and no more than fit one message: x, mu, log_var, a draw."""
    floats = math.prod(info.input_shape) + 3 * math.prod(info.latent_shape)
    fitting = (MAX_MESSAGE_BYTES - _MESSAGE_OVERHEAD_BYTES) // (4 * floats)
    if fitting < 1:
        raise StartupError(f"{info.name}: one row of {floats} floats exceeds the message limit")
    return min(configured, fitting)


def _warm_up(slots: Sequence[Slot], kinds: Sequence[Rows], max_rows: int) -> RunTimes:
    """Run every bucket of every engine with each kind of rows.

    First runs allocate and tune; the last one is timed.

    Args:
        slots: of one graph.
        kinds: one row of each kind that it takes, at least two.
        max_rows: most rows of a batch.
    """
    times = RunTimes()
    sizes = [1 << power for power in range((max_rows - 1).bit_length())]
    buckets = {slots[0].engine.bucket(size) for size in (*sizes, max_rows)}
    for slot in one_of_each_engine(slots):
        for rows in sorted(buckets):
            for row in kinds:
                batch = slot.packer.pack([bare(row)] * rows)
                start = time.monotonic()
                slot.engine.run(batch, as_levels=type(row) is AsLevels)
                seconds = time.monotonic() - start
            times.record(rows, seconds)
    return times
