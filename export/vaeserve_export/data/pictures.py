"""Folders of pictures; the sub-folder that a picture lies in is its class."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vaeserve_export.data.rows import LEVEL, NAMES, Array, Part, Rows, in_units, reason
from vaeserve_export.errors import DataError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_SUFFIXES = {".png", ".jpg", ".jpeg"}


class Form(NamedTuple):
    """What pictures are made to be.

    Attributes:
        size: height and width; None leaves them as they are.
        grey: one channel, whatever there was.
    """

    size: tuple[int, int] | None = None
    grey: bool = False


def read(folder: Path, part: Part, form: Form) -> Rows | None:
    """Read every PNG and JPEG below a folder, in the order of their paths.

    Pictures that lie in sub-folders are labelled 0, 1, ... by the sub-folder's name. A folder whose
    sub-folders are `train` and, perhaps, `valid` (or `val`, or `validation`) and `test` holds these
    parts, each with sub-folders of its own; any other is a part to train on. What is named with a
    leading dot is passed over.

    A size is reached by cutting off what exceeds its aspect ratio, equally on both sides, and
    bicubic resampling with the support that reduction needs (antialiased). Grey is ITU-R 601 luma.

    Returns:
        x [rows, channels, height, width] in [0, 1]; one channel for grey pictures, else three.
        None where the folder lacks that part.

    Raises:
        DataError: no pictures, an unreadable one, one with alpha or more than 8 bits a channel,
            one whose size or colour differs from the first, a class of which there is none to train
            on, or sub-folders of which it is not clear whether they are parts or classes.
    """
    parts = _parts(folder)
    if part not in parts:
        return None
    paths = _pictures(parts[part])
    x = _read_all(paths, folder, form)
    labels = _classes(paths, parts[part])
    if labels is None:
        return Rows(x, None, LEVEL)
    train = labels if part == "train" else _classes(_pictures(parts["train"]), parts["train"])
    numbers = {name: number for number, name in enumerate(sorted(set(train or ())))}
    if unknown := set(labels) - set(numbers):
        raise DataError(f"{parts[part]}: no class to train on is named {min(unknown)!r}")
    return Rows(x, np.array([numbers[label] for label in labels]), LEVEL)


def _parts(folder: Path) -> dict[str, Path]:
    """The folder of each part that there is."""
    inside = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    names = {path.name for path in inside if not path.name.startswith(".")}
    found = {part: sorted(names & set(known)) for part, known in NAMES.items()}
    unknown = sorted(names.difference(*found.values()))
    if not found["train"] or (unknown and not found["valid"] and not found["test"]):
        return {"train": folder}  # the sub-folders are classes, one of which may be named train
    if unknown:
        # Taken for classes, they would bring the rows for testing into the training.
        raise DataError(
            f"{folder}: {unknown[0]} lies beside {', '.join(sorted(names - set(unknown)))}, which "
            "are parts; move it elsewhere, or name one part as the source"
        )
    for part, same in found.items():
        if len(same) > 1:
            raise DataError(f"{folder}: {' and '.join(same)} are both the {part} part; keep one")
    return {part: folder / same[0] for part, same in found.items() if same}


def _pictures(folder: Path) -> list[Path]:
    paths = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
    ]
    if not paths:
        what = "holds no PNG or JPEG pictures" if folder.is_dir() else "is no folder"
        raise DataError(f"{folder}: {what}")
    return sorted(paths, key=lambda path: path.relative_to(folder).parts)


def _classes(paths: list[Path], folder: Path) -> list[str] | None:
    """The sub-folder of each picture; None if one lies in none."""
    if any(path.parent == folder for path in paths):
        return None
    return [path.relative_to(folder).parts[0] for path in paths]


def _read_all(paths: list[Path], folder: Path, form: Form) -> Array:
    first = _read_picture(paths[0], form)
    x = np.empty((len(paths), *first.shape), np.float32)
    for row, path in enumerate(paths):
        picture = _read_picture(path, form)
        if picture.shape != first.shape:
            raise DataError(
                f"{path}: is {_size(picture)} but {paths[0].name} is {_size(first)}; "
                f"bring all to one by folder:{folder},{_remedy(first, picture)}"
            )
        x[row] = in_units(picture, LEVEL)
    return x


def _read_picture(path: Path, form: Form) -> Array:
    """uint8 [channels, height, width], the way up that it is shown.

    One channel for grey pictures, three for all others.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415 - only this source needs it

    try:
        # Two formats, so that a file's content cannot choose among all the decoders there are.
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            _check_levels(picture, path)
            grey = form.grey or picture.mode in {"1", "L"}
            upright: Image.Image = ImageOps.exif_transpose(picture).convert("L" if grey else "RGB")
            if form.size:
                upright = ImageOps.fit(upright, form.size[::-1], Image.Resampling.BICUBIC)
            levels = np.asarray(upright)
    except DataError:
        raise
    except Exception as error:  # a damaged picture raises what its decoder stumbles over
        raise DataError(f"{path}: cannot be read as a picture: {reason(error)}") from error
    return levels[None] if grey else levels.transpose(2, 0, 1)


def _check_levels(picture: "ImageFile", path: Path) -> None:
    """Refuse what would lose something as grey or RGB levels of 8 bits."""
    # Pillow reads colours of 16 bits as 8, and only the decoder's arguments still tell.
    deep = any(str(tile[3]).endswith(";16B") for tile in picture.tile)
    if deep or picture.mode.startswith(("I", "F")):
        raise DataError(f"{path}: has more than 8 bits a channel; convert it first")
    if picture.has_transparency_data:
        raise DataError(f"{path}: has an alpha channel; flatten it onto a background first")


def _size(picture: Array) -> str:
    channels, height, width = picture.shape
    return f"{height}x{width} {'grey' if channels == 1 else 'RGB'}"


def _remedy(first: Array, other: Array) -> str:
    """The options that would make both alike."""
    size = f"resize={first.shape[1]}x{first.shape[2]}" if first.shape[1:] != other.shape[1:] else ""
    grey = "grey" if len(first) != len(other) else ""
    return ",".join(filter(None, (size, grey)))
