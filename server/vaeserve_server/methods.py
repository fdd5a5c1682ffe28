"""The table of unary methods, and how one request is answered, whichever transport brought it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message

from vaeserve.v1 import model_service_pb2, vae_service_pb2 as vae_pb
from vaeserve_server.call import Call, Reply, Steps, drive
from vaeserve_server.catalogue import ModelHandlers
from vaeserve_server.errors import InvalidArgument
from vaeserve_server.vae import VaeHandlers

VAE_SERVICE = "vaeserve.v1.VaeService"
MODEL_SERVICE = "vaeserve.v1.ModelService"


@dataclass(frozen=True)
class Method:
    """A unary method.

    Attributes:
        path: "/package.Service/Method".
        request_type: message class of the request.
        handler: takes the parsed request.
    """

    path: str
    request_type: type[Message]
    handler: Callable[[Any], Steps | Message]

    def answer(self, data: bytes, call: Call, reply: Reply) -> None:
        """Parse, handle, and pass the reply or the error on, once, on whichever thread has it."""
        try:
            request = self.request_type.FromString(data)
        except DecodeError:
            kind = self.request_type.DESCRIPTOR.full_name
            reply(InvalidArgument(f"the message is no {kind}", reason="MALFORMED_MESSAGE"))
            return
        try:
            answer = self.handler(request)
        except Exception as error:  # noqa: BLE001  every failure is the caller's to see
            reply(error)
            return
        if isinstance(answer, Message):
            reply(answer)
        else:
            drive(answer, call, reply)


def method_table(vae: VaeHandlers, models: ModelHandlers) -> list[Method]:
    """Every unary method of our two services."""
    return [
        Method(f"/{VAE_SERVICE}/Encode", vae_pb.EncodeRequest, vae.encode),
        Method(f"/{VAE_SERVICE}/Sample", vae_pb.SampleRequest, vae.sample),
        Method(f"/{VAE_SERVICE}/Decode", vae_pb.DecodeRequest, vae.decode),
        Method(f"/{VAE_SERVICE}/Reconstruct", vae_pb.ReconstructRequest, vae.reconstruct),
        Method(f"/{VAE_SERVICE}/Interpolate", vae_pb.InterpolateRequest, vae.interpolate),
        Method(
            f"/{MODEL_SERVICE}/ListModels", model_service_pb2.ListModelsRequest, models.list_models
        ),
        Method(f"/{MODEL_SERVICE}/GetModel", model_service_pb2.GetModelRequest, models.get_model),
    ]
