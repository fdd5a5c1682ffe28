"""The numerical contract, measured: by any function that runs a graph."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve_export.bundling.verify_buckets import BUCKETS, BucketFigures, measure_buckets
from vaeserve_export.bundling.verify_device import measure
from vaeserve_export.bundling.verify_parity import Expected, Floats, Run
from vaeserve_export.bundling.verify_sessions import CUDA, Graphs, cpu_graphs
from vaeserve_export.errors import VerifyError

Change = Callable[[Floats], Floats]
GRAPH = model_pb2.Graph(file="decoder.onnx", output_names=["x_hat"])
ROWS = np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)  # no multiple of a bucket


def doubled(rows: Floats) -> list[Floats]:
    assert len(rows) in BUCKETS
    return [rows * np.float32(2)]


def changed(change: Change) -> Run:
    """Doubles the rows, and then spoils them as a function of the batch."""

    def run(rows: Floats) -> list[Floats]:
        return [doubled(rows)[0] + change(rows).astype(np.float32)]

    return run


def figures(run: Run, tolerance: float = 1.0) -> BucketFigures:
    wanted = ROWS * np.float32(2)
    expected = [Expected(wanted, bundle.Tolerance(tolerance, 0))]
    return measure_buckets(run, GRAPH, ROWS, expected, [wanted], where="a device")


def test_rows_that_depend_on_nothing_else() -> None:
    assert figures(doubled, tolerance=0) == ([0.0], 0.0, 0.0, 0.0)


def test_a_difference_between_buckets_is_told_and_allowed() -> None:
    found = figures(changed(lambda rows: np.full_like(rows, 2.0**-10 * math.log2(len(rows)))))
    assert found.within == 0
    # 64 rows against 1, whose outputs are the CPU's.
    assert found.across == pytest.approx(6 * 2.0**-10, rel=1e-3)
    assert found.from_cpu == pytest.approx(6 * 2.0**-10, rel=1e-3)
    assert found.parity == pytest.approx([6 * 2.0**-10], rel=1e-3)


class Drift:
    """Gives every run a value of its own."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, rows: Floats) -> Floats:
        self.runs += 1
        return np.full_like(rows, self.runs * 1e-4)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows: rows.sum() * np.full_like(rows, 1e-5), id="neighbours"),
        pytest.param(lambda rows: rows.max() * np.full_like(rows, 1e-5), id="largest neighbour"),
        pytest.param(
            lambda rows: np.full_like(rows, 1e-5 * (rows == 0).all(axis=1).sum()), id="padding"
        ),
        pytest.param(
            lambda rows: np.full_like(rows, 1e-5 * (rows.any(axis=1).sum() == 63)),
            id="one row short of a full batch",
        ),
        pytest.param(lambda rows: np.arange(len(rows))[:, None] * np.float32(1e-5), id="place"),
        pytest.param(Drift(), id="from run to run"),
    ],
)
def test_rows_that_depend_on_their_batch_are_refused(change: Change) -> None:
    with pytest.raises(VerifyError, match=r"decoder\.onnx: in batches of \d+ on a device a row's"):
        figures(changed(change))


@settings(max_examples=40)
@given(st.data())
def test_one_bit_at_one_place_of_one_bucket_is_found(data: st.DataObject) -> None:
    bucket = data.draw(st.sampled_from(BUCKETS[1:]))
    place = data.draw(st.integers(0, bucket - 1))

    def run(rows: Floats) -> list[Floats]:
        (outputs,) = doubled(rows)
        if len(rows) == bucket:
            outputs[place] = np.nextafter(outputs[place], np.float32(np.inf))
        return [outputs]

    with pytest.raises(VerifyError, match=f"in batches of {bucket} on a device a row's outputs"):
        figures(run)


@pytest.mark.parametrize("value", [-0.0, np.nan])
def test_bits_count_not_distances(value: float) -> None:
    """0.0 and -0.0 are no distance apart, NaN from anything neither."""

    def run(rows: Floats) -> list[Floats]:
        outputs = np.zeros_like(rows)
        if not rows[0].any():  # zeros come first only where a row lies alone among them
            outputs[1:] = value
        return [outputs]

    zeros = np.zeros_like(ROWS)
    with pytest.raises(VerifyError, match=r"a row's outputs differ by (1\.4e-45|inf)"):
        measure_buckets(
            run, GRAPH, ROWS, [Expected(zeros, bundle.Tolerance(0, 0))], [zeros], where="a device"
        )


def test_a_run_that_fails_is_told() -> None:
    def run(rows: Floats) -> list[Floats]:
        if len(rows) == 16:
            raise RuntimeError("out of memory")
        return doubled(rows)

    with pytest.raises(VerifyError, match=r"decoder\.onnx: cannot run 16 rows: out of memory"):
        figures(run)


def loaded(folder: Path) -> tuple[model_pb2.ModelInfo, dict[str, Floats], Graphs]:
    info = bundle.read_manifest(folder)
    files = bundle.read_files(folder, info)
    names = ("x", "mu", "log_var", "z", "x_hat")
    golden = archives.read(bundle.GOLDEN, files[bundle.GOLDEN], names)
    return info, golden, cpu_graphs(info, files)


def entry(*, tf32: bool) -> model_pb2.DeviceNumerics:
    return model_pb2.DeviceNumerics(device="GPU", provider=CUDA, tf32=tf32)


@pytest.mark.parametrize("name", ["digits", "rgb", "vectors"])
def test_the_cpu_keeps_the_contract_to_the_bit(repository: Path, name: str) -> None:
    info, golden, on_cpu = loaded(repository / name / "1")
    measured = measure(info, golden, on_cpu, on_cpu, entry(tf32=False))
    assert measured.rows == 256
    assert measured.parity_mu == pytest.approx(info.numerics.parity_mu, rel=0.1)
    assert 0 < measured.parity_x_hat <= 1e-5
    for figure in ("within_bucket", "across_buckets", "cpu"):
        assert measured.HasField(f"{figure}_difference")  # type: ignore[arg-type]
        assert getattr(measured, f"{figure}_difference") == 0


@pytest.mark.parametrize("name", ["digits-fp16", "digits-int8"])
def test_the_cpu_keeps_it_in_less_precision_too(precisions: Path, name: str) -> None:
    info, golden, on_cpu = loaded(precisions / name / "1")
    measured = measure(info, golden, on_cpu, on_cpu, entry(tf32=False))
    assert measured.within_bucket_difference == measured.across_buckets_difference == 0


def off_by(graphs: Graphs, amount: float) -> Graphs:
    """A device whose encoder is off by so much, the same in every batch."""
    return graphs._replace(
        encode=lambda rows: [output + np.float32(amount) for output in graphs.encode(rows)]
    )


def test_parity_is_held_to_the_tolerance_of_the_setting(repository: Path) -> None:
    info, golden, on_cpu = loaded(repository / "digits" / "1")
    near, far = off_by(on_cpu, 1e-3), off_by(on_cpu, 0.2)

    measured = measure(info, golden, near, on_cpu, entry(tf32=True))
    assert measured.parity_mu == pytest.approx(1e-3, rel=0.05)
    assert measured.cpu_difference == pytest.approx(1e-3, rel=0.05)
    assert measured.across_buckets_difference == 0

    with pytest.raises(VerifyError, match="in batches of 1 on GPU with TF32 off"):
        measure(info, golden, near, on_cpu, entry(tf32=False))
    with pytest.raises(VerifyError, match=r"mu differs from PyTorch's by 0\.2 .* with TF32 on"):
        measure(info, golden, far, on_cpu, entry(tf32=True))


def test_tolerances_on_another_processor() -> None:
    def mu(precision: model_pb2.Precision.ValueType, *, tf32: bool) -> tuple[float, ...]:
        numerics = model_pb2.Numerics(parity_mu=0.08)
        info = model_pb2.ModelInfo(precision=precision, numerics=numerics)
        return bundle.golden_tolerances(info, tf32=tf32)["mu"]

    assert mu(model_pb2.PRECISION_FLOAT32, tf32=False) == (1e-4, 1e-4, 0)
    assert mu(model_pb2.PRECISION_FLOAT32, tf32=True) == (1e-2, 1e-2, 0)
    assert mu(model_pb2.PRECISION_FLOAT16, tf32=False) == (1e-2, 1e-2, 0)
    assert mu(model_pb2.PRECISION_INT8, tf32=True) == pytest.approx((0.01, 0, 0.1))


def test_a_tolerance_is_of_the_outputs_range() -> None:
    tolerance = bundle.Tolerance(1e-5, 1e-4)
    small, large = np.array([0.0, -0.5], np.float32), np.array([0.0, -2000.0], np.float32)
    np.testing.assert_allclose(tolerance.allowed(small), [1e-5, 1e-5 + 0.5e-4])
    np.testing.assert_allclose(tolerance.allowed(large), [0.02, 0.22])
    int8 = bundle.int8_allowance(0.8)
    np.testing.assert_allclose(int8.allowed(small), [1.01, 1.01])
    np.testing.assert_allclose(int8.allowed(large), [21, 21])
