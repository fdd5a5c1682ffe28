"""A model's calls on more rows than fit into memory, awaited. The twin is `_model_streams`."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable

import numpy as np
import numpy.typing as npt

from vaeserve import _requests
from vaeserve._async_handle import AsyncHandle
from vaeserve._foreign import PictureLike
from vaeserve._info import ModelInfo
from vaeserve._latents import Array
from vaeserve._results import Generated, Posterior
from vaeserve._streams import DecodePlan, EncodePlan, each, encode_planner, sample_plans


class AsyncModelStreams(AsyncHandle):
    """The streaming calls of a model's asyncio handle."""

    def encode_stream(
        self,
        batches: Iterable[PictureLike] | AsyncIterable[PictureLike],
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> AsyncGenerator[Posterior, None]:
        """As `Model.encode_stream`; the batches may be awaited too.

        They are iterated by a task of their own. A result is yielded when it is there and those
        before it are, also while the next batch is waited for.
        """

        async def plans(info: ModelInfo) -> AsyncIterator[EncodePlan]:
            plan_for = encode_planner(
                info, self.version or 0, draws=draws, seed=seed, first_row=first_row
            )
            async for x in each(batches):
                yield plan_for(x)

        return self._stream(self._connection.vae.Encode, timeout, plans)

    def decode_stream(
        self,
        batches: Iterable[npt.ArrayLike] | AsyncIterable[npt.ArrayLike],
        *,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> AsyncGenerator[Array, None]:
        """As `Model.decode_stream`; the batches may be awaited too."""

        async def plans(info: ModelInfo) -> AsyncIterator[DecodePlan]:
            async for z in each(batches):
                yield _requests.decode(info, self.version or 0, z, dtype=dtype)

        return self._stream(self._connection.vae.Decode, timeout, plans)

    def sample_stream(
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
    ) -> AsyncGenerator[Generated, None]:
        """As `Model.sample_stream`."""
        return self._stream(
            self._connection.vae.Sample,
            timeout,
            lambda info: each(
                sample_plans(
                    info,
                    self.version or 0,
                    n,
                    seed=seed,
                    first_row=first_row,
                    temperature=temperature,
                    prior=prior,
                    latents=latents,
                    dtype=dtype,
                )
            ),
        )
