"""Write a bundle: a finished run becomes one version of a model in a repository."""

import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import torch

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export import npz
from vaeserve_export.bundling import onnx_graphs
from vaeserve_export.bundling.golden import golden_rows
from vaeserve_export.bundling.verify import Verification, verify
from vaeserve_export.errors import ExportError
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.run import RunConfig, Summary

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LIKELIHOODS = {
    "bernoulli": model_pb2.LIKELIHOOD_BERNOULLI,
    "gaussian": model_pb2.LIKELIHOOD_GAUSSIAN,
}
_TOOLS = ("vaeserve", "torch", "onnx", "onnxscript")


def export_run(run: Path, repository: Path, name: str, version: int | None = None) -> Path:
    """Export the best weights of a finished run.

    The folder is written under a temporary name, verified there, and renamed: a reader sees a
    version that has passed, or none. Equal runs give equal bytes.

    Args:
        run: the run folder.
        repository: folder of models; made if it is not there.
        name: of the model: lower-case letters, digits, dot, dash and underscore; at most 64.
        version: a positive integer; by default one above the highest there is.

    Returns:
        The version's folder.

    Raises:
        ExportError: an impossible name, a version that exists, or a folder that cannot be written.
        RunError: no finished run.
        VerifyError: ONNX Runtime does not reproduce PyTorch's outputs.
    """
    if not _NAME.fullmatch(name):
        raise ExportError(f"model name {name!r}: use a-z, 0-9, dot, dash, underscore; at most 64")
    model_folder = repository / name
    version = _next_version(model_folder) if version is None else version
    if version < 1:
        raise ExportError(f"version {version}: use a positive integer")
    target = model_folder / str(version)
    if target.exists():
        raise ExportError(f"{target}: exists already; versions are never overwritten")
    files, info = _contents(run, name, version)

    fresh = model_folder / f".{version}.{secrets.token_hex(4)}"
    try:
        fresh.mkdir(parents=True)
        for file, content in files.items():
            (fresh / file).write_bytes(content)
        bundle.write_manifest(fresh, info)
        _require_recorded(verify(fresh), target)
        fresh.rename(target)
    except OSError as error:
        raise ExportError(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # after the rename there is nothing there
        with suppress(OSError):
            model_folder.rmdir()  # only if this export made it and left nothing
    return target


def _require_recorded(result: Verification, target: Path) -> None:
    """A read-only bundle may be verified, but one being written must hold its figures."""
    if not result.recorded:
        raise ExportError(f"{target}: cannot be written: recording the measured figures failed")


def _contents(run: Path, name: str, version: int) -> tuple[dict[str, bytes], model_pb2.ModelInfo]:
    """The files of a bundle by name, and its manifest."""
    config, summary = run_folder.read_config(run), run_folder.read_summary(run)
    vae = run_folder.load_model(run)
    torch.set_num_threads(1)  # the golden bits must not depend on how many cores there are
    files = {
        bundle.ENCODER: onnx_graphs.encoder_graph(vae),
        bundle.DECODER: onnx_graphs.decoder_graph(vae),
        bundle.GOLDEN: npz.to_bytes(dict(golden_rows(vae))),
        bundle.CALIBRATION: run_folder.read_calibration(run),
    }
    gaussian = config.settings.likelihood == "gaussian"
    info = model_pb2.ModelInfo(
        name=name,
        version=version,
        format_version=bundle.FORMAT_VERSION,
        input_shape=config.input_shape,
        latent_shape=[config.settings.latent_dim],
        latent_space_id=bundle.latent_space_id(files[bundle.ENCODER], files[bundle.DECODER]),
        likelihood=_LIKELIHOODS[config.settings.likelihood],
        gaussian_variance=config.settings.gaussian_variance if gaussian else 0.0,
        columns=[model_pb2.Column(**asdict(column)) for column in config.columns],
        preprocessing=model_pb2.Preprocessing(scale=config.level) if config.level else None,
        encoder=model_pb2.Graph(
            file=bundle.ENCODER,
            input_name=onnx_graphs.ENCODER_INPUT,
            output_names=onnx_graphs.ENCODER_OUTPUTS,
        ),
        decoder=model_pb2.Graph(
            file=bundle.DECODER,
            input_name=onnx_graphs.DECODER_INPUT,
            output_names=onnx_graphs.DECODER_OUTPUTS,
        ),
        files=[bundle.digest(file, content) for file, content in files.items()],
        training=_training(config, summary),
        tool_versions={tool: metadata.version(tool) for tool in _TOOLS},
    )
    return files, info


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


def _next_version(model_folder: Path) -> int:
    """One above the highest version in a model's folder."""
    if not model_folder.is_dir():
        return 1
    names = [path.name for path in model_folder.iterdir()]
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1
