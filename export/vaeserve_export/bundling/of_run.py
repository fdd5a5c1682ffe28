"""Export a run: what a finished training left behind becomes a bundle."""

from importlib import metadata
from pathlib import Path

import torch

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export import npz
from vaeserve_export.bundling import onnx_graphs
from vaeserve_export.bundling.golden import golden_rows
from vaeserve_export.bundling.publish import publish, require_name
from vaeserve_export.latent.fitted import into, read_run
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.run import RunConfig, Summary

_LIKELIHOODS = {
    "bernoulli": model_pb2.LIKELIHOOD_BERNOULLI,
    "continuous-bernoulli": model_pb2.LIKELIHOOD_CONTINUOUS_BERNOULLI,
    "gaussian": model_pb2.LIKELIHOOD_GAUSSIAN,
}
_TOOLS = ("vaeserve", "torch", "onnx", "onnxscript")


def export_run(run: Path, repository: Path, name: str, version: int | None = None) -> Path:
    """Export the best weights of a finished run; equal runs give equal bytes.

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
    require_name(name)  # before the work
    fitted = read_run(run)
    files, info = into(fitted, *_contents(run))
    return publish(files, info, repository, name, version)


def _contents(run: Path) -> tuple[dict[str, bytes], model_pb2.ModelInfo]:
    """The files of a bundle by name, and its manifest but for what `publish` fills in."""
    config, summary = run_folder.read_config(run), run_folder.read_summary(run)
    vae = run_folder.load_model(run)
    torch.set_num_threads(1)  # the golden bits must not depend on how many cores there are
    files = {
        bundle.ENCODER: onnx_graphs.encoder_graph(vae),
        bundle.DECODER: onnx_graphs.decoder_graph(vae),
        bundle.GOLDEN: npz.to_bytes(dict(golden_rows(vae))),
        bundle.CALIBRATION: run_folder.read_calibration(run),
    }
    likelihood = vae.likelihood  # "l2" is a Gaussian to it, and a variance may be learned
    info = model_pb2.ModelInfo(
        input_shape=config.input_shape,
        latent_shape=[config.settings.latent_dim],
        likelihood=_LIKELIHOODS[likelihood.name],
        gaussian_variance=likelihood.variance if likelihood.name == "gaussian" else 0.0,
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
