"""Faults, named from what a trained model does.

Most broken losses train without a complaint, and their reconstructions look better than those of a
sound VAE. What tells is the weight of the KL that the model itself shows (loss_scale.py), whether
any latent dimension is used, log_var at the ends of its range, and the bound on rows not trained
on. Recorded settings only explain a fault; they neither make nor excuse one.
"""

import math
from dataclasses import dataclass

from vaeserve_export.evaluation.evidence import Evidence
from vaeserve_export.evaluation.loss_scale import KlWeight

_BETAS = (0.1, 10.0)  # weights that somebody may mean, as beta-VAEs do
_NEAR = 1.6  # factor within which a measured weight is taken for an expected one
_PLAIN = 0.2  # of 1 / latent_dim: below, the KL has no weight to speak of
_CLAMPED = 0.01  # share of log_var at an end of its range
_OVERFIT = 0.05  # share of what was gained in training that is not there on other rows
_ERRORS = 3.0  # standard errors that a gap must exceed
_WORSE = 0.02  # of a constant answer's nats: by so much may a trained decoder be worse than it


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong, for a program and for a person.

    Attributes:
        name: an identifier that does not change: see NAMES.
        title: one line.
        evidence: sentences with the figures that show it.
        cause: what most likely led to it.
        remedy: what to do.
    """

    name: str
    title: str
    evidence: tuple[str, ...]
    cause: str
    remedy: str


NAMES = (
    "untrained",
    "plain_autoencoder",
    "kl_averaged",
    "kl_underweighted",
    "kl_overweighted",
    "reconstruction_averaged",
    "posterior_collapse",
    "log_var_clamped",
    "overfitting",
)


def find_faults(evidence: Evidence) -> list[Fault]:
    """The faults of a model, the one that explains most first; none for a sound one."""
    if _is_untrained(evidence):  # what follows is about an optimum
        return [_untrained(evidence)]
    weight = evidence.kl_weight
    found = [_weight(evidence, weight) if weight else _collapse(evidence)]
    if found[0] is None or found[0].name != "plain_autoencoder":  # whose sigma has gone that way
        found.append(_clamped(evidence))
    found.append(_overfitting(evidence))
    return [fault for fault in found if fault]


def _is_untrained(e: Evidence) -> bool:
    """A decoder can always ignore z: one that was trained does not do worse than a constant."""
    v = e.validation
    worse = v.statistics.reconstruction_nats - v.constant_nats
    return worse > max(_ERRORS * v.gain_error, _WORSE * abs(v.constant_nats))


def _untrained(e: Evidence) -> Fault:
    v = e.validation
    epochs = f" after {len(e.history)} epochs" if e.history else ""
    return Fault(
        name="untrained",
        title="Training has hardly begun, or diverged",
        evidence=(
            f"Reconstruction {v.statistics.reconstruction_nats:.1f} nats{epochs}; answering every "
            f"row with the data's mean gives {v.constant_nats:.1f}.",
        ),
        cause="Too few steps, a learning rate far too small or too large, or rows that are not "
        "those it was trained on.",
        remedy="Train on until -ELBO levels out; look at the curves; check --data.",
    )


def _weight(e: Evidence, measured: KlWeight) -> Fault | None:
    """What a measured KL weight says."""
    weight, error, v = measured.value, measured.error, e.validation.statistics
    evidence = (
        f"The model behaves as one whose KL was weighed with {weight:.3g} (± {error:.1g}), "
        f"measured on it; {_recorded(e)}.",
        f"-ELBO {v.negative_elbo_nats:.1f} nats = reconstruction "
        f"{v.reconstruction_nats:.1f} + KL {v.kl_nats:.1f}.",
        f"Median sigma of the active dimensions {v.median_sigma_active:.3g}; "
        f"{v.active_units} of {e.latent_dim} are active.",
    )
    if weight + _ERRORS * error < _PLAIN / e.latent_dim:
        return Fault(
            name="plain_autoencoder",
            title="The KL has no weight: this is a plain autoencoder",
            evidence=evidence,
            cause="beta is 0, the KL is left out of the loss, or a warm-up never ended. Sigma then "
            "shrinks towards 0 and the codes lie anywhere, so that prior samples and points "
            "between codes decode to nothing that was trained.",
            remedy="Train with beta = 1 (a linear --kl-warmup-epochs if KL should come late). Keep "
            "this model only where nothing but reconstructions is asked of it.",
        )
    if _meant(e, weight):
        return None
    if weight > 1 and (measured.at_most or v.clamped_share > _CLAMPED):
        return None  # sigma cannot follow its gradient, which then seems to be weighed against
    averaged = 1 / e.latent_dim
    both = e.elements / e.latent_dim
    if weight < 1 and _near(weight, averaged, e.latent_dim**0.5):
        return Fault(
            name="kl_averaged",
            title="The KL is averaged over the latent dimensions",
            evidence=(*evidence, f"1 / latent_dim is {averaged:.3g}: the weight of a mean."),
            cause=f"mean() over the {e.latent_dim} latent dimensions, or over the whole tensor, "
            "where sum(1).mean(0) is meant; a beta of that size does the same.",
            remedy="Sum the KL over latent dimensions and average over the batch only; then beta = "
            "1. Compare by -ELBO at beta = 1: the reconstruction alone looks better while broken.",
        )
    if weight > 1 and _near(weight, e.elements, 3):
        return _reconstruction_averaged(e, evidence)
    if weight < 1:
        return Fault(
            name="kl_underweighted",
            title=f"The KL counts {weight:.2g} times what it should",
            evidence=evidence,
            cause="A constant in front of the KL (a copied kld_weight), a beta below 0.1, or a "
            "warm-up that had not ended when the best weights were kept.",
            remedy="Sum both terms, average over the batch only, and start from beta = 1.",
        )
    ratio = f" Elements / latent_dim is {both:.3g}: both terms averaged." * _near(weight, both, 2)
    return Fault(
        name="kl_overweighted",
        title=f"The KL counts {weight:.2g} times what it should",
        evidence=evidence,
        cause=f"The KL is added twice or more, a large beta, or a mean in place of a sum.{ratio}",
        remedy="Sum both terms, average over the batch only, and start from beta = 1.",
    )


def _collapse(e: Evidence) -> Fault:
    """No dimension carries anything: was it the scale of the loss?"""
    v = e.validation.statistics
    evidence = (
        f"KL {v.kl_nats:.2g} nats; {v.active_units} of {e.latent_dim} "
        f"dimensions are active; mean sigma {v.mean_sigma:.3f}.",
        f"Reconstruction {v.reconstruction_nats:.1f} nats; answering every row with the "
        f"data's mean gives {e.validation.constant_nats:.1f}.",
        f"A latent dimension pays on these data at any KL weight up to about "
        f"{e.worthwhile_weight:.3g}; {_recorded(e)}.",
    )
    beta = e.beta or 0.0
    if e.worthwhile_weight > max(2.0, 2 * beta) or _near(beta, e.elements, _NEAR):
        return _reconstruction_averaged(e, evidence)
    return Fault(
        name="posterior_collapse",
        title="Posterior collapse: the decoder ignores the latents",
        evidence=evidence,
        cause=f"beta = {beta:.3g} is more than these data repay."
        if beta > 1
        else "The likelihood leaves little to explain: the data vary hardly more than its noise.",
        remedy="Lower beta; with a Gaussian likelihood lower its variance or learn it; warm the KL "
        "up (linearly over some 100 epochs, or in cycles), or leave free bits of 0.05 to 0.25 "
        "nats a dimension.",
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
        f"{e.worthwhile_weight:.3g}, or a training that diverged early, would leave the same.)",
        remedy="Sum the reconstruction over a row's elements, average over the batch only; then "
        "beta = 1.",
    )


def _clamped(e: Evidence) -> Fault | None:
    v = e.validation.statistics
    share = v.clamped_share
    if share <= _CLAMPED:
        return None
    return Fault(
        name="log_var_clamped",
        title="log_var is held at an end of its range",
        evidence=(
            f"{100 * share:.1f} % of log_var on {v.rows} rows not trained on lie at "
            "-12 or 6, where its gradient is 0.",
        ),
        cause="The encoder wants a sigma outside exp(-6) to exp(3): a Gaussian variance far too "
        "small for the data, data that are not scaled, or a learning rate that threw it there.",
        remedy="Scale the data, raise the Gaussian variance or learn it, lower the learning rate.",
    )


def _overfitting(e: Evidence) -> Fault | None:
    """Compare what training gained over a constant answer, on rows seen and not seen."""
    seen, unseen = e.train.gain_nats, e.validation.gain_nats
    gap, error = seen - unseen, math.hypot(e.train.gain_error, e.validation.gain_error)
    if seen <= 0 or gap < _OVERFIT * seen or gap < _ERRORS * error:
        return None
    evidence = [
        f"-ELBO {e.train.statistics.negative_elbo_nats:.1f} nats on rows trained on and "
        f"{e.validation.statistics.negative_elbo_nats:.1f} on others: over a constant answer "
        f"training gained {seen:.1f} nats there and {unseen:.1f} here, {gap / seen:.0%} less.",
    ]
    if e.history:
        best, last = min(e.history, key=lambda epoch: epoch.validation_loss), e.history[-1]
        rise = last.validation_loss - best.validation_loss
        if rise > 0:
            evidence.append(
                f"The validation loss was best in epoch {best.epoch} and rose by {rise:.1f} nats "
                f"until epoch {last.epoch}, while training went on."
            )
    return Fault(
        name="overfitting",
        title="Overfitting: rows not trained on are explained much worse",
        evidence=tuple(evidence),
        cause="Too much net or too many epochs for so few rows; a fixed binarisation, which can be "
        "learned by heart.",
        remedy="More rows, a smaller net, --patience so that training ends in time, or --binarise, "
        "which draws the pixels anew in each epoch.",
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
