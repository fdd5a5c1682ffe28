"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), for matrices on any device.

PyTorch's own iterates in bfloat16 whatever the processor; where that is emulated, a step of a small
net takes ten times as long as its gradients. This one does so only where bfloat16 is multiplied.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

_MOMENTUM = 0.95
# a X + b (X X^T) X + c (X X^T)^2 X drives every singular value of X towards 1; these three do it in
# the fewest steps, to within about 0.7..1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 4  # as good as the usual five here, and a tenth less of a step's time
_LEAST_NORM = 1e-7


class Muon(Optimizer):
    """Moves each matrix along its Nesterov momentum, made orthogonal.

    Every direction of the matrix learns equally fast; a matrix with more rows than columns moves by
    sqrt(rows / columns) as much.
    """

    def __init__(self, matrices: Iterable[Tensor], learning_rate: float) -> None:
        """Take the matrices, [rows, columns] each, and the step's length."""
        super().__init__(matrices, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure here
        """Apply the gradients."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - _MOMENTUM)
                direction = orthogonal(matrix.grad.lerp(momentum, _MOMENTUM))
                rows, columns = matrix.shape
                length = group["lr"] * math.sqrt(max(1, rows / columns))
                matrix.add_(direction, alpha=-length)


def orthogonal(matrix: Tensor) -> Tensor:
    """U V^T of a matrix U S V^T, about: its singular values brought close to 1 by Newton-Schulz.

    Args:
        matrix: [rows, columns].

    Returns:
        the same shape, bfloat16 or as it came.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16() if multiplies_bfloat16(matrix.device) else matrix
    x = x.T if tall else x
    x = x / x.norm().clamp(min=_LEAST_NORM)  # its largest singular value is now at most 1
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if tall else x


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 matrices are faster than float32 ones."""
    if device.type != "cpu":
        return True
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
