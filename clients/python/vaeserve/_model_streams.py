"""A model's calls on more rows than fit into memory. The twin is `_async_model_streams`."""

from collections.abc import Generator, Iterable

import numpy as np
import numpy.typing as npt

from vaeserve import _requests
from vaeserve._foreign import PictureLike
from vaeserve._handle import Handle
from vaeserve._latents import Array
from vaeserve._results import Generated, Posterior
from vaeserve._streams import encode_planner, sample_plans


class ModelStreams(Handle):
    """The streaming calls of a model's handle."""

    def encode_stream(
        self,
        batches: Iterable[PictureLike],
        *,
        draws: int = 0,
        seed: int | None = None,
        first_row: int = 0,
        timeout: float | None = None,
    ) -> Generator[Posterior, None, None]:
        """Encode more rows than fit into memory, batch by batch.

        Batches are taken from the iterable as there is room: a few are under way at a time, and
        their results come in order. To end early, close the iterator or leave it behind.

        A result waits until the next batches are there: up to four are under way before the first
        is yielded, so the iterable must not wait for results. (`AsyncModel` yields results as they
        come, whatever the iterable waits for.)

        Args:
            batches: pictures, each as for `encode`; 256 rows or more travel best.
            draws: as for `encode`.
            seed: as for `encode`; one for all batches, whose rows are numbered through.
            first_row: as for `encode`, of the first batch.
            timeout: seconds for each request, of which a large batch takes several; one that failed
                and is repeated gets them anew when its turn comes.

        Yields:
            a posterior for each batch.

        Raises:
            VersionChanged: the served version changed meanwhile.
        """
        return self._stream(
            self._connection.vae.Encode,
            timeout,
            lambda info: map(
                encode_planner(
                    info, self.version or 0, draws=draws, seed=seed, first_row=first_row
                ),
                batches,
            ),
        )

    def decode_stream(
        self,
        batches: Iterable[npt.ArrayLike],
        *,
        dtype: npt.DTypeLike = np.float32,
        timeout: float | None = None,
    ) -> Generator[Array, None, None]:
        """Decode more rows than fit into memory, as `encode_stream`.

        Args:
            batches: latents, each as for `decode`.
            dtype: as for `decode`.
            timeout: as for `encode_stream`.

        Yields:
            pictures of each batch.
        """
        return self._stream(
            self._connection.vae.Decode,
            timeout,
            lambda info: (
                _requests.decode(info, self.version or 0, z, dtype=dtype) for z in batches
            ),
        )

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
    ) -> Generator[Generated, None, None]:
        """Draw more rows than fit into memory: the rows of `sample(n)`, some at a time.

        Args:
            n: number of rows in all.
            seed: as for `sample`.
            temperature: as for `sample`.
            prior: as for `sample`.
            first_row: as for `sample`.
            latents: as for `sample`.
            dtype: as for `sample`.
            timeout: as for `encode_stream`.

        Yields:
            as many rows as the server gives at once, in order.
        """
        return self._stream(
            self._connection.vae.Sample,
            timeout,
            lambda info: sample_plans(
                info,
                self.version or 0,
                n,
                seed=seed,
                first_row=first_row,
                temperature=temperature,
                prior=prior,
                latents=latents,
                dtype=dtype,
            ),
        )
