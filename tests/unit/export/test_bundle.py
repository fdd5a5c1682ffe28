"""What export writes: graphs that are functions of their input, a true manifest, always one way."""

import errno
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export.bundling import contents, of_run, onnx_graphs, publish as publishing
from vaeserve_export.bundling.golden import golden_rows
from vaeserve_export.bundling.pair import Pair
from vaeserve_export.bundling.verify import verify
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import ExportError, RunError, VerifyError
from vaeserve_export.trained.open import open_subject
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.settings import TrainSettings
from vaeserve_export.training.train import train
from vaeserve_export.vae.model import Vae, VaeConfig, build

MODELS = ("digits", "rgb", "vectors")
PATHS = re.compile(rb"(?:/[A-Za-z_][\w.+-]*){2,}|\.py\b|site-packages|stack_trace")


@pytest.fixture
def run(repository: Path) -> Path:
    return repository.parent / "runs" / "digits"


def pair_of(vae: Vae) -> Pair:
    return Pair(
        encoder=vae.encoder.eval(),
        decoder=vae.decoder.eval(),
        input_shape=vae.config.input_shape,
        latent_shape=(vae.config.latent_dim,),
    )


def bare_graph(path: Path) -> onnx.ModelProto:
    """A graph without its weights, whose bytes may look like anything."""
    model = onnx.load(path)
    for weights in model.graph.initializer:
        weights.ClearField("raw_data")
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("file", [bundle.ENCODER, bundle.DECODER])
def test_graphs_hold_the_computation_and_nothing_else(
    repository: Path, name: str, file: str
) -> None:
    model = bare_graph(repository / name / "1" / file)
    assert not PATHS.search(model.SerializeToString())
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert {node.domain for node in model.graph.node} == {""}
    operators = {node.op_type for node in model.graph.node}
    assert not [name for name in operators if "Random" in name or name == "Dropout"]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_stripping_is_what_removes_the_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter does write them, and an export that still held one would not be published."""
    config = VaeConfig(
        model="mlp",
        input_shape=(6,),
        latent_dim=2,
        hidden=4,
        likelihood="gaussian",
        gaussian_variance=1.0,
    )
    monkeypatch.setattr(onnx_graphs, "_strip", lambda model, name: None)
    with pytest.raises(VerifyError, match=r"encoder: the graph holds a path: .*/"):
        onnx_graphs.encoder_graph(pair_of(build(config, 0)))


def test_names_of_inputs_and_outputs(repository: Path) -> None:
    for file, inputs, outputs in (
        (bundle.ENCODER, ["x"], ["mu", "log_var"]),
        (bundle.DECODER, ["z"], ["x_hat"]),
    ):
        graph = bare_graph(repository / "digits" / "1" / file).graph
        assert [value.name for value in graph.input] == inputs
        assert [value.name for value in graph.output] == outputs


def test_equal_bytes_from_two_folders_and_processes(repository: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; "
        "from vaeserve_export.bundling.of_run import export_run;"
        "export_run(Path(sys.argv[1]), Path('repository'), 'rgb')"
    )
    folder = tmp_path / "another" / "path"
    folder.mkdir(parents=True)
    run = repository.parent / "runs" / "rgb"
    subprocess.run([sys.executable, "-c", program, run], cwd=folder, check=True)
    here, there = (
        {path.name: path.read_bytes() for path in (place / "rgb" / "1").iterdir()}
        for place in (repository, folder / "repository")
    )
    assert len(here) == 5
    assert here == there


def test_archives_carry_no_date(repository: Path) -> None:
    for file in (bundle.GOLDEN, bundle.CALIBRATION):
        content = (repository / "digits" / "1" / file).read_bytes()
        date = content[10:14]  # of the first member's header; 1980-01-01 00:00:00 is the earliest
        assert date == b"\x00\x00\x21\x00"


@pytest.mark.parametrize(
    ("name", "shape", "latent", "likelihood", "variance", "picture"),
    [
        ("digits", [1, 8, 8], [20], model_pb2.LIKELIHOOD_BERNOULLI, 0, True),
        ("rgb", [3, 9, 11], [5], model_pb2.LIKELIHOOD_BERNOULLI, 0, True),
        ("vectors", [6], [3], model_pb2.LIKELIHOOD_GAUSSIAN, 0.1, False),
    ],
)
def test_manifest(
    repository: Path,
    name: str,
    shape: list[int],
    latent: list[int],
    likelihood: "model_pb2.Likelihood.ValueType",
    variance: float,
    picture: bool,
) -> None:
    info = bundle.read_manifest(repository / name / "1")
    summary = run_folder.read_summary(repository.parent / "runs" / name)
    assert (info.name, info.version, info.format_version) == (name, 1, bundle.FORMAT_VERSION)
    assert (list(info.input_shape), list(info.latent_shape)) == (shape, latent)
    assert info.likelihood == likelihood
    assert info.gaussian_variance == variance
    assert info.HasField("preprocessing") == picture
    if picture:
        assert (info.preprocessing.scale, info.preprocessing.offset) == (1 / 255, 0)
    fitted = [bundle.ATTRIBUTES, bundle.PRIOR] if name == "digits" else []
    always = [bundle.CALIBRATION, bundle.DECODER, bundle.ENCODER, bundle.GOLDEN]
    assert sorted(entry.name for entry in info.files) == sorted([*always, *fitted])
    assert info.training.negative_elbo_nats == summary.negative_elbo_nats
    assert info.training.beta == 1
    assert info.numerics.rows == 256
    assert info.tool_versions.keys() == {"vaeserve", "torch", "onnx", "onnxscript"}
    assert not info.HasField("limits")


@pytest.mark.parametrize("name", MODELS)
def test_parity_and_batch_difference_of_every_kind_of_model(repository: Path, name: str) -> None:
    numerics = verify(repository / name / "1").info.numerics
    assert numerics.parity_mu <= 1e-5
    assert numerics.parity_log_var <= 1e-5
    assert numerics.parity_x_hat <= 1e-5
    assert numerics.batch_difference == 0


@torch.no_grad()
def test_golden_rows_are_the_models_own(run: Path) -> None:
    vae = run_folder.load_model(run)
    golden = golden_rows(pair_of(vae))
    assert {name: array.shape for name, array in golden.items()} == {
        "x": (256, 1, 8, 8),
        "mu": (256, 20),
        "log_var": (256, 20),
        "z": (256, 20),
        "x_hat": (256, 1, 8, 8),
    }
    np.testing.assert_array_equal(golden["z"][:128], golden["mu"][:128])
    mu, _ = vae.encoder(torch.from_numpy(golden["x"]))
    np.testing.assert_array_equal(golden["mu"], mu.numpy())
    x_hat = vae.decoder(torch.from_numpy(golden["z"]))
    np.testing.assert_array_equal(golden["x_hat"], x_hat.numpy())


@pytest.mark.parametrize(("side", "rows"), [(8, 256), (64, 85), (128, 64)])
def test_large_rows_make_fewer_golden_rows(side: int, rows: int) -> None:
    config = VaeConfig(
        model="mlp",
        input_shape=(3, side, side),
        latent_dim=2,
        hidden=4,
        likelihood="bernoulli",
        gaussian_variance=1.0,
    )
    assert len(golden_rows(pair_of(build(config, 0)))["x"]) == rows


def test_versions_count_up_and_are_never_overwritten(run: Path, tmp_path: Path) -> None:
    folders = [of_run.export_run(run, tmp_path, "m") for _ in range(2)]
    assert folders == [tmp_path / "m" / "1", tmp_path / "m" / "2"]
    assert of_run.export_run(run, tmp_path, "m", 10) == tmp_path / "m" / "10"
    assert publishing._next_version(tmp_path / "m") == 11
    with pytest.raises(ExportError, match="10: exists already"):
        of_run.export_run(run, tmp_path, "m", 10)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "10", "2"]


@pytest.mark.parametrize("name", ["", "A", "../m", "a/b", ".hidden", "x" * 65, "m\n", "-m"])
def test_impossible_names(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=r"model name .* use a-z"):
        of_run.export_run(run, tmp_path / "repository", name)
    assert not (tmp_path / "repository").exists()


def test_impossible_version(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="use a positive integer"):
        of_run.export_run(run, tmp_path, "m", 0)


def test_an_export_that_fails_parity_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = golden_rows

    def shifted(pair: Pair) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        arrays = exact(pair)
        return {**arrays, "x_hat": arrays["x_hat"] + np.float32(1e-3)}

    monkeypatch.setattr(contents, "golden_rows", shifted)
    with pytest.raises(VerifyError, match=r"x_hat differs from PyTorch's by 0\.001"):
        of_run.export_run(run, tmp_path / "repository", "m")
    assert list((tmp_path / "repository").iterdir()) == []


def test_a_disk_that_fills_while_figures_are_recorded_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is written twice: before verification, and with its figures after it."""
    write, calls = bundle.write_manifest, []

    def full(folder: Path, info: model_pb2.ModelInfo) -> None:
        calls.append(folder)
        if len(calls) == 2:
            (folder / ".model.json.new").write_text('{"half')
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, info)

    monkeypatch.setattr(bundle, "write_manifest", full)
    with pytest.raises(ExportError, match=r"1: cannot be written: recording .* failed"):
        of_run.export_run(run, tmp_path / "repository", "m")
    assert list((tmp_path / "repository").iterdir()) == []


def test_run_that_is_not_finished(tmp_path: Path, refused: Callable[..., str]) -> None:
    with pytest.raises(RunError, match="holds no run"):
        of_run.export_run(tmp_path / "run", tmp_path, "m")
    line = refused("export", tmp_path / "run", "--repository", tmp_path, "--name", "m")
    assert line == f"Error: {tmp_path / 'run'}: holds no run"


def test_repository_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written: "):
        of_run.export_run(run, tmp_path / "file", "m")


@pytest.mark.parametrize(
    ("settings", "likelihood", "variance"),
    [
        ({"likelihood": "l2"}, model_pb2.LIKELIHOOD_GAUSSIAN, 0.5),
        (
            {"likelihood": "continuous-bernoulli", "activation": "gated", "layers": 2},
            model_pb2.LIKELIHOOD_CONTINUOUS_BERNOULLI,
            0,
        ),
        ({"likelihood": "gaussian", "learn_variance": True}, model_pb2.LIKELIHOOD_GAUSSIAN, None),
        ({"model": "conv-ae", "activation": "silu"}, model_pb2.LIKELIHOOD_BERNOULLI, 0),
    ],
)
def test_every_objective_is_exported(
    few_digits: Dataset,
    tmp_path: Path,
    settings: dict[str, Any],
    likelihood: "model_pb2.Likelihood.ValueType",
    variance: float | None,
) -> None:
    chosen = TrainSettings(epochs=2, hidden=16, latent_dim=3, **settings)
    train(chosen, few_digits, tmp_path / "run")
    version = of_run.export_run(tmp_path / "run", tmp_path / "models", "m")

    info = bundle.read_manifest(version)
    learned = run_folder.load_model(tmp_path / "run").likelihood.variance
    assert info.likelihood == likelihood
    assert info.gaussian_variance == (learned if variance is None else variance)
    assert info.gaussian_variance != 0.1
    assert info.training.beta == chosen.beta
    x, eps = torch.from_numpy(few_digits.x[:20]), torch.zeros(20, 1, 3)
    run, published = open_subject(tmp_path / "run"), open_subject(version)
    nats = []
    for subject in (run, published):
        mu, log_var = subject.encode(x)
        z = mu[:, None] + (0.5 * log_var).exp()[:, None] * eps
        nats.append(subject.reconstruction_nats(x, z))
    torch.testing.assert_close(nats[1], nats[0], rtol=1e-4, atol=1e-4)
