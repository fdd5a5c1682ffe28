"""Two models of the same data in numbers, and what the numbers say."""

import statistics
from typing import NamedTuple

from vaeserve_export.evaluation.diagnosis import Diagnosis

_FARTHER = 1.25  # times a Frechet distance: below, two models count as equally far


class Figure(NamedTuple):
    """A row of the table.

    Attributes:
        name: of the figure.
        about: what it is, in a few words.
        values: of each model; None where it has none.
        pattern: how a value is written.
        lower_is_better: whether the smaller of two values is the better; None if neither is.
    """

    name: str
    about: str
    values: tuple[float | None, ...]
    pattern: str = "{:.1f}"
    lower_is_better: bool | None = None

    def written(self, number: int) -> str:
        """The value of a model as text."""
        value = self.values[number]
        return "\N{EN DASH}" if value is None else self.pattern.format(value)


def figures(diagnoses: list[Diagnosis]) -> list[Figure]:
    """The figures of one model or of several, side by side."""
    found = [diagnosis.evidence.validation.statistics for diagnosis in diagnoses]
    weights = [diagnosis.evidence.kl_weight for diagnosis in diagnoses]
    far = [diagnosis.departures for diagnosis in diagnoses]
    samples = diagnoses[0].bound.samples

    def of(name: str) -> tuple[float, ...]:
        return tuple(getattr(one, name) for one in found)

    rows = [
        Figure("-ELBO", "nats a row, beta = 1", of("negative_elbo_nats"), lower_is_better=True),
        Figure(
            "-log p(x)",
            f"nats, at most: {samples} importance samples",
            tuple(diagnosis.bound.nats for diagnosis in diagnoses),
            lower_is_better=True,
        ),
        Figure("reconstruction", "nats", of("reconstruction_nats")),
        Figure("KL", "nats", of("kl_nats")),
        Figure(
            "KL weight it shows",
            "measured on the model; 1 is the VAE",
            tuple(weight.value if weight else None for weight in weights),
            "{:.3f}",
        ),
        Figure("active units", f"of {diagnoses[0].subject.latent_dim}", of("active_units"), "{}"),
        Figure("median sigma", "of active dimensions", of("median_sigma_active"), "{:.3g}"),
        Figure(
            "variance of codes",
            "median over dimensions; 1 under the prior",
            tuple(statistics.median(one.aggregated_variance) for one in found),
            "{:.3g}",
        ),
        Figure(
            "KL(q(z) || p(z))",
            "nats between all codes and the prior",
            of("marginal_kl_nats"),
            lower_is_better=True,
        ),
    ]
    if not all(far):
        return rows
    for name, title in (
        ("held_out", "held-out rows"),
        ("reconstruction", "reconstructions"),
        ("prior", "prior samples"),
        ("midpoint", "latent midpoints"),
        ("cross_fade", "pixel cross-fades"),
    ):
        better = name not in {"held_out", "cross_fade"} or None
        sets = [getattr(one, name) for one in far]
        rows += [
            Figure(
                title,
                "Frechet distance to the data",
                tuple(one.frechet for one in sets),
                lower_is_better=better,
            ),
            Figure(
                title,
                "distance to the nearest datum",
                tuple(one.nearest for one in sets),
                "{:.2f}",
                better,
            ),
        ]
    return rows


def claim(diagnoses: list[Diagnosis]) -> str:
    """What two models show beside each other, in one paragraph of only what was measured."""
    a, b = diagnoses
    plain = [_is_plain(diagnosis) for diagnosis in diagnoses]
    if plain[0] != plain[1]:
        return _plain_beside(*((b, a) if plain[0] else (a, b)))
    better, worse = sorted(
        diagnoses, key=lambda one: one.evidence.validation.statistics.negative_elbo_nats
    )
    ahead = (
        worse.evidence.validation.statistics.negative_elbo_nats
        - better.evidence.validation.statistics.negative_elbo_nats
    )
    return (
        f"{better.subject.origin.name} explains held-out rows better than "
        f"{worse.subject.origin.name}: by {ahead:.1f} nats of -ELBO."
    )


def _plain_beside(vae: Diagnosis, plain: Diagnosis) -> str:
    """The VAE and the autoencoder: what the KL is for."""
    with_kl, without = (one.evidence.validation.statistics for one in (vae, plain))
    text = [
        f"Without the KL ({plain.subject.origin.name}) sigma is {without.median_sigma_active:.2g} "
        f"where {vae.subject.origin.name} has {with_kl.median_sigma_active:.2g}; the "
        f"reconstruction is {_change(without.reconstruction_nats - with_kl.reconstruction_nats)}, "
        f"-ELBO {_change(without.negative_elbo_nats - with_kl.negative_elbo_nats)}."
    ]
    if vae.departures and plain.departures:
        pairs = (
            ("prior samples", vae.departures.prior.frechet, plain.departures.prior.frechet),
            (
                "latent midpoints",
                vae.departures.midpoint.frechet,
                plain.departures.midpoint.frechet,
            ),
        )
        text += [_distance(what, ours, theirs) for what, ours, theirs in pairs]
    return " ".join(text)


def _distance(what: str, vae: float, plain: float) -> str:
    if plain > _FARTHER * vae:
        return f"Its {what} lie {plain / vae:.1f} times as far from the data."
    if vae > _FARTHER * plain:
        return f"Its {what} lie nearer to the data, {plain:.1f} to {vae:.1f}."
    return f"Its {what} lie about as far from the data, {plain:.1f} to {vae:.1f}."


def _change(nats: float) -> str:
    return f"{abs(nats):.1f} nats {'worse' if nats > 0 else 'better'}"


def _is_plain(diagnosis: Diagnosis) -> bool:
    return any(fault.name == "plain_autoencoder" for fault in diagnosis.faults)
