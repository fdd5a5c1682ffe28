"""The pictures of the page: what the model makes of rows, of prior draws and of paths."""

import html

import numpy as np
import torch
from torch import Tensor

from vaeserve.v1.paths import slerp
from vaeserve_export.evaluation.diagnosis import Diagnosis
from vaeserve_export.evaluation.page.pictures import strip
from vaeserve_export.vae.model import reparameterise

_SEED = 0
_REACH = 3.0  # of a traversal, in standard deviations of the prior
_DIMENSIONS = 8
_PAIRS = 4


def reconstructions(diagnosis: Diagnosis, count: int) -> str:
    """Held-out rows, decoded from the mean and from a draw."""
    x = _spread(diagnosis, count)
    mu, log_var = diagnosis.subject.encode(x)
    eps = torch.randn(mu.shape, generator=_generator())
    drawn = reparameterise(mu, log_var, eps)
    return _strips(
        diagnosis,
        [
            ("input", x, "inputs"),
            ("from mu", diagnosis.subject.decode(mu), "reconstructions from the mean"),
            ("from a draw", diagnosis.subject.decode(drawn), "reconstructions from a draw"),
        ],
    )


def samples(diagnosis: Diagnosis, columns: int, rows: int) -> str:
    """Decoded draws from N(0, I)."""
    z = torch.randn(rows * columns, diagnosis.subject.latent_dim, generator=_generator())
    made = _shown(diagnosis, diagnosis.subject.decode(z))
    return strip(made, "decoded draws from the prior", columns)


def interpolations(diagnosis: Diagnosis, steps: int) -> str:
    """Paths between held-out rows in latent space, and the cross-fade of the same rows."""
    x = _spread(diagnosis, 2 * _PAIRS)
    mu, _ = diagnosis.subject.encode(x)
    rows: list[tuple[str, Tensor, str] | None] = []
    for pair in range(_PAIRS):
        ends = slice(2 * pair, 2 * pair + 2)
        if pair:
            rows.append(None)
        at = torch.linspace(0, 1, steps)
        begin, end = mu[ends].numpy()[:, None]
        path = torch.from_numpy(slerp(begin, end, steps)[0])
        share = at.view(-1, *[1] * (x.dim() - 1))
        fade = (1 - share) * x[ends][0] + share * x[ends][1]
        rows += [
            ("latent", diagnosis.subject.decode(path), "interpolation in latent space"),
            ("pixels", fade, "cross-fade of the pixels"),
        ]
    return _strips(diagnosis, rows)


def traversals(diagnosis: Diagnosis, steps: int) -> str:
    """One row's code with one dimension moved over the prior's range, the most active first."""
    kl = np.asarray(diagnosis.evidence.validation.statistics.kl_per_dimension)
    order = np.argsort(-kl, kind="stable")[:_DIMENSIONS]
    mu, _ = diagnosis.subject.encode(_spread(diagnosis, 1))
    rows: list[tuple[str, Tensor, str] | None] = []
    for dimension in order:
        z = mu.repeat(steps, 1)
        z[:, dimension] = torch.linspace(-_REACH, _REACH, steps)
        label = f"z{dimension}, {kl[dimension]:.2f} nats"
        rows.append((label, diagnosis.subject.decode(z), f"traversal of z{dimension}"))
    return _strips(diagnosis, rows)


def _spread(diagnosis: Diagnosis, count: int) -> Tensor:
    """Held-out rows as a caller sends them, taking turns between the classes."""
    data = diagnosis.validation.data
    rows = np.arange(min(len(data.x), 1000))
    if data.labels is not None:
        labels = data.labels[rows]
        turn = np.empty_like(rows)
        for label in np.unique(labels):
            members = labels == label
            turn[members] = np.arange(members.sum())
        rows = rows[np.lexsort((labels, turn))]
    picked = np.resize(rows, count)  # repeats them where there are too few
    return torch.from_numpy(data.x[picked])


def _shown(diagnosis: Diagnosis, pictures: Tensor) -> Tensor:
    """Pictures in [0, 1], whatever values the model takes."""
    data = diagnosis.validation.data
    return (pictures - data.black) / (data.white - data.black)


def _strips(diagnosis: Diagnosis, rows: list[tuple[str, Tensor, str] | None]) -> str:
    """Labelled rows of pictures; None leaves some room."""
    cells = [
        '<div class="apart"></div>'
        if row is None
        else f"<span>{html.escape(row[0])}</span>{strip(_shown(diagnosis, row[1]), row[2])}"
        for row in rows
    ]
    return f'<div class="strips">{"".join(cells)}</div>'


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)
