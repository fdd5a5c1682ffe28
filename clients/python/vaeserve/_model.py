"""The blocking handle of a model. Its twin is `_async_model`; what both share is pure."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vaeserve import _latent_requests, _requests
from vaeserve._foreign import PictureLike
from vaeserve._latents import Array
from vaeserve._model_streams import ModelStreams
from vaeserve._results import Generated, Posterior, Score


class Model(ModelStreams):
    """A model of the server, by name. Made by `Client.model`; any number of threads may use it.

    Rows go in and come out as numpy arrays. A batch has the shape [rows, *info.input_shape] (or
    latent_shape); one row may be given without the batch axis, and comes back as a batch of one.
    Pictures are uint8 levels, sent as they are, or floats in model values; tensors of PyTorch and
    pictures of Pillow, one or a list, are taken as they are. Calls of any size are
    split to fit the server's limits, without changing a bit of the result; the parts are sent a few
    at a time.

    Every call raises InvalidInput for input that does not fit, and any other VaeserveError when it
    fails.

    Attributes:
        name: name of the model.
        version: the version held on to, or None.
    """

    def encode(
        self,
        x: PictureLike,
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> Posterior:
        """Posterior q(z|x) of each row.

        Args:
            x: pictures, [rows, *input_shape].
            draws: draws per row made by the server; `Posterior.sample` makes the same ones here.
            seed: seed of the draws, 0 .. 2^64 - 1; None for a fresh one, returned with the result.
            first_row: absolute number of the first row, below 2^40, to continue an earlier call's
                draws.
            timeout: seconds; None for the client's.
        """
        return self._run(
            self._connection.vae.Encode,
            timeout,
            lambda info: _requests.encode(
                info, self.version or 0, x, draws=draws, seed=seed, first_row=first_row
            ),
        )

    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        temperature: float = 1.0,
        prior: str = "standard",
        first_row: int = 0,
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generated:
        """Draw latents from the prior and decode them.

        Args:
            n: number of rows, at least 1.
            seed: 0 .. 2^64 - 1; None for a fresh one, returned with the result.
            temperature: standard deviation of the draws, 0 .. 10; of the fitted prior, a factor of
                each component's.
            prior: "standard" for N(0, I); "fitted" for the mixture fitted to the model's posterior
                (`ModelInfo.prior`), whose draws stay where the decoder was trained.
            first_row: absolute number of the first row, below 2^40: 10 continues a call for n = 10.
            latents: also return what was decoded.
            dtype: float32 for model values, uint8 for levels.
            timeout: seconds; None for the client's.
        """
        return self._run(
            self._connection.vae.Sample,
            timeout,
            lambda info: _requests.sample(
                info,
                self.version or 0,
                n,
                seed=seed,
                temperature=temperature,
                prior=prior,
                first_row=first_row,
                latents=latents,
                dtype=dtype,
            ),
        )

    def decode(
        self,
        z: npt.ArrayLike,
        *,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Array:
        """Mean of p(x|z) of each latent row.

        Args:
            z: [rows, *latent_shape]; `Latents` of another model are refused.
            dtype: float32 for model values, uint8 for levels.
            timeout: seconds; None for the client's.

        Returns:
            [rows, *input_shape], a plain array: it carries no `latency`, ask `vaeserve.timed`.
        """
        return self._run(
            self._connection.vae.Decode,
            timeout,
            lambda info: _requests.decode(info, self.version or 0, z, dtype=dtype),
        )

    def reconstruct(
        self,
        x: PictureLike,
        *,
        draw: bool = False,
        seed: int | None = None,
        first_row: int = 0,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Array:
        """Encode and decode in one call.

        Args:
            x: pictures, [rows, *input_shape].
            draw: decode a draw from the posterior of each row instead of its mean.
            seed: seed of the draws, 0 .. 2^64 - 1; None for a fresh one.
            first_row: as for `encode`.
            dtype: float32 for model values, uint8 for levels.
            timeout: seconds; None for the client's.

        Returns:
            [rows, *input_shape], a plain array: it carries no `latency`, ask `vaeserve.timed`.
        """
        return self._run(
            self._connection.vae.Reconstruct,
            timeout,
            lambda info: _requests.reconstruct(
                info, self.version or 0, x, draw=draw, seed=seed, first_row=first_row, dtype=dtype
            ),
        )

    def interpolate(
        self,
        start: PictureLike,
        end: PictureLike,
        *,
        steps: int = 8,
        path: str = "lerp",
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generated:
        """Decode a path through latent space between each pair of rows.

        Args:
            start: first ends: pictures, or `Latents`.
            end: last ends, of the same kind and shape.
            steps: points on each path, both ends included, at least 2.
            path: "lerp" for a straight line; "slerp" for a great circle, which keeps the norms of a
                prior's draws.
            latents: also return the points.
            dtype: float32 for model values, uint8 for levels.
            timeout: seconds; None for the client's.

        Returns:
            Pictures [pairs, steps, *input_shape], or [steps, *input_shape] for one pair without a
            batch axis.
        """
        return self._run(
            self._connection.vae.Interpolate,
            timeout,
            lambda info: _requests.interpolate(
                info,
                self.version or 0,
                start,
                end,
                steps=steps,
                path=path,
                latents=latents,
                dtype=dtype,
            ),
        )

    def edit(
        self,
        rows: PictureLike,
        amounts: Mapping[str, float],
        *,
        preserve: Sequence[str] = (),
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generated:
        """Move rows along attribute directions, and decode them.

        Args:
            rows: pictures, [rows, *input_shape], moved from their posterior means; or `Latents`.
            amounts: by attribute (`ModelInfo.attributes`), -100 .. 100: 1 goes the way from the
                mean of the rows without the attribute to the mean of those with it, -1 back.
            preserve: attributes that shall stay as they are: what the directions share with theirs
                is left out.
            latents: also return the moved latents.
            dtype: float32 for model values, uint8 for levels.
            timeout: seconds; None for the client's.

        Raises:
            NotFound: the model has no such attribute.
            FailedPrecondition: it has none at all.
        """
        return self._run(
            self._connection.vae.Edit,
            timeout,
            lambda info: _latent_requests.edit(
                info,
                self.version or 0,
                rows,
                amounts,
                preserve=preserve,
                latents=latents,
                dtype=dtype,
            ),
        )

    def score(
        self,
        x: PictureLike,
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> Score:
        """How well the model knows each row.

        Args:
            x: pictures, [rows, *input_shape].
            draws: posterior draws per row; 0 takes everything at mu, without noise.
            seed: seed of the draws, 0 .. 2^64 - 1; None for a fresh one, returned with the result.
            first_row: as for `encode`.
            timeout: seconds; None for the client's.
        """
        return self._run(
            self._connection.vae.Score,
            timeout,
            lambda info: _latent_requests.score(
                info, self.version or 0, x, draws=draws, seed=seed, first_row=first_row
            ),
        )
