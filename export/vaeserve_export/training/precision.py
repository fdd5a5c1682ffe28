"""Matrix products with bfloat16 factors, for the steps of a training only."""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch

_ROUNDED = {
    "mkldnn.matmul": "bf16",
    "mkldnn.conv": "bf16",
    "cuda.matmul": "tf32",
    "cudnn.conv": "tf32",
}


@contextmanager
def matrix_products(precision: str, device: torch.device, *, convolutional: bool) -> Iterator[None]:
    """Let the factors of float32 products be rounded to "bfloat16", or leave them "float32".

    Inputs, outputs, weights and sums stay float32. It pays where the processor multiplies bfloat16
    (AVX-512 BF16, AMX); where it does not, PyTorch ignores the switch. On CUDA it is TF32, which
    rounds less. PyTorch has no such products for convolutions on a CPU: those nets are run under
    autocast, whose activations are bfloat16, too. The switch is the process's, so what is measured
    or exported lies outside of this block.
    """
    if precision == "float32":
        yield
        return
    before = {name: _switch(name).fp32_precision for name in _ROUNDED}
    for name, value in _ROUNDED.items():
        _switch(name).fp32_precision = value
    try:
        # The cache would hold the weights as they were in the block's first step.
        with torch.autocast(
            device.type, torch.bfloat16, enabled=convolutional, cache_enabled=False
        ):
            yield
    finally:
        for name, value in before.items():
            _switch(name).fp32_precision = value


def _switch(name: str) -> Any:
    """PyTorch adds these to its modules when it is imported."""
    return attrgetter(name)(torch.backends)
