"""Train a variational autoencoder, export it as a bundle of two ONNX graphs, verify the bundle.

`export_modules` is for use from Python; everything else here belongs to the command `vaeserve`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaeserve_export.bundling.of_modules import export_modules

__all__ = ["export_modules"]


def __getattr__(name: str) -> Any:
    """Load PyTorch when it is asked for, and not before: `vaeserve verify` needs none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vaeserve_export.bundling.of_modules import export_modules  # noqa: PLC0415

    return export_modules
