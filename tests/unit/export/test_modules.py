"""Modules of a user's own: the same proofs, and errors that say what to change."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vaeserve_export
from support.modules import INPUT_SHAPE, LATENT_SHAPE, conv_pair
from vaeserve.v1 import bundle, model_pb2
from vaeserve_export import export_modules
from vaeserve_export.bundling.verify import verify
from vaeserve_export.data.dataset import Dataset
from vaeserve_export.errors import ExportError
from vaeserve_export.trained.of_bundle import BundleSubject

Forward = Callable[[Tensor], Any]


class Fn(nn.Module):
    """A module around a function."""

    def __init__(self, function: Forward) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Linear(3, 3)

    def forward(self, rows: Tensor) -> Any:
        return self.function(rows)


def encoder_of(function: Forward = lambda x: (x[:, :2], -x[:, :2])) -> nn.Module:
    return Fn(function)


def decoder_of(function: Forward = lambda z: torch.cat([z, z[:, :1]], 1).sigmoid()) -> nn.Module:
    return Fn(function)


def export(encoder: nn.Module, decoder: nn.Module, repository: Path, **change: Any) -> Path:
    arguments: dict[str, Any] = {
        "name": "mine",
        "repository": repository,
        "input_shape": (3,),
        "likelihood": "bernoulli",
    }
    return export_modules(encoder, decoder, **(arguments | change))


@pytest.fixture(scope="session")
def rows(digits: Dataset) -> np.ndarray[Any, np.dtype[np.float32]]:
    return digits.x[:400]


@pytest.fixture(scope="session")
def mine(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> Path:
    """A bundle of modules that were left in train mode."""
    encoder, decoder = conv_pair()
    encoder.body[1].eval()  # a frozen BatchNorm
    modes = [part.training for module in (encoder, decoder) for part in module.modules()]
    folder = export(
        encoder,
        decoder,
        tmp_path_factory.mktemp("mine"),
        input_shape=INPUT_SHAPE,
        preprocessing=(1 / 16, 0.0),
        calibration_rows=rows,
    )
    assert [p.training for module in (encoder, decoder) for p in module.modules()] == modes
    return folder


def test_the_bundle_has_the_same_proofs(mine: Path) -> None:
    result = verify(mine)
    numerics = result.info.numerics
    assert numerics.rows == 256
    assert max(numerics.parity_mu, numerics.parity_log_var, numerics.parity_x_hat) <= 1e-5
    assert numerics.batch_difference == 0
    info = result.info
    assert tuple(info.input_shape) == INPUT_SHAPE
    assert tuple(info.latent_shape) == LATENT_SHAPE
    assert info.likelihood == model_pb2.LIKELIHOOD_BERNOULLI
    assert (info.preprocessing.scale, info.preprocessing.offset) == (1 / 16, 0)
    assert not info.HasField("training")
    assert info.precision == model_pb2.PRECISION_FLOAT32


@torch.no_grad()
def test_graphs_are_the_modules_in_eval_mode(mine: Path, rows: Any) -> None:
    encoder, decoder = (module.eval() for module in conv_pair())
    subject = BundleSubject.open(mine)
    x = torch.from_numpy(rows[:32])
    mu, log_var = encoder(x)
    got = subject.encode(x)
    torch.testing.assert_close(got[0], mu.flatten(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[1], log_var.flatten(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(subject.decode(got[0]), decoder(mu), rtol=1e-4, atol=1e-5)


def test_scores_are_calibrated_on_the_rows_given(mine: Path, rows: Any) -> None:
    subject = BundleSubject.open(mine)
    x = torch.from_numpy(rows)
    mu, _ = subject.encode(x)
    nats = subject.reconstruction_nats(x, mu[:, None])[:, 0].double().numpy()
    with np.load(mine / bundle.CALIBRATION) as calibration:
        np.testing.assert_allclose(
            calibration["reconstruction_nats"], np.percentile(nats, np.arange(101)), rtol=1e-6
        )
        assert calibration["mu_mean"].shape == (2 * 4 * 4,)


def test_levels_are_calibrated_as_they_are_served(mine: Path, tmp_path: Path, rows: Any) -> None:
    levels = (16 * rows).round().astype(np.uint8)
    np.testing.assert_array_equal(levels / 16, rows)
    of_levels = export(
        *conv_pair(),
        tmp_path,
        input_shape=INPUT_SHAPE,
        preprocessing=(1 / 16, 0.0),
        calibration_rows=levels,
    )
    assert (of_levels / bundle.CALIBRATION).read_bytes() == (mine / bundle.CALIBRATION).read_bytes()


def test_equal_modules_give_equal_bytes(mine: Path, tmp_path: Path, rows: Any) -> None:
    again = export(
        *conv_pair(),
        tmp_path / "elsewhere",
        input_shape=INPUT_SHAPE,
        preprocessing=(1 / 16, 0.0),
        calibration_rows=rows,
    )
    for path in mine.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_less_precision_is_measured_on_the_rows_given(
    tmp_path: Path, rows: Any, precision: str
) -> None:
    folder = export(
        *conv_pair(),
        tmp_path,
        input_shape=INPUT_SHAPE,
        calibration_rows=rows,
        precision=precision,
    )
    info = bundle.read_manifest(folder)
    assert info.precision_cost_rows == "given"
    assert 0 < abs(info.precision_cost_nats) < 0.1
    assert info.numerics.batch_difference == 0


def test_without_rows_and_with_a_gaussian(tmp_path: Path) -> None:
    """Decoded samples of its own stand in; PyTorch's threads are left alone."""
    before = torch.get_num_threads()
    folder = export(
        encoder_of(),
        nn.Linear(2, 3),
        tmp_path,
        likelihood="gaussian",
        gaussian_variance=0.5,
        version=4,
    )
    assert torch.get_num_threads() == before
    info = bundle.read_manifest(folder)
    assert (info.version, info.gaussian_variance) == (4, 0.5)
    assert not info.HasField("preprocessing")


def drop(x: Tensor) -> tuple[Tensor, Tensor]:
    hidden = nn.functional.dropout(x + 1, 0.5, training=True)
    return hidden[:, :2], hidden[:, :2]


ENCODERS: dict[str, tuple[Forward, str]] = {
    "sample inside": (
        lambda x: (x[:, :2] + torch.randn(len(x), 2), x[:, :2]),
        "encoder: the same input gives other outputs each time, .* draws noise inside",
    ),
    "dropout that stays on": (drop, "draws noise inside"),
    "sample as a third output": (lambda x: (x, x, x), "returns 3 tensors; return mu and log_var"),
    "one tensor": (lambda x: x, "returns Tensor; return the tensors mu, log_var"),
    "a mapping": (lambda x: {"mu": x, "log_var": x}, "returns dict; return the tensors"),
    "sigma": (
        lambda x: (x[:, :2], x[:, :2].exp()),
        r"log_var is never negative .* as if it were sigma .* 2 \* sigma.log\(\)",
    ),
    "unlike shapes": (lambda x: (x[:, :2], x[:, :1]), r"mu \[4, 2\] and log_var \[4, 1\]"),
    "no batch axis": (lambda x: (x.sum(0), x.sum(0)), r"of 4 rows it makes mu \[3\]"),
    "a fixed batch": (
        lambda x: (x.reshape(4, 3)[:, :2], x.reshape(4, 3)[:, :2]),
        r"fails on float32 \[1, 3\]: .* it must take any number of rows",
    ),
    "NaN": (lambda x: (x[:, :2] / 0, x[:, :2]), "what it returns is NaN or infinite"),
    "another shape of rows": (
        lambda x: (x @ torch.ones(5, 2), x @ torch.ones(5, 2)),
        r"fails on float32 \[4, 3\]: .*of the shape that was given",
    ),
    "normalises over the batch": (
        lambda x: ((x - x.mean(0))[:, :2], -x[:, :2]),
        "a row's result depends on the rows beside it",
    ),
    "double": (lambda x: (x.double()[:, :2], x.double()[:, :2]), "returns torch.float64"),
    "Python that looks at values": (
        lambda x: (x[:, :2], -x[:, :2]) if float(x.sum()) < 1e9 else (x, x),
        "encoder: PyTorch cannot export it: .* forward",
    ),
}


@pytest.mark.parametrize("fault", ENCODERS)
def test_encoders_that_cannot_be_served(tmp_path: Path, fault: str) -> None:
    function, message = ENCODERS[fault]
    with pytest.raises(ExportError, match=message) as raised:
        export(encoder_of(function), decoder_of(), tmp_path / "repository")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "repository").exists()


DECODERS: dict[str, tuple[Forward, str]] = {
    "logits": (
        lambda z: 9 * torch.cat([z, z[:, :1]], 1),
        "decoder: gives .* end it with a sigmoid",
    ),
    "another shape": (torch.sigmoid, r"makes \[4, 2\]; by input_shape it must be \[4, 3\]"),
    "a pair": (lambda z: (z, z), "returns tuple; return one tensor"),
    "noise": (lambda z: torch.rand(len(z), 3), "decoder: the same input gives other outputs"),
    "NaN": (lambda z: torch.full((len(z), 3), torch.nan), "decoder: what it returns is NaN"),
    "fails": (lambda z: z @ torch.ones(7, 3), r"decoder: fails on float32 \[4, 2\]"),
}


@pytest.mark.parametrize("fault", DECODERS)
def test_decoders_that_cannot_be_served(tmp_path: Path, fault: str) -> None:
    function, message = DECODERS[fault]
    with pytest.raises(ExportError, match=message):
        export(encoder_of(), decoder_of(function), tmp_path)


def test_modules_elsewhere_than_on_the_cpu_or_in_half_precision(tmp_path: Path) -> None:
    elsewhere = encoder_of().to("meta")
    with pytest.raises(ExportError, match=r"encoder: lies on meta; .* call encoder\.cpu\(\)"):
        export(elsewhere, decoder_of(), tmp_path)
    with pytest.raises(ExportError, match=r"decoder: has torch\.float16 .* decoder\.float\(\)"):
        export(encoder_of(), decoder_of().half(), tmp_path)
    with pytest.raises(ExportError, match=r"encoder: is function, not a torch\.nn\.Module"):
        export(lambda x: x, decoder_of(), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "No"}, "model name 'No'"),
        ({"input_shape": ()}, r"input_shape \[\]: give the shape of one row"),
        (
            {"likelihood": "laplace"},
            "likelihood 'laplace': choose from bernoulli, continuous-bernoulli, gaussian",
        ),
        ({"likelihood": "gaussian"}, "gaussian_variance: give it with likelihood 'gaussian'"),
        ({"gaussian_variance": 1.0}, "gaussian_variance: give it with likelihood 'gaussian'"),
        ({"likelihood": "gaussian", "gaussian_variance": 0.0}, "must be above 0"),
        ({"preprocessing": (0.0, 0.0)}, "preprocessing"),
        ({"precision": "bf16"}, "precision 'bf16': choose from float32, fp16, int8"),
        ({"precision": "dynamic-int8"}, "refused: its scale is taken over the whole batch"),
        ({"calibration_rows": np.zeros((5, 2))}, r"calibration_rows: \[5, 2\]; .* \[3\] each"),
        ({"calibration_rows": np.full((5, 3), np.nan)}, "calibration_rows: hold NaN"),
        ({"calibration_rows": np.ones((5, 3), np.uint8)}, "uint8; .* levels and their prepro"),
        (
            {"calibration_rows": np.ones((5, 3), np.int64), "preprocessing": (1.0, 0.0)},
            "are int64; give model values as floats, or levels as uint8",
        ),
        ({"calibration_rows": np.full((5, 3), 255.0)}, r"give model values in \[0, 1\]"),
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(encoder_of(), decoder_of(), tmp_path, **change)


def test_the_name_is_public_and_costs_nothing_until_it_is_used() -> None:
    program = (
        "import json, sys, vaeserve_export as e; before = 'torch' in sys.modules;"
        "e.export_modules; print(json.dumps([before, 'torch' in sys.modules, e.__all__]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert json.loads(out) == [False, True, ["export_modules"]]
    with pytest.raises(AttributeError, match="no attribute 'import_modules'"):
        vaeserve_export.import_modules  # noqa: B018
