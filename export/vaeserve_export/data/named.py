"""Published sets that are asked for by name, every file of which is known by its digest."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from vaeserve_export.data import idx
from vaeserve_export.data.rows import LEVEL, Array, Part, Rows, in_units, reason
from vaeserve_export.errors import DataError

_CACHE = "vaeserve"


class Digests(NamedTuple):
    """sha256 of a file, lower-case hex.

    Attributes:
        packed: of the .gz, as it is downloaded.
        content: of what is in it, however it is packed.
    """

    packed: str
    content: str


class Published(NamedTuple):
    """A set of IDX files.

    Attributes:
        name: of the set, and of the folder that holds it.
        mirrors: addresses of folders that hold its .gz files, tried in this order.
        files: digests by the file's name without .gz.
    """

    name: str
    mirrors: tuple[str, ...]
    files: dict[str, Digests]


MNIST = Published(
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    {
        "train-images-idx3-ubyte": Digests(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        "train-labels-idx1-ubyte": Digests(
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        "t10k-images-idx3-ubyte": Digests(
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        "t10k-labels-idx1-ubyte": Digests(
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    },
)
FASHION_MNIST = Published(
    "fashion-mnist",
    (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    {
        "train-images-idx3-ubyte": Digests(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        "train-labels-idx1-ubyte": Digests(
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "t10k-images-idx3-ubyte": Digests(
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        "t10k-labels-idx1-ubyte": Digests(
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    },
)
SETS = {published.name: published for published in (MNIST, FASHION_MNIST)}


def read(published: Published, part: Part, data_dir: Path | None) -> Rows | None:
    """Read a part of a published set; what is not on this machine is downloaded.

    A file is taken from the set's folder in `data_dir`, plain or .gz; else from the user's cache
    folder, into which it is downloaded if it is not there or damaged.

    Args:
        published: the set.
        part: `train` or `test`; there is no validation part.
        data_dir: holds a folder of the set's name.

    Returns:
        x [rows, 1, height, width] in [0, 1]; None for the validation part.

    Raises:
        DataError: a file that can be had nowhere, or one that is not the published one.
    """
    if part not in idx.PREFIXES:
        return None
    images, labels = idx.names(part)
    x = _read_file(published, images, idx.IMAGES, data_dir)
    y = _read_file(published, labels, idx.LABELS, data_dir)
    return Rows(in_units(x[:, None], LEVEL), y, LEVEL)


def _read_file(published: Published, name: str, magic: int, data_dir: Path | None) -> Array:
    by_hand = data_dir / published.name if data_dir else None
    found = idx.unpacked(by_hand, name) if by_hand else None
    if found is None:
        found = idx.unpacked(_downloaded(published, name, by_hand), name)
    path, content = found or (Path(name), b"")
    if hashlib.sha256(content).hexdigest() != published.files[name].content:
        raise DataError(
            f"{path}: is not the file of {published.name} that was published: its sha256 differs"
        )
    return idx.parse(content, magic, path)


def _downloaded(published: Published, name: str, by_hand: Path | None) -> Path:
    """The folder in the cache that holds this file now."""
    import pooch  # noqa: PLC0415 - seldom needed

    folder = Path(pooch.os_cache(_CACHE)) / published.name
    tried = []
    for mirror in published.mirrors:
        try:
            pooch.retrieve(f"{mirror}{name}.gz", published.files[name].packed, f"{name}.gz", folder)
        except (OSError, ValueError) as error:  # requests' are of the first kind, a wrong digest's
            tried.append(f"{mirror} ({_why(error)})")
        else:
            return folder
    place = by_hand or folder
    raise DataError(
        f"{published.name}: {name}, plain or .gz, is not in {place} and cannot be downloaded from "
        f"{' or '.join(tried)}; put it there by hand, or say --data-dir DIR where "
        f"DIR/{published.name} holds it. --data digits needs no download"
    )


def _why(error: Exception) -> str:
    """In a few words: what requests say of a failure is a paragraph."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    if isinstance(error, ValueError):
        return "what came is damaged: its sha256 differs"
    if getattr(error, "strerror", None):  # of this machine: the cache folder cannot be written
        return reason(error)
    return "timed out" if "Timeout" in type(error).__name__ else "no connection"
