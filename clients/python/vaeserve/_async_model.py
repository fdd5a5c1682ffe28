"""The asyncio handle of a model: `_model` with `await`, by hand; all that is pure is shared."""

# ruff: noqa: ASYNC109  a timeout is the call's deadline, which is sent to the server

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vaeserve import _latent_requests, _requests
from vaeserve._async_model_streams import AsyncModelStreams
from vaeserve._foreign import PictureLike
from vaeserve._latents import Array
from vaeserve._results import Generated, Posterior, Score


class AsyncModel(AsyncModelStreams):
    """A model of the server, by name. Made by `AsyncClient.model`.

    As `Model`, with `await`; `info` is a method here, and streams are asynchronous iterators.

    Attributes:
        name: name of the model.
        version: the version held on to, or None.
    """

    async def encode(
        self,
        x: PictureLike,
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> Posterior:
        """As `Model.encode`."""
        return await self._run(
            self._connection.vae.Encode,
            timeout,
            lambda info: _requests.encode(
                info, self.version or 0, x, draws=draws, seed=seed, first_row=first_row
            ),
        )

    async def sample(
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
        """As `Model.sample`."""
        return await self._run(
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

    async def decode(
        self,
        z: npt.ArrayLike,
        *,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Array:
        """As `Model.decode`."""
        return await self._run(
            self._connection.vae.Decode,
            timeout,
            lambda info: _requests.decode(info, self.version or 0, z, dtype=dtype),
        )

    async def reconstruct(
        self,
        x: PictureLike,
        *,
        draw: bool = False,
        seed: int | None = None,
        first_row: int = 0,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Array:
        """As `Model.reconstruct`."""
        return await self._run(
            self._connection.vae.Reconstruct,
            timeout,
            lambda info: _requests.reconstruct(
                info, self.version or 0, x, draw=draw, seed=seed, first_row=first_row, dtype=dtype
            ),
        )

    async def interpolate(
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
        """As `Model.interpolate`."""
        return await self._run(
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

    async def edit(
        self,
        rows: PictureLike,
        amounts: Mapping[str, float],
        *,
        preserve: Sequence[str] = (),
        latents: bool = False,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generated:
        """As `Model.edit`."""
        return await self._run(
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

    async def score(
        self,
        x: PictureLike,
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> Score:
        """As `Model.score`."""
        return await self._run(
            self._connection.vae.Score,
            timeout,
            lambda info: _latent_requests.score(
                info, self.version or 0, x, draws=draws, seed=seed, first_row=first_row
            ),
        )
