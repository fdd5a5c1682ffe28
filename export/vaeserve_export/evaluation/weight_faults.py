"""Faults of the loss: what the KL weight says that a model shows."""

import math

from vaeserve_export.evaluation.evidence import Evidence
from vaeserve_export.evaluation.fault import Fault
from vaeserve_export.evaluation.loss_scale import KlWeight

CLAMPED = 0.01  # share of log_var at an end of its range

_BETAS = (0.1, 10.0)  # weights that somebody may mean, as beta-VAEs do
_NEAR = 1.6  # factor within which a measured weight is taken for an expected one
_PLAIN = 0.2  # of 1 / latent_dim: below, the KL has no weight to speak of
_ERRORS = 4.0  # standard errors
_ONE = "Sum both terms, average over the batch only, and start from beta = 1."


def weight_fault(e: Evidence, measured: KlWeight) -> Fault | None:
    """What a measured weight says; None if it is that of a VAE."""
    weight, v = measured.value, e.validation.statistics
    evidence = (
        f"The model behaves as one whose KL was weighed with {measured}, measured on it; "
        f"{_recorded(e)}.",
        f"-ELBO {v.negative_elbo_nats:.1f} nats = reconstruction "
        f"{v.reconstruction_nats:.1f} + KL {v.kl_nats:.1f}.",
        f"Median sigma of the active dimensions {v.median_sigma_active:.3g}; "
        f"{v.active_units} of {e.latent_dim} are active.",
    )
    if weight + _ERRORS * measured.error < _PLAIN / e.latent_dim:
        return _plain(evidence)
    # At an end of its range sigma cannot follow its gradient, which then seems to be outweighed.
    held = measured.at_most or v.clamped_low_share + v.clamped_high_share > CLAMPED
    if _meant(e, weight) or (held and weight > 1):
        return None
    return _too_light(e, weight, evidence) if weight < 1 else _too_heavy(e, weight, evidence)


def collapse_fault(e: Evidence) -> Fault:
    """No dimension carries anything: was it the scale of the loss?"""
    v, beta = e.validation.statistics, e.beta or 0.0
    evidence: tuple[str, ...] = (
        f"KL {v.kl_nats:.2g} nats; {v.active_units} of {e.latent_dim} dimensions are active; "
        f"mean sigma {v.mean_sigma:.3f}.",
        f"Reconstruction {v.reconstruction_nats:.1f} nats; answering every row with the data's "
        f"mean gives {e.validation.constant_nats:.1f}.",
        "A latent dimension pays on these data at any KL weight up to about "
        f"{e.worthwhile_weight:.3g}; {_recorded(e)}.",
    )
    logged = e.logged_weight
    pays = e.worthwhile_weight > 2
    if logged is not None and pays and 2 * logged < e.worthwhile_weight:
        evidence += (f"The loss that was logged is the sum it should be, weight {logged:.3g}.",)
        cause = (
            "The loss is right and a latent would pay, so training went astray: a learning rate "
            "so large that units died, or an end too early."
        )
    elif pays and (2 * beta < e.worthwhile_weight or _near(beta, e.elements, _NEAR)):
        return _reconstruction_averaged(e, evidence)
    elif beta > 1:
        cause = f"beta = {beta:.3g} is more than these data repay."
    else:
        cause = "The data vary hardly more than the likelihood's own noise: little is left to tell."
    return Fault(
        name="posterior_collapse",
        title="Posterior collapse: the decoder ignores the latents",
        evidence=evidence,
        cause=cause,
        remedy="Lower the learning rate, or beta; with a Gaussian likelihood lower its variance or "
        "learn it; warm the KL up (linearly over some 100 epochs, or in cycles), or leave free "
        "bits of 0.05 to 0.25 nats a dimension.",
    )


def _plain(evidence: tuple[str, ...]) -> Fault:
    return Fault(
        name="plain_autoencoder",
        title="The KL has no weight: this is a plain autoencoder",
        evidence=evidence,
        cause="beta is 0, the KL is left out of the loss, or a warm-up never ended. Sigma then "
        "shrinks towards 0 and the codes lie anywhere, so that prior samples and points between "
        "codes decode to nothing that was trained.",
        remedy="Train with beta = 1 (a linear --kl-warmup-epochs if the KL should come late). Keep "
        "this model only where nothing but reconstructions is asked of it.",
    )


def _too_light(e: Evidence, weight: float, evidence: tuple[str, ...]) -> Fault:
    mean = 1 / e.latent_dim
    warming = e.warming_weight
    if warming and _near(weight, warming, _NEAR):
        return Fault(
            name="kl_underweighted",
            title="The weights were kept before the KL had its weight",
            evidence=(*evidence, f"In the epoch that was kept the warm-up stood at {warming:.2g}."),
            cause="Training ended, or was at its best, in the middle of the KL warm-up.",
            remedy="Train on past the warm-up, or shorten it: --kl-warmup-epochs.",
        )
    if _near(weight, mean, min(2.0, math.sqrt(e.latent_dim))):
        return Fault(
            name="kl_averaged",
            title="The KL is averaged over the latent dimensions",
            evidence=(*evidence, f"1 / latent_dim is {mean:.3g}: the weight of a mean."),
            cause=f"mean() over the {e.latent_dim} latent dimensions, or over the whole tensor, "
            "where sum(1).mean(0) is meant; a beta of that size does the same.",
            remedy="Sum the KL over latent dimensions and average over the batch only; then beta = "
            "1. Compare by -ELBO at beta = 1: the reconstruction alone looks better while broken.",
        )
    return Fault(
        name="kl_underweighted",
        title=f"The KL counts {weight:.2g} times what it should",
        evidence=evidence,
        cause="A constant in front of the KL (a copied kld_weight), or a small beta.",
        remedy=_ONE,
    )


def _too_heavy(e: Evidence, weight: float, evidence: tuple[str, ...]) -> Fault:
    if _near(weight, e.elements, 3):
        return _reconstruction_averaged(e, evidence)
    both = e.elements / e.latent_dim
    cause = "The KL is added twice or more, a large beta, or a mean in place of a sum."
    if _near(weight, both, 2):
        cause = f"Elements / latent_dim is {both:.3g}: both terms are averaged, not summed."
    return Fault(
        name="kl_overweighted",
        title=f"The KL counts {weight:.2g} times what it should",
        evidence=evidence,
        cause=cause,
        remedy=_ONE,
    )


def _reconstruction_averaged(e: Evidence, evidence: tuple[str, ...]) -> Fault:
    return Fault(
        name="reconstruction_averaged",
        title="The reconstruction is averaged over the elements of a row",
        evidence=(
            *evidence,
            f"A mean over the {e.elements} elements of a row weighs the KL {e.elements} times.",
        ),
        cause="reduction='mean' in the cross-entropy or squared error beside a summed KL: the KL "
        f"then counts about {e.elements} times, and no latent dimension pays. (A beta above "
        f"{e.worthwhile_weight:.3g}, or a training that went astray, would leave the same.)",
        remedy="Sum the reconstruction over a row's elements, average over the batch only; then "
        "beta = 1.",
    )


def _meant(e: Evidence, weight: float) -> bool:
    """The weight is that of a VAE, or that of the beta-VAE which somebody asked for."""
    asked = 1.0 if e.beta is None else e.beta
    low, high = _BETAS
    return _near(weight, 1, _NEAR) or (low <= asked <= high and _near(weight, asked, _NEAR))


def _near(value: float, expected: float, factor: float) -> bool:
    return value > 0 and abs(math.log(value / expected)) <= math.log(factor)


def _recorded(e: Evidence) -> str:
    return "no beta is recorded" if e.beta is None else f"the recorded beta is {e.beta:.3g}"
