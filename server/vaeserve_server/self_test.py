"""Does a model, here and on this device, what it did when its bundle was written?"""

from pathlib import Path

import numpy as np

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve_server.call import Floats
from vaeserve_server.engine import Slot
from vaeserve_server.errors import StartupError


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
    encoder: Slot,
    decoder: Slot,
    *,
    on_cuda: bool,
) -> None:
    """Compare both graphs with what PyTorch computed.

    Args:
        folder: of the bundle, for messages.
        golden: its golden rows, of which one batch is taken.
        info: the manifest with its limits.
        encoder: of the first graph.
        decoder: of the second.
        on_cuda: whether they run on a GPU.

    Raises:
        StartupError: there are none, or a graph does not reproduce them.
    """
    rows = {name: values[: info.limits.max_rows] for name, values in golden.items()}
    if not len(rows["x"]) or not len(rows["z"]):
        raise StartupError(f"{folder / bundle.GOLDEN}: holds no rows")
    tolerances = bundle.golden_tolerances(info, tf32=on_cuda)
    mu, log_var = encoder.engine.run(encoder.packer.pack([rows["x"]]), as_levels=False)
    (x_hat,) = decoder.engine.run(decoder.packer.pack([rows["z"]]), as_levels=False)
    for name, got in (("mu", mu), ("log_var", log_var), ("x_hat", x_hat)):
        if not _close(got, rows[name], tolerances[name]):
            raise StartupError(f"{folder}: self-test failed: {name} differs from the golden rows")


def _close(values: Floats, expected: Floats, tolerance: bundle.Tolerance) -> bool:
    # Written so that a NaN fails.
    return values.shape == expected.shape and bool(
        (np.abs(values - expected) <= tolerance.allowed(expected)).all()
    )
