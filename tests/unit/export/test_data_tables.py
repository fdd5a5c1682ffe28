"""CSV and Parquet tables: standardised by the train part, and refused where a number is missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given, settings, strategies as st

from vaeserve.v1 import bundle
from vaeserve_export.data.dataset import load
from vaeserve_export.data.rows import Column
from vaeserve_export.errors import DataError
from vaeserve_export.trained.open import open_subject
from vaeserve_export.training import run as run_folder

FLOWERS = """sepal,petal,species
5.1, 1.4,setosa
7.0,4.7,versicolor
6.3,6.0,virginica
4.9,1.4,setosa
"""


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"csv:{path}"


def write_parquet(path: Path, columns: dict[str, Any]) -> str:
    pytest.importorskip("pyarrow", reason="Parquet needs the extra [parquet]")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return f"parquet:{path}"


def test_columns_are_standardised(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a.csv", FLOWERS) + ",label=species")
    raw = np.array([[5.1, 1.4], [7.0, 4.7], [6.3, 6.0], [4.9, 1.4]])
    np.testing.assert_allclose(data.x, (raw - raw.mean(0)) / raw.std(0), rtol=1e-6)
    assert [column.name for column in data.columns] == ["sepal", "petal"]
    np.testing.assert_allclose([column.mean for column in data.columns], raw.mean(0))
    np.testing.assert_allclose([column.scale for column in data.columns], raw.std(0))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 0]
    assert data.level is None


def test_whole_numbers_are_labels_as_they_are(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a.csv", "y,x\n7,1\n-2,2\n") + ",label=y")
    assert data.labels is not None
    assert data.labels.tolist() == [7, -2]
    assert [column.name for column in data.columns] == ["x"]


def test_a_constant_column_is_zero(tmp_path: Path) -> None:
    """0.1 is no binary fraction: the rounded mean of equal values could differ from them."""
    data = load(write(tmp_path / "a.csv", "x,c\n" + "".join(f"{i},0.1\n" for i in range(7))))
    assert data.columns[1] == Column("c", 0.1, 1.0)
    np.testing.assert_array_equal(data.x[:, 1], 0)


def test_quotes_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = '\ufeff"a, b",c\r\n"1",2\r\n\r\n3,4\r\n'
    data = load(write(tmp_path / "a.csv", text))
    assert [column.name for column in data.columns] == ["a, b", "c"]
    assert data.x.tolist() == [[-1, -1], [1, 1]]


def test_other_parts_are_standardised_by_train(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "a,b\n0,0\n2,4\n")
    write(tmp_path / "valid.csv", "a,b\n4,4\n")
    write(tmp_path / "test.csv", "b,a\n8,0\n")  # columns are found by name
    data, test = load(f"csv:{tmp_path}"), load(f"csv:{tmp_path}", part="test")
    assert data.validation is not None
    assert data.validation.x.tolist() == [[3, 1]]
    assert test.x.tolist() == [[-1, 3]]
    assert test.columns == data.columns == (Column("a", 1, 1), Column("b", 2, 2))


def test_one_name_for_the_validation_part(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "a\n1\n3\n")
    write(tmp_path / "validation.csv", "a\n5\n")
    validation = load(f"csv:{tmp_path}").validation
    assert validation is not None
    assert validation.x.tolist() == [[3]]
    write(tmp_path / "val.csv", "a\n5\n")
    with pytest.raises(DataError, match=r"val\.csv and validation\.csv are both the valid part"):
        load(f"csv:{tmp_path}")


def test_a_models_own_columns_are_used(tmp_path: Path) -> None:
    """Rows that a trained model is measured on must be scaled as it was trained."""
    columns = (Column("b", 10, 2), Column("a", 0, 1))
    data = load(write(tmp_path / "a.csv", "a,b\n1,10\n2,12\n"), columns=columns)
    assert data.x.tolist() == [[0, 1], [1, 2]]
    assert data.columns == columns
    with pytest.raises(DataError, match="lacks the columns c, which the model was given"):
        load(f"csv:{tmp_path / 'a.csv'}", columns=(*columns, Column("c", 0, 1)))
    with pytest.raises(DataError, match="has columns that the model was not given: a"):
        load(f"csv:{tmp_path / 'a.csv'}", columns=columns[:1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "is empty: it has no rows"),
        ("1,2\n3,4\n", "its first line is numbers; it must be the columns' headings"),
        ("a;b\n1;2\n", "has one column, 'a;b'; separate values by commas"),
        (",a\n0,1\n", "column 1 has no heading; .* index=False"),
        ("a,a\n0,1\n", "two columns are headed 'a'"),
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 values, the headings are 2"),
        ("a,b\n1,2\n1\n", "line 3 has 1 values, the headings are 2"),
        ("a,b\n1,2\n1,\n3,NA\n", "column 'b' lacks a value in 2 of 3 rows, first in row 2; fill"),
        ("a,b\n1,nan\n", "column 'b' lacks a value in 1 of 1 rows"),
        ("a,b\n1,x\n", "column 'b' is not of numbers: 'x' in row 1; .*,label=b"),
        ("a,b\n1,2\n3,2024-05-01\n", "'2024-05-01' in row 2"),
        ("a\n1\ninf\n", "column 'a' holds infinite values"),
        ("a\n1e300\n-1e300\n", "column 'a' is beyond what can be standardised"),
        ('a\n"1\n', "cannot be read as CSV: unexpected end of data"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has no column 'y' of labels, but a, b"),
        ("y\n1\n", "has no column but the labels"),
        ("a,y\n1,0.5\n", "labels are whole numbers or names; 'y' has others"),
        ("a,y\n1,cat\n2,\n", "row 2 has no label in column 'y'"),
        ("a,y\n1,1\n2,\n", "row 2 has no label in column 'y'"),
    ],
)
def test_bad_labels(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "a.csv", text) + ",label=y")


@pytest.mark.parametrize(
    ("label", "message"),
    [("cow", "no row to train on is labelled 'cow'"), ("3", "names in one part and numbers")],
)
def test_labels_that_training_lacks(tmp_path: Path, label: str, message: str) -> None:
    write(tmp_path / "train.csv", "a,y\n1,cat\n2,dog\n")
    write(tmp_path / "test.csv", f"a,y\n1,{label}\n")
    with pytest.raises(DataError, match=message):
        load(f"csv:{tmp_path},label=y", part="test")


def test_unreadable_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        load(f"csv:{tmp_path / 'a.csv'}")
    with pytest.raises(DataError, match=r"holds no train\.csv"):
        load(f"csv:{tmp_path}")
    (tmp_path / "b.csv").write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        load(f"csv:{tmp_path / 'b.csv'}")


def test_parquet_is_as_csv(tmp_path: Path) -> None:
    columns = {"sepal": [5.1, 7, 6.3, 4.9], "petal": [1.4, 4.7, 6, 1.4]}
    species = ["setosa", "versicolor", "virginica", "setosa"]
    parquet = load(
        write_parquet(tmp_path / "a.parquet", columns | {"species": species}) + ",label=species"
    )
    table = load(write(tmp_path / "a.csv", FLOWERS) + ",label=species")
    assert parquet.sha256 == table.sha256
    assert parquet.columns == table.columns
    np.testing.assert_array_equal(parquet.labels, table.labels)


def test_kinds_of_parquet_columns(tmp_path: Path) -> None:
    data = load(write_parquet(tmp_path / "a.parquet", {"i": [0, 2], "b": [False, True]}))
    assert data.x.tolist() == [[-1, -1], [1, 1]]
    with pytest.raises(DataError, match="column 'n' lacks a value in 1 of 2 rows"):
        load(write_parquet(tmp_path / "b.parquet", {"n": [1, None]}))
    with pytest.raises(DataError, match="column 's' is not of numbers: '1' in row 1"):
        load(write_parquet(tmp_path / "c.parquet", {"s": ["1", "2"]}))
    with pytest.raises(DataError, match="column 1 has no heading"):
        load(write_parquet(tmp_path / "d.parquet", {"__index_level_0__": [1, 2]}))
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"e\.parquet: cannot be read as Parquet"):
        load(f"parquet:{tmp_path / 'e.parquet'}")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9).map(lambda x: round(x, 3)), min_size=2, max_size=30))
def test_standardised_rows_give_their_values_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    data = load(write(folder / "a.csv", "x\n" + "".join(f"{value!r}\n" for value in values)))
    (column,) = data.columns
    back = data.x[:, 0].astype(float) * column.scale + column.mean
    np.testing.assert_allclose(back, values, atol=1e-5 * max(column.scale, 1))
    reverse = load(
        write(folder / "b.csv", "x\n" + "".join(f"{value!r}\n" for value in values[::-1]))
    )
    np.testing.assert_array_equal(reverse.x[::-1], data.x)
    assert reverse.columns == data.columns  # to the last bit: sums know no order


def test_columns_reach_run_and_bundle(tmp_path: Path, run_command: Callable[..., Result]) -> None:
    rng = np.random.default_rng(0)
    text = "a,b,c\n" + "".join(f"{x},{10 + 3 * x},{x * x}\n" for x in rng.normal(size=60))
    spec, run = write(tmp_path / "t.csv", text), tmp_path / "run"
    options = ("--likelihood", "gaussian", "--epochs", 1, "--hidden", 8, "--latent-dim", 2)
    assert run_command("train", "--data", spec, "--out", run, *options).exit_code == 0
    columns = load(spec).columns
    assert run_folder.read_config(run).columns == columns
    assert json.loads((run / "config.json").read_text())["columns"][1]["name"] == "b"
    assert open_subject(run).origin.columns == columns

    exported = run_command("export", run, "--repository", tmp_path / "models", "--name", "t")
    assert exported.exit_code == 0, exported.output
    folder = tmp_path / "models" / "t" / "1"
    info = bundle.read_manifest(folder)
    assert [Column(c.name, c.mean, c.scale) for c in info.columns] == list(columns)
    assert not info.HasField("preprocessing")
    assert open_subject(folder).origin.columns == columns

    for mean, scale in ((0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))):
        broken = type(info).FromString(info.SerializeToString())
        broken.columns[1].mean, broken.columns[1].scale = mean, scale
        bundle.write_manifest(folder, broken)
        with pytest.raises(bundle.BundleError, match="'b': mean must be finite, scale above 0"):
            bundle.read_manifest(folder)
    del info.columns[0]
    bundle.write_manifest(folder, info)
    with pytest.raises(bundle.BundleError, match=r"2 columns do not fit input_shape \[3\]"):
        bundle.read_manifest(folder)
