"""The demo's pictures. Knows arrays and files; does not know where they come from."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")  # before pyplot is loaded: only files are written, no display is needed

from matplotlib import patheffects, pyplot as plt
from matplotlib.axes import Axes

Floats = npt.NDArray[np.float32]

_DPI = 150


def training_curves(epochs: Sequence[dict[str, float]], path: Path) -> None:
    """Reconstruction, KL and -ELBO apart, on training and validation rows, in nats per picture.

    Args:
        epochs: one record an epoch, keys `epoch` and `{train,validation}_{term}_nats`.
        path: where to write.
    """
    terms = {"negative_elbo": "-ELBO", "reconstruction": "reconstruction", "kl": "KL"}
    _, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    x = [record["epoch"] for record in epochs]
    for axis, (term, title) in zip(axes, terms.items(), strict=True):
        for part, style in (("train", "--"), ("validation", "-")):
            values = [record[f"{part}_{term}_nats"] for record in epochs]
            axis.plot(x, values, style, label=part)
        if term != "kl":
            # The first epochs tower above all that follows.
            settled = values[len(values) // 25 :]
            spread = max(settled) - min(settled)
            axis.set_ylim(min(settled) - 0.1 * spread, max(settled) + 0.1 * spread)
        axis.set(title=title, xlabel="epoch", ylabel="nats per picture")
        axis.grid(alpha=0.3)
    axes[0].legend()
    _save(path)


def reconstructions(originals: Floats, decoded: Floats, path: Path) -> None:
    """Originals above what the server makes of them.

    Args:
        originals: [n, height, width] in [0, 1].
        decoded: the same shape.
        path: where to write.
    """
    _rows_of_pictures([("original", originals), ("decoded", decoded)], "Reconstructions", path)


def interpolations(paths: dict[str, Floats], path: Path) -> None:
    """Strips from one picture to another.

    Args:
        paths: label -> [steps, height, width].
        path: where to write.
    """
    _rows_of_pictures(list(paths.items()), "From one digit to another, through latent space", path)


def sample_grid(samples: Floats, path: Path) -> None:
    """Prior samples, row by row.

    Args:
        samples: [n, height, width], n a square number.
        path: where to write.
    """
    side = round(len(samples) ** 0.5)
    figure, axes = plt.subplots(side, side, figsize=(6, 6.4), layout="constrained")
    for axis, picture in zip(axes.flat, samples, strict=True):
        _draw(axis, picture)
    figure.suptitle("Decoded draws from the prior N(0, I)")
    _save(path)


def latent_map(mu: Floats, labels: npt.NDArray[np.int64], path: Path) -> None:
    """Latent means on their two principal axes, coloured by class.

    Args:
        mu: [n, latent_dim].
        labels: [n], 0..9.
        path: where to write.
    """
    centred = mu - mu.mean(axis=0)
    _, singular, axes_ = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes_[:2].T
    share = np.square(singular[:2]).sum() / np.square(singular).sum()
    _, axis = plt.subplots(figsize=(7, 6), layout="constrained")
    for digit in range(10):
        chosen = labels == digit
        x, y = flat[chosen].T
        axis.scatter(x, y, s=8, alpha=0.7, color=f"C{digit}", label=str(digit))
        centre = np.median(flat[chosen], axis=0)
        text = axis.annotate(str(digit), centre, weight="bold", size=16, ha="center", va="center")
        text.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
    axis.legend(title="digit", markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set(
        title=f"Latent means of {len(mu)} digits; the axes hold {share:.0%} of their variance",
        xlabel="first principal axis",
        ylabel="second principal axis",
    )
    axis.set_aspect("equal", adjustable="datalim")
    _save(path)


def _rows_of_pictures(rows: list[tuple[str, Floats]], title: str, path: Path) -> None:
    columns = len(rows[0][1])
    size = (0.9 * columns + 1, 1.0 * len(rows) + 0.5)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=size, squeeze=False, layout="constrained"
    )
    for line, (label, pictures) in zip(axes, rows, strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            _draw(axis, picture)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.suptitle(title)
    _save(path)


def _draw(axis: Axes, picture: Floats) -> None:
    axis.imshow(picture, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _save(path: Path) -> None:
    plt.savefig(path, dpi=_DPI)
    plt.close()
