"""The Open Inference Protocol's calls that run nothing: what there is, and how it is doing."""

from collections.abc import Callable, Mapping

from vaeserve._version import __version__
from vaeserve.inference import grpc_service_pb2 as pb
from vaeserve_server.errors import InvalidArgument, ServiceError
from vaeserve_server.models import Catalogue
from vaeserve_server.oip_models import PARTS, OipModel, OipModels, Part, TensorSpec
from vaeserve_server.oip_statistics import statistics_of
from vaeserve_server.oip_tensors import FP32
from vaeserve_server.shared_memory import Regions
from vaeserve_server.statistics import GraphStatistics

_EXTENSIONS = ("model_configuration", "model_repository", "statistics", "system_shared_memory")
_PLATFORMS = {
    Part.ENCODER: "onnxruntime_onnx",
    Part.DECODER: "onnxruntime_onnx",
    Part.WHOLE: "ensemble",
}
_BACKEND = "vaeserve"

_NamesModel = (
    pb.ModelReadyRequest
    | pb.ModelMetadataRequest
    | pb.ModelConfigRequest
    | pb.ModelStatisticsRequest
)


class OipCatalogueHandlers:
    """Handlers of everything but the two infer methods; they answer at once."""

    def __init__(
        self,
        catalogue: Callable[[], Catalogue],
        models: OipModels,
        regions: Regions,
        statistics: Mapping[tuple[str, str], GraphStatistics],
        ready: Callable[[str], bool],
    ) -> None:
        """Make the handlers.

        Args:
            catalogue: what is served now; raises Unavailable while loading.
            models: the catalogue as the protocol's models.
            regions: shared memory.
            statistics: of each graph, by model and graph.
            ready: whether all is served, for "", or the model of that name.
        """
        self._catalogue = catalogue
        self._models = models
        self._regions = regions
        self._statistics = statistics
        self._ready = ready

    def server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """An answer is enough."""
        return pb.ServerLiveResponse(live=True)

    def server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """What the health service says of the whole."""
        return pb.ServerReadyResponse(ready=self._ready(""))

    def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """What the health service says of the model; False where there is none such."""
        try:
            model = self._get(request)
        except ServiceError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._ready(model.vae.info.name))

    def server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Name, version and extensions."""
        return pb.ServerMetadataResponse(
            name="vaeserve", version=__version__, extensions=_EXTENSIONS
        )

    def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Inputs and outputs, with the batch axis."""
        model = self._get(request)
        return pb.ModelMetadataResponse(
            name=model.name,
            versions=[model.version],
            platform=_PLATFORMS[model.part],
            inputs=[_metadata(model.input)],
            outputs=[_metadata(spec) for spec in model.outputs],
        )

    def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """Inputs and outputs without the batch axis, and how requests are scheduled."""
        model = self._get(request)
        config = pb.ModelConfig(
            name=model.name,
            platform=_PLATFORMS[model.part],
            backend=_BACKEND,
            max_batch_size=model.max_rows,
            input=[
                pb.ModelInput(name=model.input.name, data_type=pb.TYPE_FP32, dims=model.input.shape)
            ],
            output=[
                pb.ModelOutput(name=spec.name, data_type=pb.TYPE_FP32, dims=spec.shape)
                for spec in model.outputs
            ],
        )
        config.parameters["latent_space_id"].string_value = model.vae.info.latent_space_id
        if model.part is Part.WHOLE:
            config.ensemble_scheduling.step.extend(_pipeline(model))
        else:
            config.dynamic_batching.SetInParent()
        return pb.ModelConfigResponse(config=config)

    def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """What one model has done, or every one where the name is empty."""
        if request.name:
            models = [self._get(request)]
        else:
            models = [model for _, model in sorted(self._models.all(self._catalogue()).items())]
        counts = [statistics_of(model, self._statistics) for model in models]
        return pb.ModelStatisticsResponse(model_stats=counts)

    def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """Every model folder's models, with the reason where a version was refused."""
        if request.repository_name:
            raise InvalidArgument(
                "there is one repository, without a name",
                reason="INVALID_OPTION",
                field="repository_name",
            )
        catalogue = self._catalogue()
        reply = pb.RepositoryIndexResponse()
        served = self._models.all(catalogue)
        refused = {
            name + part.value: reason
            for part in PARTS
            for name, reason in catalogue.problems.items()
        }
        for name in sorted(served.keys() | refused.keys()):
            model = served.get(name)
            if model is not None or not request.ready:
                reply.models.add(
                    name=name,
                    version=model.version if model else "",
                    state="READY" if model else "UNAVAILABLE",
                    reason=refused.get(name, ""),
                )
        return reply

    def register(
        self, request: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Take a region of shared memory."""
        self._regions.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    def unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Forget one region, or all."""
        self._regions.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def memory_status(
        self, request: pb.SystemSharedMemoryStatusRequest
    ) -> pb.SystemSharedMemoryStatusResponse:
        """One region, or all."""
        regions = self._regions.all()
        if request.name:
            regions = {request.name: self._regions.get(request.name, "name")}
        reply = pb.SystemSharedMemoryStatusResponse()
        for name, region in regions.items():
            status = reply.regions[name]
            status.name, status.key = name, region.key
            status.offset, status.byte_size = region.offset, region.byte_size
        return reply

    def cuda_memory_status(
        self, _: pb.CudaSharedMemoryStatusRequest
    ) -> pb.CudaSharedMemoryStatusResponse:
        """None: there is no way to register any."""
        return pb.CudaSharedMemoryStatusResponse()

    def cuda_unregister(
        self, _: pb.CudaSharedMemoryUnregisterRequest
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """There is none, as asked; clients make sure of that before they begin."""
        return pb.CudaSharedMemoryUnregisterResponse()

    def _get(self, request: _NamesModel) -> OipModel:
        return self._models.get(self._catalogue(), request.name, request.version)


def _pipeline(model: OipModel) -> list[pb.ModelEnsembling.Step]:
    """The two graphs that the whole is made of, without a draw; mu is the latent."""
    encoder, decoder = model.vae.info.encoder, model.vae.info.decoder
    x, mu = encoder.input_name, encoder.output_names[0]
    z, x_hat = decoder.input_name, decoder.output_names[0]
    name = model.vae.info.name
    return [
        pb.ModelEnsembling.Step(
            model_name=name + Part.ENCODER.value,
            model_version=model.vae.info.version,
            input_map={x: x},
            output_map={mu: mu},
        ),
        pb.ModelEnsembling.Step(
            model_name=name + Part.DECODER.value,
            model_version=model.vae.info.version,
            input_map={z: mu},
            output_map={x_hat: x_hat},
        ),
    ]


def _metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=FP32, shape=(-1, *spec.shape)
    )
