"""A chain on the device is its steps, one after the other."""

import numpy as np
from hypothesis import given, strategies as st

from support.bound_bench import (
    BENCH,
    BUCKETS,
    DECODER,
    ENCODER,
    LATENT,
    LEVELS,
    PICTURE,
    SEEDS,
    close,
    floats,
    plain,
)
from vaeserve.v1 import paths
from vaeserve.v1.noise import reparameterise
from vaeserve_server.call import Array, Floats
from vaeserve_server.chaining import Chained, each_once, straight_paths
from vaeserve_server.device_graphs import DeviceGraphs
from vaeserve_server.devices import CPU, Device


@st.composite
def chained(draw: st.DrawFn) -> Chained:
    """A reconstruction, an edit or paths, of values or of levels."""
    generator = np.random.default_rng(draw(SEEDS))
    pairs = draw(st.integers(1, 2))
    count = 2 * pairs
    x: Array = generator.normal(size=(count, *PICTURE)).astype(np.float32)
    if draw(st.booleans()):
        x = generator.integers(0, 256, x.shape).astype(np.uint8)
    kind = draw(st.sampled_from(["mean", "draw", "edit", "paths"]))
    size = np.prod(LATENT)
    if kind == "paths":
        return straight_paths(x, draw(st.integers(2, 5)))
    if kind == "edit":
        return each_once(x, move=generator.normal(size=size).astype(np.float32))
    eps = generator.normal(size=(count, size)).astype(np.float32) if kind == "draw" else None
    return each_once(x, eps=eps)


def alone(part: Chained) -> tuple[Floats, Floats]:
    """Latents and decoded means of one request, step by step on the host."""
    x = LEVELS[part.x] if part.x.dtype == np.uint8 else part.x
    mu, log_var = plain(ENCODER, x)
    drawn = mu if part.eps is None else reparameterise(mu, log_var, part.eps)
    near, far = drawn[part.first], drawn[part.second]
    z = part.first_weight[:, None] * near + part.second_weight[:, None] * far
    z = z if part.move is None else z + part.move
    return z, plain(DECODER, z)[0]


@given(parts=st.lists(chained(), min_size=1, max_size=4))
def test_a_chain_is_its_steps(parts: list[Chained]) -> None:
    while sum(map(len, parts)) > BUCKETS[-1]:
        parts.pop()
    if not parts:
        return
    BENCH.posteriors.clear()
    z, x_hat = BENCH.chain.run(BENCH.chain.pack(parts), as_levels=False)
    wanted = [alone(part) for part in parts]
    close(z, np.concatenate([each for each, _ in wanted]))
    np.testing.assert_allclose(
        x_hat, np.concatenate([each for _, each in wanted]), rtol=1e-4, atol=1e-4
    )
    ((mu, log_var),) = BENCH.posteriors
    assert len(mu) == len(log_var) == sum(len(part.x) for part in parts)


def test_a_straight_path_is_the_lerp_of_its_ends() -> None:
    x = floats(3, 4, PICTURE)
    (z, _) = BENCH.chain.run(BENCH.chain.pack([straight_paths(x, 5)]), as_levels=False)
    mu, _ = plain(ENCODER, x)
    close(z.reshape(2, 5, -1), paths.lerp(mu[:2], mu[2:], 5))


def test_a_chain_refuses_what_an_encoder_refuses() -> None:
    bad = each_once(np.full((1, *PICTURE), np.nan, np.float32))
    good = each_once(floats(0, 1, PICTURE))
    assert not BENCH.chain.sound(BENCH.chain.pack([good, bad]))
    assert BENCH.chain.problem(good) is None
    assert BENCH.chain.problem(bad) is not None


def test_the_mean_is_not_lost_where_sigma_overflows() -> None:
    session = DeviceGraphs(Device(CPU)).latents
    numbers = {"first": np.zeros(1, np.int32), "second": np.zeros(1, np.int32)}
    weights = {"first_weight": np.ones((1, 1)), "second_weight": np.zeros((1, 1))}
    rows = {
        "mu": np.full((1, 2), 3.0),
        "log_var": np.full((1, 2), 200.0),
        "eps": np.zeros((1, 2)),
        "move": np.zeros((1, 2)),
    }
    given = {name: value.astype(np.float32) for name, value in (rows | weights).items()}
    (z,) = session.run(["z"], given | numbers)
    assert z.tolist() == [[3.0, 3.0]]
