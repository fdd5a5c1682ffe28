"""Does a model, here and on this device, what it did when its bundle was written?"""

from pathlib import Path

import numpy as np

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve_server.call import Floats
from vaeserve_server.engine import Engine
from vaeserve_server.errors import StartupError

# Parity is proven on the exporting machine (1e-5); another processor sums in another order, another
# graph is far off.
_TOLERANCE = {False: 1e-4, True: 1e-2}  # by "on CUDA", where TF32 rounds to 10 bits
_HALF_TOLERANCE = 1e-2  # float16 has those 10 bits everywhere


def read_golden(content: bytes) -> dict[str, Floats]:
    """The arrays of golden.npz: x, mu, log_var, z, x_hat.

    Raises:
        bundle.BundleError: they cannot be read.
    """
    arrays = archives.read(bundle.GOLDEN, content, ("x", "mu", "log_var", "z", "x_hat"))
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def self_test(
    folder: Path,
    golden: dict[str, Floats],
    info: model_pb2.ModelInfo,
    encoder: Engine[Floats],
    decoder: Engine[Floats],
    *,
    on_cuda: bool,
) -> None:
    """Compare both graphs with what PyTorch computed.

    Args:
        folder: of the bundle, for messages.
        golden: its golden rows, of which one batch is taken.
        info: the manifest with its limits.
        encoder: the first graph.
        decoder: the second.
        on_cuda: whether they run on a GPU.

    Raises:
        StartupError: there are none, or a graph does not reproduce them.
    """
    rows = {name: values[: info.limits.max_rows] for name, values in golden.items()}
    if not len(rows["x"]) or not len(rows["z"]):
        raise StartupError(f"{folder / bundle.GOLDEN}: holds no rows")
    tolerances = _tolerances(info, on_cuda=on_cuda)
    mu, log_var = encoder.run(rows["x"], as_levels=False)
    (x_hat,) = decoder.run(rows["z"], as_levels=False)
    for name, got in (("mu", mu), ("log_var", log_var), ("x_hat", x_hat)):
        if not _close(got, rows[name], tolerances[name]):
            raise StartupError(f"{folder}: self-test failed: {name} differs from the golden rows")


def _tolerances(info: model_pb2.ModelInfo, *, on_cuda: bool) -> dict[str, float]:
    """How far each output may be from its golden row, by the precision of the graphs."""
    tolerance = _TOLERANCE[on_cuda]
    if info.precision == model_pb2.PRECISION_FLOAT16:
        tolerance = max(tolerance, _HALF_TOLERANCE)
    names = ("mu", "log_var", "x_hat")
    if info.precision != model_pb2.PRECISION_INT8:
        return dict.fromkeys(names, tolerance)
    measured = [getattr(info.numerics, f"parity_{name}") for name in names]
    return dict(zip(names, map(bundle.int8_allowance, measured), strict=True))


def _close(values: Floats, expected: Floats, tolerance: float) -> bool:
    return values.shape == expected.shape and np.allclose(
        values, expected, rtol=tolerance, atol=tolerance
    )
