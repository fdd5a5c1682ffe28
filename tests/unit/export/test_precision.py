"""Less than float32: what it costs is measured and stated, and a row stays a row's own affair."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import Result

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve_export import npz
from vaeserve_export.bundling.of_run import export_run
from vaeserve_export.bundling.verify import verify
from vaeserve_export.data import dataset as data
from vaeserve_export.errors import ExportError, VerifyError
from vaeserve_export.trained.of_bundle import BundleSubject
from vaeserve_export.trained.of_run import RunSubject
from vaeserve_export.trained.subject import Subject
from vaeserve_export.trained.terms import terms
from vaeserve_export.vae.calibration import summarise
from vaeserve_export.vae.objective import kl_nats

STATED = {"fp16": model_pb2.PRECISION_FLOAT16, "int8": model_pb2.PRECISION_INT8}
PATHS = re.compile(rb"(?:/[A-Za-z_][\w.+-]*){2,}|\.py\b|site-packages|stack_trace")


@pytest.fixture
def run(repository: Path) -> Path:
    return repository.parent / "runs" / "digits"


@pytest.fixture(params=["fp16", "int8"])
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def reduced(precisions: Path, precision: str) -> Path:
    return precisions / f"digits-{precision}" / "1"


@pytest.fixture
def broken(precisions: Path, precision: str, tmp_path: Path) -> Path:
    """A copy to break."""
    place = tmp_path / f"digits-{precision}" / "1"
    return Path(shutil.copytree(precisions / f"digits-{precision}" / "1", place))


def negative_elbo(subject: Subject, x: torch.Tensor, eps: torch.Tensor) -> float:
    mu, log_var = subject.encode(x)
    z = mu + (log_var / 2).exp() * eps
    nats = subject.reconstruction_nats(x, z[:, None])[:, 0] + kl_nats(mu, log_var)
    return float(nats.double().mean())


def test_parity_and_batch_difference(reduced: Path, precision: str) -> None:
    info = verify(reduced).info
    assert info.precision == STATED[precision]
    numerics = info.numerics
    parity = max(numerics.parity_mu, numerics.parity_log_var, numerics.parity_x_hat)
    assert 1e-5 < parity <= {"fp16": 2e-3, "int8": 0.2}[precision]
    assert numerics.batch_difference == 0
    assert "onnxruntime" in info.tool_versions


def test_the_cost_is_small_and_as_stated(reduced: Path, run: Path, precision: str) -> None:
    """Measured here against PyTorch, with other noise: it need agree no further than noise does."""
    digits = data.load("digits")
    _, validation = data.split(len(digits.x), 0)
    x = torch.from_numpy(digits.x[validation])
    eps = torch.randn(len(x), 20, generator=torch.Generator().manual_seed(1))
    cost = negative_elbo(BundleSubject.open(reduced), x, eps) - negative_elbo(
        RunSubject(run), x, eps
    )
    info = bundle.read_manifest(reduced)
    assert info.precision_cost_rows == "validation"
    assert info.precision_cost_nats == pytest.approx(cost, abs=0.01)
    assert 0 < abs(info.precision_cost_nats) <= {"fp16": 0.01, "int8": 0.1}[precision]


def test_scores_are_placed_among_those_of_its_own_graphs(reduced: Path, repository: Path) -> None:
    digits = data.load("digits")
    _, validation = data.split(len(digits.x), 0)
    scored = terms(BundleSubject.open(reduced), torch.from_numpy(digits.x[validation]), None)

    def percentiles(folder: Path) -> archives.Calibration:
        info = bundle.read_manifest(folder)
        content = bundle.read_files(folder, info)[bundle.CALIBRATION]
        return archives.read_calibration(content, info)

    found = percentiles(reduced)
    for name, expected in summarise(scored).items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-6)
    exact = percentiles(repository / "digits" / "1")
    assert np.abs(found.negative_elbo_nats - exact.negative_elbo_nats).max() > 1e-5


def test_graphs_are_smaller_and_take_and_give_float32(
    reduced: Path, repository: Path, precision: str
) -> None:
    for file in (bundle.ENCODER, bundle.DECODER):
        model = onnx.load(reduced / file)
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        exact = (repository / "digits" / "1" / file).stat().st_size
        assert (reduced / file).stat().st_size < {"fp16": 0.8, "int8": 0.5}[precision] * exact
        for weights in model.graph.initializer:
            weights.ClearField("raw_data")
        assert not PATHS.search(model.SerializeToString())


def test_an_encoders_ends_stay_float32(precisions: Path) -> None:
    """log_var goes through exp(), and a sigmoid in float16 saturates early."""
    folder = precisions / "digits-fp16" / "1"
    encoder, decoder = (onnx.load(folder / file) for file in (bundle.ENCODER, bundle.DECODER))
    weights = {tensor.name: tensor.data_type for tensor in encoder.graph.initializer}
    last = [node for node in encoder.graph.node if node.op_type == "Gemm"][-1]
    assert weights[last.input[1]] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.FLOAT16 in weights.values()
    sigmoid = next(node for node in decoder.graph.node if node.op_type == "Sigmoid")
    before = next(node for node in decoder.graph.node if sigmoid.input[0] in node.output)
    assert before.op_type == "Cast"


def test_equal_runs_give_equal_bytes(
    run: Path, tmp_path: Path, reduced: Path, precision: str
) -> None:
    again = export_run(
        run, tmp_path / "b", f"digits-{precision}", precision=precision, dataset=data.load("digits")
    )
    for path in reduced.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_without_data_the_models_own_rows_are_used_and_named(
    run: Path, tmp_path: Path, run_command: Callable[..., Result]
) -> None:
    result = run_command(
        "export", run, "--repository", tmp_path, "--name", "m", "--precision", "int8"
    )
    assert result.stdout == f"{tmp_path / 'm' / '1'}\n"
    assert "int8; -ELBO +" in result.stderr or "int8; -ELBO -" in result.stderr
    assert "on decoded samples of its own" in result.stderr
    assert bundle.read_manifest(tmp_path / "m" / "1").precision_cost_rows == "own"
    shown = run_command("verify", tmp_path / "m" / "1").stdout
    assert re.search(r"precision +int8; -ELBO [+-]0\.\d{4} nats a row, on decoded", shown)


def test_dynamic_int8_is_refused_with_the_reason(
    run: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    line = refused(
        "export", run, "--repository", tmp_path, "--name", "m", "--precision", "dynamic-int8"
    )
    assert "answer would depend on the other rows in the batch" in line
    assert not list(tmp_path.iterdir())


def test_other_data_than_the_runs_is_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, x=data.load("digits").x[:50])
    dataset = data.load(f"npz:{other}")
    with pytest.raises(ExportError, match=f"npz:{other}: is not the data that .* was trained on"):
        export_run(run, tmp_path, "m", precision="fp16", dataset=dataset)


def test_data_without_a_use_is_refused(
    run: Path, tmp_path: Path, run_command: Callable[..., Result]
) -> None:
    result = run_command("export", run, "--repository", tmp_path, "--name", "m", "--data", "digits")
    assert result.exit_code == 2
    assert "--data is for --precision fp16 or int8" in result.stderr


def test_a_manifest_of_another_precision_is_refused(broken: Path, precision: str) -> None:
    """Else a graph could be as inexact as int8 may be, under any name."""
    info = bundle.read_manifest(broken)
    info.precision = model_pb2.PRECISION_FLOAT32
    bundle.write_manifest(broken, info)
    found = {"fp16": "float16", "int8": "int8"}[precision]
    with pytest.raises(VerifyError, match=f"the graphs are {found}, the manifest says float32"):
        verify(broken)


@pytest.mark.parametrize(("array", "shift"), [("mu", 0.5), ("x_hat", 0.5), ("log_var", np.nan)])
def test_outputs_that_are_further_off_than_stated(broken: Path, array: str, shift: float) -> None:
    golden = golden_rows(broken)
    golden[array][0] += np.float32(shift)
    replace_golden(broken, golden)
    with pytest.raises(VerifyError, match=f"{array} differs from PyTorch's by"):
        verify(broken)


@pytest.mark.parametrize("precision", ["int8"], indirect=True)
def test_an_int8_bundle_is_always_judged_by_its_export(broken: Path) -> None:
    """Outputs may move a little from processor to processor, but not a little every time."""
    exported = bundle.read_manifest(broken).numerics
    stated = exported.parity_x_hat
    golden = golden_rows(broken)
    ours = BundleSubject.open(broken).decode(torch.from_numpy(golden["z"])).numpy()

    golden["x_hat"] = ours + np.float32(1.2 * stated)
    replace_golden(broken, golden)
    result = verify(broken)
    assert result.info.numerics.parity_x_hat == pytest.approx(1.2 * stated, rel=1e-3)
    assert bundle.read_manifest(broken).numerics == exported

    golden["x_hat"] = ours + np.float32(1.4 * stated + 0.01)  # in 1.25 times what was measured last
    replace_golden(broken, golden)
    with pytest.raises(VerifyError, match="x_hat differs from PyTorch's by"):
        verify(broken)


def golden_rows(folder: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    with np.load(folder / bundle.GOLDEN) as archive:
        return dict(archive)


def replace_golden(
    folder: Path, golden: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]
) -> None:
    content = npz.to_bytes(dict(golden))
    (folder / bundle.GOLDEN).write_bytes(content)
    info = bundle.read_manifest(folder)
    for entry in info.files:
        if entry.name == bundle.GOLDEN:
            entry.CopyFrom(bundle.digest(bundle.GOLDEN, content))
    bundle.write_manifest(folder, info)
