"""A bundle's files become a version; what was fitted after training rides along, checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve_export import npz
from vaeserve_export.bundling.publish import publish
from vaeserve_export.errors import VerifyError

LATENTS = 20
Contents = tuple[dict[str, bytes], model_pb2.ModelInfo]


def mixture(**change: Any) -> bytes:
    arrays = {
        "weights": np.array([0.25, 0.75]),
        "means": np.zeros((2, LATENTS)),
        "cholesky": np.stack([np.eye(LATENTS)] * 2),
    }
    return npz.to_bytes(arrays | change)


def directions(**change: Any) -> bytes:
    return npz.to_bytes({"directions": np.ones((2, LATENTS), np.float32)} | change)


@pytest.fixture
def contents(repository: Path) -> Contents:
    """A sound bundle with a prior and two attributes."""
    folder = repository / "digits" / "1"
    info = bundle.read_manifest(folder)
    files = bundle.read_files(folder, info)
    files |= {bundle.PRIOR: mixture(), bundle.ATTRIBUTES: directions()}
    info.prior.components = 2
    del info.attributes[:]  # its own, in place of which the two come
    for name in ("glasses", "smile"):
        info.attributes.add(name=name, method="balanced", auc=0.9)
    return files, info


def test_prior_and_attributes_are_carried(contents: Contents, tmp_path: Path) -> None:
    files, info = contents
    before = info.SerializeToString(deterministic=True)
    folder = publish(files, info, tmp_path, "digits", 7)
    assert info.SerializeToString(deterministic=True) == before
    written = bundle.read_manifest(folder)
    assert (written.name, written.version) == ("digits", 7)
    assert written.prior == info.prior
    assert list(written.attributes) == list(info.attributes)
    assert bundle.read_files(folder, written) == files
    prior = archives.read_prior(files[bundle.PRIOR], written)
    assert prior.cholesky.shape == (2, LATENTS, LATENTS)
    assert archives.read_attributes(files[bundle.ATTRIBUTES], written).shape == (2, LATENTS)


def test_figures_of_another_version_do_not_ride_along(contents: Contents, tmp_path: Path) -> None:
    files, info = contents
    info.numerics.parity_mu = 1.0
    info.device_numerics.add(device="NVIDIA H200", parity_mu=1.0)
    written = bundle.read_manifest(publish(files, info, tmp_path, "digits"))
    assert written.numerics.parity_mu <= 1e-5
    assert not written.device_numerics


def test_equal_input_in_any_order_gives_equal_bytes(contents: Contents, tmp_path: Path) -> None:
    files, info = contents
    backwards = dict(reversed(files.items()))
    folders = [
        publish(content, info, tmp_path / place, "m")
        for place, content in (("a", files), ("b", backwards))
    ]
    one, other = ({path.name: path.read_bytes() for path in f.iterdir()} for f in folders)
    assert one == other


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (bundle.PRIOR, b"", r"prior\.npz: cannot be read: it is no \.npz archive"),
        (bundle.PRIOR, mixture(weights=np.full(3, 1 / 3)), r"weights is float64 \[3\], by the"),
        (bundle.PRIOR, mixture(weights=np.array([0.5, 0.6])), "positive and sum to 1"),
        (bundle.PRIOR, mixture(weights=np.array([0.0, 1.0])), "positive and sum to 1"),
        (bundle.PRIOR, mixture(means=np.full((2, LATENTS), np.nan)), "means holds NaN"),
        (bundle.PRIOR, mixture(means=np.zeros((2, LATENTS), np.float32)), "means is float32"),
        (bundle.PRIOR, mixture(cholesky=np.ones((2, LATENTS, LATENTS))), "lower triangular"),
        (bundle.PRIOR, mixture(cholesky=np.zeros((2, LATENTS, LATENTS))), "positive diagonal"),
        (bundle.ATTRIBUTES, b"PK", r"attributes\.npz: cannot be read"),
        (bundle.ATTRIBUTES, directions(directions=np.ones((2, 3), np.float32)), r"\[2, 3\]"),
        (
            bundle.ATTRIBUTES,
            directions(directions=np.full((2, LATENTS), np.inf, np.float32)),
            "directions holds NaN or infinite",
        ),
        (
            bundle.ATTRIBUTES,
            directions(directions=np.zeros((2, LATENTS), np.float32)),
            "a direction is zero",
        ),
    ],
)
def test_damaged_archives_are_not_published(
    contents: Contents, tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    files, info = contents
    with pytest.raises(VerifyError, match=message):
        publish(files | {file: content}, info, tmp_path, "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("names", [("smile", "glasses"), ("smile", "smile"), ("", "smile")])
def test_attributes_have_names_of_their_own_in_order(
    contents: Contents, tmp_path: Path, names: tuple[str, str]
) -> None:
    files, info = contents
    for attribute, name in zip(info.attributes, names, strict=True):
        attribute.name = name
    with pytest.raises(VerifyError, match="names of their own, in order"):
        publish(files, info, tmp_path, "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.ClearField("prior"), r"lists but does not describe prior\.npz"),
        (lambda info: info.ClearField("attributes"), r"does not describe attributes\.npz"),
    ],
)
def test_what_is_listed_is_described(
    contents: Contents, tmp_path: Path, change: Callable[[model_pb2.ModelInfo], None], message: str
) -> None:
    files, info = contents
    change(info)
    with pytest.raises(VerifyError, match=message):
        publish(files, info, tmp_path, "m")


@pytest.mark.parametrize("file", [bundle.PRIOR, bundle.ATTRIBUTES])
def test_what_is_described_is_listed(contents: Contents, tmp_path: Path, file: str) -> None:
    files, info = contents
    del files[file]
    with pytest.raises(VerifyError, match=f"describes but does not list {file}"):
        publish(files, info, tmp_path, "m")
