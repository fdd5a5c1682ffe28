"""A real gRPC server on a loopback port that answers by simple arithmetic and fails on request.

It enforces its limits, so a client that does not split gets refused.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
import numpy as np
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from unit.client.scripted_model import (
    ATTRIBUTES,
    INPUT_SHAPE,
    LATENT_SHAPE,
    PRIOR_MEAN,
    SPACE,
    Floats,
    draw,
    encode,
    model_values,
    pictures_of,
)
from vaeserve.v1 import (
    arrays,
    model_pb2,
    model_service_pb2 as models_pb,
    model_service_pb2_grpc as models_grpc,
    noise,
    tensor_pb2,
    vae_service_pb2 as pb,
    vae_service_pb2_grpc as vae_grpc,
)


@dataclass
class Failure:
    """A status to end one call with."""

    code: grpc.StatusCode
    reason: str = ""
    retry_after: float | None = None
    violations: tuple[tuple[str, str], ...] = ()
    message: str = "as scripted"

    def status(self) -> Any:
        """The status with its details, as the server sends it."""
        details: list[Message] = []
        if self.reason:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason, domain="vaeserve"))
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromMicroseconds(int(self.retry_after * 1e6))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if self.violations:
            request = error_details_pb2.BadRequest()
            for path, description in self.violations:
                request.field_violations.add(field=path, description=description)
            details.append(request)
        packed = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        return rpc_status.to_status(status)


@dataclass
class Script(vae_grpc.VaeServiceServicer, models_grpc.ModelServiceServicer):
    """What the server does, and what it was asked.

    Attributes:
        failures: ends this many calls of VaeService, in order, before answering again.
        before: called with each request of VaeService before it is answered.
        requests: every request so far, in the order of arrival.
        timeouts: seconds the caller had left at each of them.
    """

    max_rows: int = 8
    max_draws: int = 0
    max_message_bytes: int = 64 << 20
    version: int = 3
    levels: bool = True
    failures: deque[Failure] = field(default_factory=deque)
    before: Callable[[Any], object] | None = None
    requests: list[Message] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    address: str = ""

    def sent(self, kind: type[Message]) -> list[Any]:
        """Requests of one kind."""
        return [request for request in self.requests if isinstance(request, kind)]

    def ListModels(self, request: models_pb.ListModelsRequest, context: Any) -> Any:  # noqa: N802
        self._note(request, context)
        return models_pb.ListModelsResponse(
            models=[
                models_pb.ModelState(name="digits", version=self.version, ready=True),
                models_pb.ModelState(name="faces", problem="encoder.onnx: digest differs"),
            ]
        )

    def GetModel(self, request: models_pb.GetModelRequest, context: Any) -> Any:  # noqa: N802
        self._note(request, context)
        if request.name != "digits" or request.version not in (0, self.version):
            _fail(context, Failure(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"))
        model = model_pb2.ModelInfo(
            name="digits",
            version=self.version,
            input_shape=INPUT_SHAPE,
            latent_shape=LATENT_SHAPE,
            latent_space_id=SPACE,
            likelihood=model_pb2.LIKELIHOOD_BERNOULLI,
            limits=model_pb2.Limits(
                max_rows=self.max_rows,
                max_message_bytes=self.max_message_bytes,
                max_draws=self.max_draws,
            ),
            attributes=[
                model_pb2.Attribute(name=name, method="logistic", auc=0.9, positives=3, negatives=7)
                for name in ATTRIBUTES
            ],
            prior=model_pb2.FittedPrior(
                components=2, rows=10, held_out_nats=5.5, standard_nats=6.5
            ),
            latent_statistics=model_pb2.LatentStatistics(
                mu_mean=[0.5] * 4, mu_variance=[0.25] * 4, sigma2_mean=[0.75] * 4
            ),
        )
        if self.levels:
            model.preprocessing.scale = 1 / 255
        return models_pb.GetModelResponse(model=model)

    def Encode(self, request: pb.EncodeRequest, context: Any) -> Any:  # noqa: N802
        self._begin(request, context)
        mu, log_var = self._posterior(request.input, context)
        reply = pb.EncodeResponse(
            version=self.version,
            latent_space_id=SPACE,
            mu=arrays.to_tensor(mu),
            log_var=arrays.to_tensor(log_var),
        )
        if request.draws:
            drawn = draw(mu, log_var, request.seed, request.first_row, request.draws)
            reply.draws.CopyFrom(arrays.to_tensor(drawn))
            reply.seed = request.seed
        return self._sized(reply, context)

    def Sample(self, request: pb.SampleRequest, context: Any) -> Any:  # noqa: N802
        self._begin(request, context)
        self._check_rows(request.n, context)
        eps = noise.standard_normal(
            request.seed,
            noise.Stream.PRIOR,
            first_row=request.first_row,
            rows=request.n,
            size=LATENT_SHAPE[0],
        )
        z = np.float32(request.temperature) * eps[:, 0]
        if request.prior == pb.PRIOR_FITTED:
            z += PRIOR_MEAN
        reply = pb.SampleResponse(version=self.version, latent_space_id=SPACE, seed=request.seed)
        reply.x_hat.CopyFrom(pictures_of(z, request.x_hat_dtype))
        if pb.GENERATE_OUTPUT_LATENTS in request.outputs:
            reply.latents.CopyFrom(arrays.to_tensor(z))
        return self._sized(reply, context)

    def Decode(self, request: pb.DecodeRequest, context: Any) -> Any:  # noqa: N802
        self._begin(request, context)
        if request.latent_space_id not in ("", SPACE):
            _fail(context, Failure(grpc.StatusCode.FAILED_PRECONDITION, "LATENT_SPACE_MISMATCH"))
        z = model_values(request.latents)
        self._check_rows(len(z), context)
        x_hat = pictures_of(z, request.x_hat_dtype)
        return self._sized(pb.DecodeResponse(version=self.version, x_hat=x_hat), context)

    def Reconstruct(self, request: pb.ReconstructRequest, context: Any) -> Any:  # noqa: N802
        self._begin(request, context)
        z, log_var = self._posterior(request.input, context)
        if request.draw:
            z = draw(z, log_var, request.seed, request.first_row, 1)[:, 0]
        x_hat = pictures_of(z, request.x_hat_dtype)
        return self._sized(pb.ReconstructResponse(version=self.version, x_hat=x_hat), context)

    def Interpolate(self, request: pb.InterpolateRequest, context: Any) -> Any:  # noqa: N802
        self._begin(request, context)
        start, end = model_values(request.start), model_values(request.end)
        self._check_rows(len(start) * request.steps, context)
        if request.space != pb.INTERPOLATION_SPACE_LATENT:
            start, end = (encode(end_)[0] for end_ in (start, end))
        t = np.linspace(0, 1, request.steps, dtype=np.float32)[:, np.newaxis]
        z = (1 - t) * start[:, np.newaxis] + t * end[:, np.newaxis]
        reply = pb.InterpolateResponse(version=self.version, latent_space_id=SPACE)
        reply.x_hat.CopyFrom(pictures_of(z, request.x_hat_dtype))
        if pb.GENERATE_OUTPUT_LATENTS in request.outputs:
            reply.latents.CopyFrom(arrays.to_tensor(z))
        return self._sized(reply, context)

    def Edit(self, request: pb.EditRequest, context: Any) -> Any:  # noqa: N802
        self._begin(request, context)
        if request.WhichOneof("rows") == "input":
            z, _ = self._posterior(request.input, context)
        else:
            z = model_values(request.latents)
            self._check_rows(len(z), context)
        for name, amount in request.amounts.items():
            z = z + np.float32(amount) * ATTRIBUTES[name]
        reply = pb.EditResponse(version=self.version, latent_space_id=SPACE)
        reply.x_hat.CopyFrom(pictures_of(z, request.x_hat_dtype))
        if pb.GENERATE_OUTPUT_LATENTS in request.outputs:
            reply.latents.CopyFrom(arrays.to_tensor(z))
        return self._sized(reply, context)

    def Score(self, request: pb.ScoreRequest, context: Any) -> Any:  # noqa: N802
        self._begin(request, context)
        mu, log_var = self._posterior(request.input, context)
        if self.max_draws and len(mu) * request.draws > self.max_draws:
            _fail(context, Failure(grpc.StatusCode.OUT_OF_RANGE, "TOO_MANY_ROWS"))
        z = mu[:, None]
        reply = pb.ScoreResponse(version=self.version)
        if request.draws:
            z = draw(mu, log_var, request.seed, request.first_row, request.draws)
            reply.seed = request.seed
            reply.importance_weighted_nats.CopyFrom(arrays.to_tensor(z.min((1, 2))))
        terms = z.mean((1, 2)), mu.sum(1)
        for tensor, values in (
            (reply.reconstruction_nats, terms[0]),
            (reply.kl_nats, terms[1]),
            (reply.negative_elbo_nats, terms[0] + terms[1]),
            (reply.percentile, mu[:, 0] * np.float32(50)),
            (reply.typicality, mu[:, 0] * np.float32(0.5)),
        ):
            tensor.CopyFrom(arrays.to_tensor(values))
        return self._sized(reply, context)

    def EncodeStream(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        for request in requests:
            yield self.Encode(request, context)

    def DecodeStream(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        for request in requests:
            yield self.Decode(request, context)

    def SampleStream(self, request: pb.SampleRequest, context: Any) -> Iterator[Any]:  # noqa: N802
        yield self.Sample(request, context)

    def _note(self, request: Message, context: Any) -> None:
        self.requests.append(request)
        self.timeouts.append(context.time_remaining())

    def _begin(self, request: Message, context: Any) -> None:
        self._note(request, context)
        if self.before:
            self.before(request)
        if self.failures:
            _fail(context, self.failures.popleft())
        if request.ByteSize() > self.max_message_bytes:
            _fail(context, Failure(grpc.StatusCode.RESOURCE_EXHAUSTED))

    def _posterior(self, tensor: tensor_pb2.Tensor, context: Any) -> tuple[Floats, Floats]:
        self._check_rows(tensor.shape[0], context)
        return encode(model_values(tensor))

    def _check_rows(self, rows: int, context: Any) -> None:
        if rows > self.max_rows:
            _fail(context, Failure(grpc.StatusCode.OUT_OF_RANGE, "TOO_MANY_ROWS"))

    def _sized(self, reply: Message, context: Any) -> Message:
        if reply.ByteSize() > self.max_message_bytes:
            _fail(context, Failure(grpc.StatusCode.RESOURCE_EXHAUSTED))
        return reply


@contextmanager
def serving(script: Script, at: str = "127.0.0.1:0") -> Iterator[Script]:
    """Run the server while the block lasts; `script.address` says where."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    vae_grpc.add_VaeServiceServicer_to_server(script, server)
    models_grpc.add_ModelServiceServicer_to_server(script, server)
    script.address = at.replace(":0", f":{server.add_insecure_port(at)}")
    server.start()
    try:
        yield script
    finally:
        stopped: threading.Event = server.stop(None)
        stopped.wait()


def _fail(context: Any, failure: Failure) -> NoReturn:
    context.abort_with_status(failure.status())
    raise AssertionError("abort raises")
