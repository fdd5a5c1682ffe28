"""Train, validation and test parts: the test part never takes part in training."""

import dataclasses
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import Result

from support.idx_files import idx
from vaeserve_export.data.dataset import Dataset, load, training_rows
from vaeserve_export.errors import DataError

SHARED = Path(os.environ.get("VAESERVE_DATA_DIR", Path(__file__).parents[4] / "shared" / "data"))


def shared(place: str) -> Path:
    if not (SHARED / place).exists():
        pytest.skip(f"{place} is not on this machine; VAESERVE_DATA_DIR may say where it is")
    return SHARED / place


def test_the_test_part_of_idx(tmp_path: Path) -> None:
    for name, rows in (("train", 3), ("t10k", 2)):
        images = np.full((rows, 4, 4), rows, np.uint8)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx(np.array([7, 8], np.uint8)))
    )
    test = load(f"idx:{tmp_path}", part="test")
    assert test.x.shape == (2, 1, 4, 4)
    assert test.labels is not None
    assert test.labels.tolist() == [7, 8]
    assert load(f"idx:{tmp_path}").x.shape == (3, 1, 4, 4)


@pytest.mark.parametrize("spec", ["digits", "idx:{}", "npz:{}/x.npz", "npy:{}/x.npy"])
def test_a_source_without_test_part(tmp_path: Path, spec: str) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.ones((3, 4, 4), np.uint8)))
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2)))
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match="has no test part; name a source"):
        load(spec.format(tmp_path), part="test")


def write_parts(path: Path, **arrays: npt.NDArray[np.generic]) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


def test_parts_of_an_archive(tmp_path: Path) -> None:
    """Levels of all parts are read as those to train on, though these rows are all dark."""
    spec = write_parts(
        tmp_path / "a.npz",
        train=np.full((5, 4, 4), 255, np.uint8),
        valid=np.ones((3, 4, 4), np.uint8),
        test=np.ones((2, 4, 4), np.uint8),
        test_labels=np.array([3, 4]),
    )
    data, test = load(spec), load(spec, part="test")
    assert data.validation is not None
    np.testing.assert_array_equal(data.validation.x, np.full((3, 1, 4, 4), np.float32(1 / 255)))
    np.testing.assert_array_equal(test.x, np.full((2, 1, 4, 4), np.float32(1 / 255)))
    assert test.labels is not None
    assert test.labels.tolist() == [3, 4]


def test_a_part_of_another_kind_or_shape(tmp_path: Path) -> None:
    train = np.ones((5, 4, 4), np.uint8)
    spec = write_parts(tmp_path / "a.npz", train=train, test=np.ones((2, 4)))
    with pytest.raises(DataError, match="test is float64 but train is uint8"):
        load(spec, part="test")
    spec = write_parts(tmp_path / "b.npz", train=train, valid=np.ones((2, 4, 5), np.uint8))
    with pytest.raises(DataError, match=r"rows for validation are \[1, 4, 5\] each"):
        load(spec)


def test_own_validation_rows_replace_the_split(tmp_path: Path) -> None:
    train, valid = np.arange(40.0).reshape(20, 2), -np.arange(6.0).reshape(3, 2)
    spec = write_parts(tmp_path / "a.npz", train=train, valid=valid)
    for seed in (0, 1):
        rows, validation = training_rows(load(spec), seed)
        np.testing.assert_array_equal(rows.x, train.astype(np.float32))
        np.testing.assert_array_equal(validation.x, valid.astype(np.float32))
    other = write_parts(tmp_path / "b.npz", train=train, valid=valid + 1)
    assert load(spec).sha256 != load(other).sha256


def test_else_the_seed_splits(digits: Dataset) -> None:
    rows, validation = training_rows(digits, 3)
    assert (len(rows.x), len(validation.x)) == (1618, 179)
    assert rows.labels is not None
    assert validation.labels is not None
    both = np.concatenate([rows.x, validation.x]).reshape(1797, -1)
    assert sorted(map(bytes, both)) == sorted(map(bytes, digits.x.reshape(1797, -1)))
    again, _ = training_rows(digits, 3)
    np.testing.assert_array_equal(again.x, rows.x)
    np.testing.assert_array_equal(again.labels, rows.labels)
    other, _ = training_rows(digits, 4)
    assert not np.array_equal(other.x, rows.x)


def test_either_part_can_be_shuffled_and_what_the_seed_split_is(tmp_path: Path) -> None:
    order = np.arange(40)
    spec = write_parts(
        tmp_path / "a.npz",
        train=np.repeat(order[:, None], 2, axis=1).astype(float),
        labels=order,
        valid=np.repeat(order[:9, None], 2, axis=1).astype(float),
    )
    train, validation = (part.shuffled(3) for part in training_rows(load(spec), 0))
    assert train.labels is not None
    np.testing.assert_array_equal(train.x[:, 0], train.labels)
    assert sorted(train.labels) == order.tolist() != train.labels.tolist()
    assert sorted(validation.x[:, 0]) == order[:9].tolist()
    np.testing.assert_array_equal(train.shuffled(4).x, train.x)
    np.testing.assert_array_equal(training_rows(load(spec), 0)[0].shuffled(3).x, train.x)

    split, _ = training_rows(dataclasses.replace(load(spec), validation=None), 0)
    np.testing.assert_array_equal(split.shuffled(3).x, split.x)


def test_flat_levels_are_told_to_be_reshaped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((50, 784), np.uint8))
    with pytest.raises(DataError, match=r"\[50, 784\]; .* reshape them to \[rows, height, width\]"):
        load(f"npy:{tmp_path / 'a.npy'}")


def test_an_npy_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((3, 4, 5), 51, np.uint8))
    data = load(f"npy:{tmp_path / 'a.npy'}")
    np.testing.assert_array_equal(data.x, np.full((3, 1, 4, 5), np.float32(0.2)))


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_a_damaged_npy_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as an \.npy file"):
        load(f"npy:{tmp_path / 'a.npy'}")


def test_npy_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}, 1], object), allow_pickle=True)
    with pytest.raises(DataError, match="Object arrays"):
        load(f"npy:{tmp_path / 'a.npy'}")


@pytest.mark.parametrize(
    ("spec", "train", "validation", "test"),
    [
        ("mnist", 60000, None, 10000),
        ("fashion-mnist", 60000, None, 10000),
        ("npz:binarized-mnist/binarized-mnist.npz", 50000, 10000, 10000),
        ("npz:smiles/smiles-train.npz", 10522, None, None),
    ],
)
def test_published_files(spec: str, train: int, validation: int | None, test: int | None) -> None:
    source, _, place = spec.partition(":")
    path = shared(place or source)
    spec = f"npz:{path}" if place else spec
    data = load(spec, data_dir=SHARED)
    assert len(data.x) == train
    assert (data.x.min(), data.x.max()) == (0, 1)
    assert (data.labels is None) == ("binarized" in spec)
    assert (data.validation and len(data.validation.x)) == validation
    if test:
        assert load(spec, part="test", data_dir=SHARED).x.shape == (test, *data.row_shape)


def test_training_validates_on_those_rows_and_reads_no_test_part(
    tmp_path: Path, run_command: Callable[..., Result]
) -> None:
    """The test array is full of NaN, which would be refused if anything looked at it."""
    rng = np.random.default_rng(0)
    train, valid = rng.normal(size=(20, 3)), rng.normal(size=(7, 3))
    spec = write_parts(tmp_path / "a.npz", train=train, valid=valid, test=np.full((5, 3), np.nan))
    options = ("--likelihood", "gaussian", "--epochs", 1, "--hidden", 4, "--latent-dim", 2)
    result = run_command("train", "--data", spec, "--out", tmp_path / "run", "--json", *options)
    summary = json.loads(result.stdout)
    assert (summary["train_rows"], summary["validation_rows"]) == (20, 7)
    assert "20 rows to train on and 7 to validate" in result.stderr
    with pytest.raises(DataError, match="NaN"):
        load(spec, part="test")


def test_published_sets_are_mixed_and_have_the_order_that_they_were_published_in() -> None:
    for spec, part in (("digits", "train"), ("mnist", "train"), ("mnist", "test")):
        if spec == "mnist":
            shared(spec)
        data = load(spec, part=part, data_dir=SHARED)  # type: ignore[arg-type]
        np.testing.assert_array_equal(data.shuffled(3).x, data.x)
