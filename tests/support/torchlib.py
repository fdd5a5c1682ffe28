"""PyTorch's exporter without its parsing of the same 500 operators for every graph."""

import functools

import pytest
from torch.onnx._internal import _lazy_import


def parse_once(patch: pytest.MonkeyPatch) -> None:
    """Keep the list of operators that the first export makes: half the time of every other.

    It is made of source code that does not change, and only read.
    """
    apis = _lazy_import.onnxscript_apis  # type: ignore[attr-defined]  # not public
    patch.setattr(apis, "get_torchlib_ops", functools.cache(apis.get_torchlib_ops))
