"""ModelInfer and ModelStreamInfer of the Open Inference Protocol, through our own batchers."""

import time
from collections.abc import Callable, Generator

from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve_server import phases, rows
from vaeserve_server.call import Heavy, Outputs, Run, Steps
from vaeserve_server.errors import ServiceError
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Catalogue
from vaeserve_server.oip_models import OipModel, OipModels, Part
from vaeserve_server.oip_parameters import read_options
from vaeserve_server.oip_replies import check_places, in_stream, make_reply, wanted_outputs
from vaeserve_server.oip_tensors import read_input
from vaeserve_server.shared_memory import Regions
from vaeserve_server.status import status_of

OIP_SERVICE = "inference.GRPCInferenceService"

_Reply = Generator[Run | Heavy, Outputs, bytes]


class InferHandlers:
    """Handlers of the two methods that run a model."""

    def __init__(
        self,
        catalogue: Callable[[], Catalogue],
        models: OipModels,
        regions: Regions,
        metrics: Metrics,
    ) -> None:
        """Make the handlers.

        Args:
            catalogue: what is served now; raises Unavailable while loading.
            models: the catalogue as the protocol's models.
            regions: shared memory.
            metrics: takes the latent health.
        """
        self._catalogue = catalogue
        self._models = models
        self._regions = regions
        self._metrics = metrics

    def infer(self, request: pb.ModelInferRequest) -> Steps:
        """Run a model."""
        return (yield from self._counted(request))

    def stream_infer(self, request: pb.ModelInferRequest) -> Steps:
        """Run a model; an error is part of the answer, for the stream goes on after it."""
        try:
            reply = yield from self._counted(request)
        except Exception as error:  # noqa: BLE001  every failure is the caller's to see
            status = status_of(error, f"/{OIP_SERVICE}/ModelStreamInfer")
            answer = pb.ModelStreamInferResponse(
                error_message=f"[{status.code.name}] {status.details}",
                infer_response=pb.ModelInferResponse(id=request.id, model_name=request.model_name),
            )
            reason = error.reason if isinstance(error, ServiceError) else "INTERNAL"
            answer.infer_response.parameters["reason"].string_param = reason
            return answer
        return in_stream(reply)

    def _counted(self, request: pb.ModelInferRequest) -> _Reply:
        """The serialised reply; every end is counted."""
        model = self._models.get(
            self._catalogue(), request.model_name, request.model_version, prefix="model_"
        )
        start = time.monotonic_ns()
        try:
            return (yield from self._run(request, model, start))
        except Exception:
            model.count.failure(time.monotonic_ns() - start)
            raise

    def _run(self, request: pb.ModelInferRequest, model: OipModel, start: int) -> _Reply:
        options = read_options(request.parameters, model)
        wanted = wanted_outputs(request, model, self._regions)
        values = read_input(request, model, self._regions)
        check_places(wanted, model, len(values), 1 if options.levels else 4)
        if model.part is Part.ENCODER:
            posterior = yield from phases.encoded(model.vae, values)
            return make_reply(request, model, wanted, posterior)
        seed = None
        if model.part is Part.DECODER:
            (x_hat,) = yield from phases.decoded(model.vae, values)
        else:
            draw = None
            if options.draw:
                seed = rows.choose_seed() if options.seed is None else options.seed
                first_row = rows.check_first_row(options.first_row, len(values))
                draw = phases.Draw(seed, first_row, options.temperature)
            (x_hat,) = yield from phases.reconstructed(model.vae, values, draw, self._metrics)
        pictures = phases.pictures(x_hat, model.vae, levels=options.levels)
        reply = make_reply(request, model, wanted, (pictures,), seed)
        if model.part is Part.WHOLE:  # the others' graphs count for themselves
            model.count.answer(len(values), time.monotonic_ns() - start, int(time.time() * 1000))
        return reply
