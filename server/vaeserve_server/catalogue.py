"""vaeserve.v1.ModelService: which models there are, and what they are."""

from collections.abc import Callable

from vaeserve.v1 import model_service_pb2 as pb
from vaeserve_server.models import Catalogue


class ModelHandlers:
    """Handlers of vaeserve.v1.ModelService; they answer at once."""

    def __init__(self, catalogue: Callable[[], Catalogue]) -> None:
        """Make the handlers.

        Args:
            catalogue: what is served now; raises Unavailable while loading.
        """
        self._catalogue = catalogue

    def list_models(self, _: pb.ListModelsRequest) -> pb.ListModelsResponse:
        """Every model folder and its state."""
        catalogue = self._catalogue()
        names = sorted(catalogue.models.keys() | catalogue.problems.keys())
        states = []
        for name in names:
            served = catalogue.models.get(name)
            states.append(
                pb.ModelState(
                    name=name,
                    version=served.info.version if served else 0,
                    ready=served is not None,
                    problem=catalogue.problems.get(name, ""),
                )
            )
        return pb.ListModelsResponse(models=states)

    def get_model(self, request: pb.GetModelRequest) -> pb.GetModelResponse:
        """The manifest of a served model."""
        model = self._catalogue().get(request.name, request.version, field="name")
        return pb.GetModelResponse(model=model.info)
