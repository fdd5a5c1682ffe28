"""The table of methods, and how one message is answered, whichever transport brought it."""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError, Message

from vaeserve.inference import grpc_service_pb2 as oip_pb
from vaeserve.v1 import model_service_pb2, vae_service_pb2 as vae_pb
from vaeserve_server.call import Call, Drive, Handled, Plain, Reply, answer_with, serialised
from vaeserve_server.catalogue import ModelHandlers
from vaeserve_server.layouts import Layouts
from vaeserve_server.oip import OIP_SERVICE, InferHandlers
from vaeserve_server.oip_catalogue import OipCatalogueHandlers
from vaeserve_server.vae import VaeHandlers
from vaeserve_server.wire_walk import check, malformed

VAE_SERVICE = "vaeserve.v1.VaeService"
MODEL_SERVICE = "vaeserve.v1.ModelService"

# A message of more bytes is looked through before it is parsed: it may be made to grow. Parsing it
# also takes longer than giving it to another thread.
LARGE_BYTES = 256 * 1024

UNARY = "unary"
SERVER_STREAM = "server_stream"
BIDI_STREAM = "bidi_stream"


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        path: "/package.Service/Method".
        request_type: message class of the request.
        handler: answers one request.
        kind: `unary`, or a stream: its requests are answered one by one, in order.
        layouts: of messages seen before.
        parts: of a stream's request, smaller requests that are answered in its place; made one
            after the other, as fast as the caller reads the answers.
    """

    path: str
    request_type: type[Message]
    handler: Callable[[Any], Handled]
    kind: str = UNARY
    parts: Callable[[Any], Iterable[Any]] | None = None
    layouts: Layouts = field(default_factory=Layouts)

    def answer(self, request: bytes | Message, call: Call, reply: Reply) -> None:
        """Parse, handle, and pass the reply or the error on, once, on whichever thread has it."""
        try:
            handled = self._asked_for(request)
            if isinstance(handled, Plain):
                graph, rows, build = handled
                graph.submit(rows, call, partial(answer_with, build, reply))
            elif isinstance(handled, Generator):
                Drive(handled, call, reply).go_on()
            else:
                reply(serialised(handled))
        except Exception as error:  # noqa: BLE001  every failure is the caller's to see
            reply(error)

    def requests(self, data: bytes) -> Iterator[bytes | Message]:
        """What a stream's message asks for: itself, or its parts.

        Raises:
            InvalidArgument: the bytes are no such message, or one that would grow.
        """
        return iter((data,) if self.parts is None else self.parts(self._parse(data)))

    def _asked_for(self, request: bytes | Message) -> Handled:
        if not isinstance(request, bytes):
            return self.handler(request)
        known = self.layouts.find(request)
        if known is not None:
            return known
        handled = self._handle(request)
        if isinstance(handled, Plain):
            self.layouts.learn(request, handled, self._handle)
        return handled

    def _handle(self, data: bytes) -> Handled:
        return self.handler(self._parse(data))

    def _parse(self, data: bytes) -> Message:
        if len(data) > LARGE_BYTES:
            check(data, self.request_type)
        try:
            return self.request_type.FromString(data)
        except DecodeError as error:
            raise malformed(self.request_type.DESCRIPTOR.full_name) from error


def oip_methods(infer: InferHandlers, catalogue: OipCatalogueHandlers) -> list[Method]:
    """Every method of the Open Inference Protocol."""
    handlers: dict[type[Message], Callable[[Any], Handled]] = {
        oip_pb.ServerLiveRequest: catalogue.server_live,
        oip_pb.ServerReadyRequest: catalogue.server_ready,
        oip_pb.ModelReadyRequest: catalogue.model_ready,
        oip_pb.ServerMetadataRequest: catalogue.server_metadata,
        oip_pb.ModelMetadataRequest: catalogue.model_metadata,
        oip_pb.ModelConfigRequest: catalogue.model_config,
        oip_pb.ModelStatisticsRequest: catalogue.model_statistics,
        oip_pb.RepositoryIndexRequest: catalogue.repository_index,
        oip_pb.ModelInferRequest: infer.infer,
        oip_pb.SystemSharedMemoryStatusRequest: catalogue.memory_status,
        oip_pb.SystemSharedMemoryRegisterRequest: catalogue.register,
        oip_pb.SystemSharedMemoryUnregisterRequest: catalogue.unregister,
        oip_pb.CudaSharedMemoryStatusRequest: catalogue.cuda_memory_status,
        oip_pb.CudaSharedMemoryUnregisterRequest: catalogue.cuda_unregister,
    }
    return [
        *(
            Method(f"/{OIP_SERVICE}/{request.__name__.removesuffix('Request')}", request, handler)
            for request, handler in handlers.items()
        ),
        Method(
            f"/{OIP_SERVICE}/ModelStreamInfer",
            oip_pb.ModelInferRequest,
            infer.stream_infer,
            BIDI_STREAM,
        ),
    ]


def method_table(vae: VaeHandlers, models: ModelHandlers) -> list[Method]:
    """Every method of our two services."""
    catalogue = model_service_pb2
    return [
        Method(f"/{VAE_SERVICE}/Encode", vae_pb.EncodeRequest, vae.encode),
        Method(f"/{VAE_SERVICE}/Sample", vae_pb.SampleRequest, vae.sample),
        Method(f"/{VAE_SERVICE}/Decode", vae_pb.DecodeRequest, vae.decode),
        Method(f"/{VAE_SERVICE}/Reconstruct", vae_pb.ReconstructRequest, vae.reconstruct),
        Method(f"/{VAE_SERVICE}/Interpolate", vae_pb.InterpolateRequest, vae.interpolate),
        Method(f"/{VAE_SERVICE}/Edit", vae_pb.EditRequest, vae.edit),
        Method(f"/{VAE_SERVICE}/Score", vae_pb.ScoreRequest, vae.score),
        Method(f"/{VAE_SERVICE}/EncodeStream", vae_pb.EncodeRequest, vae.encode, BIDI_STREAM),
        Method(f"/{VAE_SERVICE}/DecodeStream", vae_pb.DecodeRequest, vae.decode, BIDI_STREAM),
        Method(
            f"/{VAE_SERVICE}/SampleStream",
            vae_pb.SampleRequest,
            vae.sample,
            SERVER_STREAM,
            vae.sample_parts,
        ),
        Method(f"/{MODEL_SERVICE}/ListModels", catalogue.ListModelsRequest, models.list_models),
        Method(f"/{MODEL_SERVICE}/GetModel", catalogue.GetModelRequest, models.get_model),
    ]
