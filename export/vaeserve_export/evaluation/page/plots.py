"""The plots of the page: curves of the training, and what the latents are like."""

import math
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from vaeserve_export.evaluation.diagnosis import Diagnosis
from vaeserve_export.evaluation.evidence import ROWS
from vaeserve_export.evaluation.page.svg import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    figure,
    legend,
    to_svg,
)
from vaeserve_export.training.records import EpochRecord
from vaeserve_export.vae.calibration import ACTIVE_VARIANCE
from vaeserve_export.vae.model import reparameterise

DISTANCES = {
    "held_out": "held-out rows",
    "reconstruction": "reconstructions",
    "prior": "prior samples",
    "midpoint": "latent midpoints",
    "cross_fade": "pixel cross-fades",
}
NEAREST = "distance to the nearest datum"
MODEL_COLOURS = (BLUE, ORANGE)

_SETTLING = 0.05  # of the epochs: the first may leave the picture
_MOST_BARS = 64
_MOST_CURVES = 5
_CLASS_COLOURS = (
    *("#4c8fd0", "#f0902f", "#4faa58", "#e0535a", "#9a72c7"),
    *("#a87057", "#e585c4", "#8a939b", "#b9bb3f", "#3fb8c9"),
)


def loss_curves(diagnosis: Diagnosis, name: str, width: float) -> str:
    """Reconstruction, KL and -ELBO over epochs, train and validation; inches wide."""
    history = diagnosis.evidence.history
    drawn, axes = figure(width, 2.7, columns=3)
    best = min(history, key=lambda epoch: epoch.validation_loss).epoch
    terms = (
        ("reconstruction", "reconstruction"),
        ("KL", "kl"),
        ("-ELBO (\N{GREEK SMALL LETTER BETA} = 1)", "negative_elbo"),
    )
    for ax, (title, term) in zip(axes, terms, strict=True):
        _curves(ax, history, term)
        ax.axvline(best, color=GREY, linewidth=0.8, linestyle=":")
        ax.set(title=f"{title}, nats", xlabel="epoch")
    legend(axes[0])
    return to_svg(drawn, f"{name}-curves")


def _curves(ax: Axes, history: tuple[EpochRecord, ...], term: str) -> None:
    epochs = [epoch.epoch for epoch in history]
    seen = []
    for part, colour in (("train", BLUE), ("validation", ORANGE)):
        values = [getattr(epoch, f"{part}_{term}_nats") for epoch in history]
        marker = "o" if len(epochs) < 3 else None
        ax.plot(epochs, values, color=colour, label=part, linewidth=1.5, marker=marker)
        seen += values[int(_SETTLING * len(values)) :] if len(values) > 20 else values
    low, high = min(seen), max(seen)
    margin = 0.06 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)


def distances(diagnoses: list[Diagnosis]) -> str:
    """How far rows, what is made of them and prior samples lie from the data, in two measures."""
    drawn, axes = figure(11, 1.9 + 0.5 * len(diagnoses), columns=2)
    measures = (("frechet", "squared Frechet distance", "%.1f"), ("nearest", NEAREST, "%.2f"))
    thick = 0.74 / len(diagnoses)
    at = np.arange(len(DISTANCES))
    for ax, (measure, title, written) in zip(axes, measures, strict=True):
        for number, (one, colour) in enumerate(zip(diagnoses, MODEL_COLOURS, strict=False)):
            values = [getattr(getattr(one.departures, name), measure) for name in DISTANCES]
            shift = (number - (len(diagnoses) - 1) / 2) * thick
            bars = ax.barh(at + shift, values, 0.9 * thick, color=colour, label="AB"[number])
            ax.bar_label(bars, fmt=written, color=FAINT, fontsize=8.5, padding=4)
        ax.set_yticks(at, labels=list(DISTANCES.values()) if ax is axes[0] else [])
        ax.tick_params("y", length=0, labelcolor=INK, labelsize=9.5)
        ax.set(title=title, ylim=(len(DISTANCES) - 0.45, -0.55))
        ax.margins(x=0.12)
        ax.grid(axis="y", visible=False)
    if len(diagnoses) > 1:
        legend(axes[0])
    return to_svg(drawn, "distances")


def kl_bars(diagnosis: Diagnosis, name: str) -> str:
    """KL of each latent dimension, the largest first."""
    statistics = diagnosis.evidence.validation.statistics
    kl = np.asarray(statistics.kl_per_dimension)
    active = np.asarray(statistics.mu_variance) > ACTIVE_VARIANCE
    order = np.argsort(-kl, kind="stable")[:_MOST_BARS]
    drawn, (ax,) = figure(5.6, 3)
    at = np.arange(len(order))
    for chosen, colour, label in ((active, BLUE, "active"), (~active, GREY, "not active")):
        bars = chosen[order]
        if bars.any():
            ax.bar(at[bars], kl[order][bars], color=colour, width=0.8, label=label)
    ax.set(xlabel="latent dimension, by KL", ylabel="nats", xlim=(-0.8, len(order) - 0.2))
    ax.set_ylim(0, max(1.05 * float(kl.max()), 0.1))
    if len(order) <= 20:
        ax.set_xticks(at, labels=[str(number) for number in order])
    ax.grid(axis="x", visible=False)
    legend(ax)
    return to_svg(drawn, f"{name}-kl")


def sigma_histogram(diagnosis: Diagnosis, name: str) -> str:
    """Sigma over rows and dimensions, active ones apart."""
    mu, log_var = diagnosis.subject.encode(diagnosis.validation.x[:ROWS])
    active = mu.var(0, correction=0) > ACTIVE_VARIANCE
    sigma = (0.5 * log_var).exp().clamp(min=1e-4)
    drawn, (ax,) = figure(5.6, 3)
    edges = np.geomspace(min(1e-3, float(sigma.min())), max(2.0, float(sigma.max())), 61)
    for chosen, colour, label in ((active, BLUE, "active"), (~active, GREY, "not active")):
        if chosen.any():
            values = sigma[:, chosen].flatten().numpy()
            weights = np.full(len(values), 100 / sigma.numel())
            ax.hist(values, list(edges), weights=weights, color=colour, alpha=0.85, label=label)
    ax.axvline(1, color=RED, linestyle="--", linewidth=1, label="the prior's")
    ax.set(xscale="log", xlabel="sigma of q(z|x)", ylabel="% of rows and dimensions")
    legend(ax, loc="upper left")
    return to_svg(drawn, f"{name}-sigma")


def aggregated(diagnosis: Diagnosis, name: str) -> str:
    """Densities of posterior draws of the most active dimensions beside N(0, 1)."""
    x = diagnosis.validation.x[:ROWS]
    mu, log_var = diagnosis.subject.encode(x)
    eps = torch.randn(mu.shape, generator=torch.Generator().manual_seed(0))
    z = reparameterise(mu, log_var, eps).numpy()
    kl = np.asarray(diagnosis.evidence.validation.statistics.kl_per_dimension)
    order = np.argsort(-kl, kind="stable")[:_MOST_CURVES]
    drawn, (ax,) = figure(5.6, 3)
    reach = max(4.0, float(np.percentile(np.abs(z[:, order]), 99)))
    edges = np.linspace(-reach, reach, 49)
    for dimension, colour in zip(order, (BLUE, ORANGE, GREEN, RED, GREY), strict=False):
        density, _ = np.histogram(z[:, dimension], edges, density=True)
        ax.stairs(density, edges, color=colour, linewidth=1.2, label=f"z{dimension}")
    grid = np.linspace(-reach, reach, 200)
    normal = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    ax.plot(grid, normal, color=INK, linestyle="--", linewidth=1.4, label="N(0, 1)")
    ax.set(xlabel="z, drawn from q(z|x) of every row", ylabel="density")
    legend(ax)
    return to_svg(drawn, f"{name}-aggregated")


def latent_map(diagnosis: Diagnosis, name: str) -> str:
    """Posterior means in the plane in which they vary most, with the prior's circles."""
    mu, _ = diagnosis.subject.encode(diagnosis.validation.x[:ROWS])
    points = mu.double()
    axis_names = ("z0", "z1")
    if mu.shape[1] > 2:
        centred = points - points.mean(0)
        _, _, directions = torch.linalg.svd(centred, full_matrices=False)
        points = points @ directions[:2].T
        axis_names = ("first principal axis of mu", "second")
    elif mu.shape[1] == 1:
        points = torch.cat([points, torch.zeros_like(points)], 1)
    drawn, (ax,) = figure(5.6, 5.2)
    labels = diagnosis.validation.data.labels
    across, up = points.numpy().T
    dots: dict[str, Any] = {"s": 9, "linewidths": 0, "alpha": 0.75, "rasterized": True}
    if labels is None:
        ax.scatter(across, up, color=BLUE, **dots)
    else:
        shown = labels[:ROWS]
        classes = np.unique(shown)
        for number, label in enumerate(classes):
            colour = _CLASS_COLOURS[number % len(_CLASS_COLOURS)]
            chosen = shown == label
            ax.scatter(across[chosen], up[chosen], color=colour, label=str(label), **dots)
        if len(classes) <= len(_CLASS_COLOURS):
            legend(ax, markerscale=2, ncols=1, loc="center left", bbox_to_anchor=(1, 0.5))
    around = np.linspace(0, 2 * math.pi, 200)
    for radius in (1, 2, 3):
        ax.plot(
            *(radius * np.array([np.cos(around), np.sin(around)])),
            color=FAINT,
            linewidth=0.8,
            linestyle="--",
        )
    ax.set(xlabel=axis_names[0], ylabel=axis_names[1], aspect="equal")
    ax.set_adjustable("datalim")
    return to_svg(drawn, f"{name}-map")
