"""Published sets that are asked for by name, every file of which is known by its digest."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from vaeserve_export.data import idx
from vaeserve_export.data.rows import LEVEL, Array, Part, Rows, in_units
from vaeserve_export.errors import DataError


class Published(NamedTuple):
    """A set of four IDX files.

    Attributes:
        name: of the set, and of the folder that holds it.
        sha256: lower-case hex digests of the unpacked files: train images, train labels, test
            images, test labels.
    """

    name: str
    sha256: tuple[str, str, str, str]


MNIST = Published(
    "mnist",
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
FASHION_MNIST = Published(
    "fashion-mnist",
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
SETS = {published.name: published for published in (MNIST, FASHION_MNIST)}


def read(published: Published, part: Part, data_dir: Path | None) -> Rows | None:
    """Read a part of a published set.

    Args:
        published: the set.
        part: `train` or `test`; there is no validation part.
        data_dir: holds a folder of the set's name.

    Returns:
        x [rows, 1, height, width] in [0, 1]; None for the validation part.

    Raises:
        DataError: files that are missing, damaged, or not those that were published.
    """
    if part not in idx.PREFIXES:
        return None
    images, labels = idx.names(part)
    digests = published.sha256[:2] if part == "train" else published.sha256[2:]
    x = _file(published, images, digests[0], idx.IMAGES, data_dir)
    y = _file(published, labels, digests[1], idx.LABELS, data_dir)
    return Rows(in_units(x[:, None], LEVEL), y, LEVEL)


def _file(published: Published, name: str, sha256: str, magic: int, data_dir: Path | None) -> Array:
    found = idx.unpacked(data_dir / published.name, name) if data_dir else None
    if found is None:
        raise DataError(f"{published.name}: {name} is not in {data_dir}/{published.name}")
    path, content = found
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: is not the published file: its digest is another")
    return idx.parse(content, magic, path)
