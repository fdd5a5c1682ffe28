"""A bundle as a subject: its two graphs, by ONNX Runtime."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from torch import Tensor, from_numpy

# ONNX Runtime reports its use to its maker, from its import on, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export.data.rows import Column
from vaeserve_export.errors import VerifyError
from vaeserve_export.trained.subject import Origin
from vaeserve_export.vae.likelihood import Likelihood

LIKELIHOODS = {
    model_pb2.LIKELIHOOD_BERNOULLI: "bernoulli",
    model_pb2.LIKELIHOOD_CONTINUOUS_BERNOULLI: "continuous-bernoulli",
    model_pb2.LIKELIHOOD_GAUSSIAN: "gaussian",
}
"""The names that this package has for a manifest's likelihoods."""

ONNXRUNTIME_VERSION: str = ort.__version__


class BundleSubject:
    """The graphs of a bundle; a Subject.

    Latents of several axes are seen flat here, in row-major order, as prior.npz and attributes.npz
    have them.
    """

    def __init__(self, info: model_pb2.ModelInfo, files: Mapping[str, bytes], folder: Path) -> None:
        """Load the graphs.

        Args:
            info: the manifest.
            files: contents by name, of the two graphs at least.
            folder: where they are, or will be.
        """
        self.info = info
        self.origin = Origin(
            folder=folder,
            name=f"{info.name} {info.version}",
            data_sha256=info.training.data_sha256,
            beta=info.training.beta if info.HasField("training") else None,
            columns=tuple(Column(c.name, c.mean, c.scale) for c in info.columns),
            preprocessing=_preprocessing(info),
        )
        self.likelihood = Likelihood(LIKELIHOODS[info.likelihood], info.gaussian_variance)
        self.input_shape = tuple(info.input_shape)
        self.latent_dim = math.prod(info.latent_shape)
        self._encoder = _session(files[info.encoder.file])
        self._decoder = _session(files[info.decoder.file])

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Load the graphs of a version's folder.

        Raises:
            VerifyError: no sound bundle.
        """
        try:
            info = bundle.read_manifest(folder)
            files = bundle.read_files(folder, info)
        except bundle.BundleError as error:
            raise VerifyError(str(error)) from error
        return cls(info, files, folder)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See Subject."""
        mu, log_var = _run(self._encoder, self.info.encoder, x)
        return mu.flatten(1), log_var.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """See Subject."""
        latents = z.reshape(len(z), *self.info.latent_shape)
        (x_hat,) = _run(self._decoder, self.info.decoder, latents)
        return x_hat

    def reconstruction_nats(self, x: Tensor, z: Tensor) -> Tensor:
        """See Subject."""
        mean = self.decode(z.flatten(0, 1))
        return self.likelihood.mean_draw_nats(mean.view(*z.shape[:2], -1), x.flatten(1))


def _preprocessing(info: model_pb2.ModelInfo) -> tuple[float, float] | None:
    """As of Origin. A run's bundle, which has training figures, takes what the run was given."""
    if info.HasField("training") or not info.HasField("preprocessing"):
        return None
    return info.preprocessing.scale, info.preprocessing.offset


def _session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # as many as PyTorch takes, so that costs compare
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, graph: model_pb2.Graph, rows: Tensor) -> list[Tensor]:
    outputs = session.run(list(graph.output_names), {graph.input_name: rows.contiguous().numpy()})
    return [from_numpy(output) for output in outputs]
