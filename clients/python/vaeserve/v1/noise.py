"""The standard normal noise that a seed stands for, and the reparameterisation that uses it.

eps is a pure function of (seed, stream, draw, row, element), so a row's draw does not depend on how
rows are split over requests and batches, on retries, restarts or replicas:

1. 64 random bits an element from the counter-based generator Philox4x64-10 (Salmon, Moraes, Dror,
   Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), keyed by (seed, stream). A block
   of four elements has one counter: 1 + row * blocks + block in its first word (numpy's generator
   counts on before each block), the draw number in its second.
2. The top 52 bits, plus a half, over 2^52: a uniform number u strictly between 0 and 1, exact.
3. eps = Phi^-1(u) by algorithm AS 241 (Wichura, "The percentage points of the normal distribution",
   Applied Statistics 37, 1988), rounded to float32.

Step 3 uses only + - * / and square root, which IEEE 754 rounds correctly, and a logarithm made of
them: library logarithms, sines and cosines differ in their last bits between processors, and
replicas must not.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FIRST_ROW_LIMIT = 1 << 40
"""Row numbers stay below this, so that a row's counters never run into the next draw's."""

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
_Bits = npt.NDArray[np.uint64]

# AS 241, PPND16: numerator and denominator of each of the three rational approximations, highest
# power first.
_CENTRE = np.array(
    [
        [2.5090809287301226727e3, 5.226495278852854561e3],
        [3.3430575583588128105e4, 2.8729085735721942674e4],
        [6.7265770927008700853e4, 3.9307895800092710610e4],
        [4.5921953931549871457e4, 2.1213794301586595867e4],
        [1.3731693765509461125e4, 5.3941960214247511077e3],
        [1.9715909503065514427e3, 6.8718700749205790830e2],
        [1.3314166789178437745e2, 4.2313330701600911252e1],
        [3.3871328727963666080e0, 1.0],
    ]
)
_TAIL = np.array(
    [
        [7.74545014278341407640e-4, 1.05075007164441684324e-9],
        [2.27238449892691845833e-2, 5.47593808499534494600e-4],
        [2.41780725177450611770e-1, 1.51986665636164571966e-2],
        [1.27045825245236838258e0, 1.48103976427480074590e-1],
        [3.64784832476320460504e0, 6.89767334985100004550e-1],
        [5.76949722146069140550e0, 1.67638483018380384940e0],
        [4.63033784615654529590e0, 2.05319162663775882187e0],
        [1.42343711074968357734e0, 1.0],
    ]
)
_FAR_TAIL = np.array(
    [
        [2.01033439929228813265e-7, 2.04426310338993978564e-15],
        [2.71155556874348757815e-5, 1.42151175831644588870e-7],
        [1.24266094738807843860e-3, 1.84631831751005468180e-5],
        [2.65321895265761230930e-2, 7.86869131145613259100e-4],
        [2.96560571828504891230e-1, 1.48753612908506148525e-2],
        [1.78482653991729133580e0, 1.36929880922735805310e-1],
        [5.46378491116411436990e0, 5.99832206555887937690e-1],
        [6.65790464350110377720e0, 1.0],
    ]
)
_LN2 = 0.693147180559945309417232121458
_SQRT_HALF = 0.707106781186547524400844362105


class Stream(IntEnum):
    """Keeps the draws of one seed apart by what they are for."""

    PRIOR = 0
    POSTERIOR = 1
    COMPONENT = 2


class Block(NamedTuple):
    """Consecutive rows of one seed.

    Attributes:
        seed: 0 .. 2^64 - 1.
        first_row: number of the first row, below FIRST_ROW_LIMIT.
        rows: how many rows.
    """

    seed: int
    first_row: int
    rows: int


def standard_normal_blocks(blocks: Sequence[Block], stream: Stream, *, size: int) -> Floats:
    """Draw eps once for the rows of many seeds: the same bits as one by one, at less cost.

    Args:
        blocks: seeds and rows.
        stream: what the draws are for.
        size: elements a row.

    Returns:
        float32 [rows of all blocks, size], |eps| < 8.2.
    """
    width = -(-size // 4)
    generator = np.random.Philox(key=0)
    # Setting the state of one generator costs a third of making another.
    state = generator.state
    bits = np.empty((sum(block.rows for block in blocks), 4 * width), np.uint64)
    begin = 0
    for seed, first_row, rows in blocks:
        state["state"]["key"] = np.array([seed, stream], np.uint64)
        state["state"]["counter"] = np.array([first_row * width, 0, 0, 0], np.uint64)
        generator.state = state
        raw = generator.random_raw(rows * 4 * width)
        bits[begin : begin + rows] = raw.reshape(rows, -1)
        begin += rows
    return _normal(bits[:, :size])


def standard_normal(
    seed: int,
    stream: Stream,
    *,
    first_row: int,
    rows: int,
    size: int,
    draws: int = 1,
    first_draw: int = 0,
) -> Floats:
    """Draw eps for consecutive rows, once or several times each.

    Args:
        seed: 0 .. 2^64 - 1.
        stream: what the draws are for.
        first_row: number of the first row, below FIRST_ROW_LIMIT.
        rows: how many rows.
        size: elements a row.
        draws: how many draws a row; the first of many are those of few.
        first_draw: number of the first draw, to continue fewer draws.

    Returns:
        float32 [rows, draws, size], |eps| < 8.2.
    """
    blocks = -(-size // 4)
    key = np.array([seed, stream], np.uint64)
    bits = np.empty((draws, rows, 4 * blocks), np.uint64)
    for draw in range(draws):
        counter = np.array([first_row * blocks, first_draw + draw, 0, 0], np.uint64)
        generator = np.random.Philox(key=key, counter=counter)
        bits[draw] = generator.random_raw(rows * 4 * blocks).reshape(rows, -1)
    return _normal(bits.transpose(1, 0, 2)[..., :size])


def uniform(seed: int, stream: Stream, *, first_row: int, rows: int) -> Doubles:
    """Draw one uniform number for each of consecutive rows: step 2 of the module's recipe.

    Args:
        seed: 0 .. 2^64 - 1.
        stream: what the draws are for.
        first_row: number of the first row, below FIRST_ROW_LIMIT.
        rows: how many rows.

    Returns:
        float64 [rows], strictly between 0 and 1.
    """
    key = np.array([seed, stream], np.uint64)
    generator = np.random.Philox(key=key, counter=np.array([first_row, 0, 0, 0], np.uint64))
    return _uniform(generator.random_raw(rows * 4)[::4])


def reparameterise(mu: Floats, log_var: Floats, eps: Floats) -> Floats:
    """Draw from the posterior: z = mu + exp(log_var / 2) * eps.

    Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, section 2.4.

    Args:
        mu: posterior means.
        log_var: natural logarithms of the posterior variances, same shape.
        eps: standard normal draws, broadcastable to that shape.
    """
    std: Floats = np.exp(log_var * np.float32(0.5))
    return mu + std * eps


def _normal(bits: _Bits) -> Floats:
    """Steps 2 and 3 of the module's recipe."""
    return _inverse_normal_cdf(_uniform(bits).ravel()).astype(np.float32).reshape(bits.shape)


def _uniform(bits: _Bits) -> Doubles:
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _ratio(coefficients: Doubles, x: Doubles) -> Doubles:
    """Horner's rule on numerator and denominator at once."""
    value = np.repeat(coefficients[0][:, None], x.size, axis=1)
    for pair in coefficients[1:]:
        value *= x
        value += pair[:, None]
    return np.asarray(value[0] / value[1], np.float64)


def _log(x: Doubles) -> Doubles:
    """Natural logarithm of 0 < x < 1.

    x = m 2^e with m near 1, and ln x = 2 atanh((m - 1) / (m + 1)) + e ln 2.
    """
    mantissa, exponent = np.frexp(x)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = exponent - low
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = np.full_like(s, 1.0 / 21.0)
    for odd in range(19, 0, -2):
        series *= square
        series += 1.0 / odd
    return np.asarray(2.0 * s * series + exponent * _LN2, np.float64)


def _inverse_normal_cdf(u: Doubles) -> Doubles:
    """AS 241 (PPND16) of 0 < u < 1: relative error about 1e-16."""
    q = u - 0.5
    value = q * _ratio(_CENTRE, 0.180625 - q * q)
    tail = np.flatnonzero(np.abs(q) > 0.425)
    if tail.size:
        r = np.sqrt(-_log(np.minimum(u[tail], 1.0 - u[tail])))
        size = _ratio(_TAIL, r - 1.6)
        far = np.flatnonzero(r > 5.0)
        if far.size:
            size[far] = _ratio(_FAR_TAIL, r[far] - 5.0)
        value[tail] = np.copysign(size, q[tail])
    return value
