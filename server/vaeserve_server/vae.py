"""The VAE calls.

Each handler converts, runs graphs, converts back; the mathematics is in `noise`, `paths`, `nats`.
"""

from collections.abc import Callable, Iterator

from vaeserve.v1 import arrays, vae_service_pb2 as pb
from vaeserve_server import rows
from vaeserve_server.call import Handled, Plain, Steps
from vaeserve_server.editing import edit
from vaeserve_server.encoding import encode
from vaeserve_server.interpolating import interpolate
from vaeserve_server.metrics import Metrics
from vaeserve_server.models import Catalogue, Model
from vaeserve_server.options import seed_of
from vaeserve_server.phases import Draw, reconstructed
from vaeserve_server.sampling import sample, sample_parts
from vaeserve_server.scoring import score

_Named = (
    pb.EncodeRequest
    | pb.SampleRequest
    | pb.DecodeRequest
    | pb.ReconstructRequest
    | pb.InterpolateRequest
    | pb.EditRequest
    | pb.ScoreRequest
)


class VaeHandlers:
    """Handlers of vaeserve.v1.VaeService: check, run, reply."""

    def __init__(self, catalogue: Callable[[], Catalogue], metrics: Metrics) -> None:
        """Make the handlers.

        Args:
            catalogue: what is served now; raises Unavailable while loading.
            metrics: takes the latent health.
        """
        self._catalogue = catalogue
        self._metrics = metrics

    def encode(self, request: pb.EncodeRequest) -> Handled:
        """Posterior of each row, and draws from it."""
        return encode(request, self._model(request))

    def sample(self, request: pb.SampleRequest) -> Handled:
        """Draws from the prior, decoded."""
        return sample(request, self._model(request))

    def sample_parts(self, request: pb.SampleRequest) -> Iterator[pb.SampleRequest]:
        """A SampleStream as Sample requests whose answers are about a megabyte each."""
        return sample_parts(request, self._model(request))

    def decode(self, request: pb.DecodeRequest) -> Handled:
        """Mean of p(x|z)."""
        model = self._model(request)
        rows.check_picture_dtype(request.x_hat_dtype, model)
        z = rows.latent_rows(request.latents, request.latent_space_id, model, "latents")
        of_levels = request.x_hat_dtype == arrays.UINT8
        build = model.forms.decoded_levels if of_levels else model.forms.decoded
        return Plain(model.decoder, rows.for_pictures(z, request.x_hat_dtype), build)

    def reconstruct(self, request: pb.ReconstructRequest) -> Steps:
        """Encode and decode, through mu or through a draw."""
        model = self._model(request)
        rows.check_picture_dtype(request.x_hat_dtype, model)
        x = rows.input_rows(request.input, model, "input")
        first_row = rows.check_first_row(request.first_row, len(x))
        reply = pb.ReconstructResponse(version=model.info.version)
        draw = None
        if request.draw:
            reply.seed = seed_of(request)
            draw = Draw(reply.seed, first_row)
        (x_hat,) = yield from reconstructed(model, x, draw, self._metrics)
        arrays.fill_tensor(reply.x_hat, rows.picture_rows(x_hat, request.x_hat_dtype, model))
        return reply

    def interpolate(self, request: pb.InterpolateRequest) -> Steps:
        """Decoded path between each pair of rows."""
        return interpolate(request, self._model(request))

    def edit(self, request: pb.EditRequest) -> Steps:
        """Rows moved along attribute directions, decoded."""
        return edit(request, self._model(request))

    def score(self, request: pb.ScoreRequest) -> Steps:
        """The terms of the bound of each row, and how usual they are."""
        return score(request, self._model(request), self._metrics)

    def _model(self, request: _Named) -> Model:
        return self._catalogue().get(request.model, request.version)
