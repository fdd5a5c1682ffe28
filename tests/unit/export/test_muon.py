"""Muon beside PyTorch's, and what it does to a matrix."""

import pytest
import torch

from vaeserve_export.training import muon


@pytest.fixture(params=[True, False])
def bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor is taken for one that multiplies bfloat16."""
    multiplies = bool(request.param)
    monkeypatch.setattr(muon, "multiplies_bfloat16", lambda _: multiplies)
    return multiplies


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (30, 30)])
def test_steps_are_pytorchs(bfloat16: bool, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimisers = (
        muon.Muon([ours], 0.02),
        torch.optim.Muon([theirs], 0.02, weight_decay=0.0, ns_steps=4),
    )
    for _ in range(3):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    moved = (theirs - start).norm()
    apart = (ours - theirs).norm()
    assert apart == 0 if bfloat16 else 0 < apart < 0.02 * moved


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (1, 5)])
def test_every_direction_counts_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    along = left.T @ muon.orthogonal(matrix).float() @ right.T
    values = torch.diagonal(along)
    assert (values > 0.5).all()
    assert (values < 1.3).all()
    torch.testing.assert_close(along, torch.diag(values), atol=0.02, rtol=0)  # and none is turned


def test_a_matrix_without_a_gradient_stays() -> None:
    still = torch.nn.Parameter(torch.ones(2, 2))
    muon.Muon([still], 0.1).step()
    assert (still == 1).all()
