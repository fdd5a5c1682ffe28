"""Draws from the mixture that was fitted to the aggregated posterior."""

import numpy as np

from vaeserve.v1.archives import Mixture
from vaeserve.v1.noise import Block, Floats, Stream, standard_normal, uniform


class FittedPrior:
    """A Gaussian mixture, ready to be drawn from."""

    def __init__(self, mixture: Mixture) -> None:
        """Lay its factors out column by column."""
        self._bounds = np.cumsum(mixture.weights)[:-1]
        self._means = mixture.means
        self._columns = np.ascontiguousarray(mixture.cholesky.transpose(2, 0, 1))

    def draw(self, block: Block, temperature: float) -> Floats:
        """Draw z = mean_k + temperature * L_k eps, where k is drawn by the weights.

        Like every draw, a row is a pure function of the seed and its number: eps is that of the
        standard prior, the component has a stream of its own.

        Args:
            block: seed and rows.
            temperature: factor of each component's standard deviation.

        Returns:
            float32 [rows, d].
        """
        seed, first_row, rows = block
        size = self._means.shape[1]
        chosen = uniform(seed, Stream.COMPONENT, first_row=first_row, rows=rows)
        component = np.searchsorted(self._bounds, chosen, side="right")
        eps = standard_normal(seed, Stream.PRIOR, first_row=first_row, rows=rows, size=size)
        scaled = temperature * eps[:, 0].astype(np.float64)
        z = self._means[component]
        # Column by column: the bits of a matrix product depend on how many rows it has, and on the
        # processor.
        for column, factors in enumerate(self._columns):
            z[:, column:] += factors[component, column:] * scaled[:, column, None]
        return z.astype(np.float32)
