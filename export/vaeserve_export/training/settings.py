"""The settings of a training run; the command line takes its defaults from here."""

from dataclasses import dataclass

from vaeserve_export.errors import TrainError

MODELS = ("mlp", "conv")
LIKELIHOODS = ("bernoulli", "gaussian")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything a run depends on beside its data.

    Attributes:
        model: "mlp" (one hidden layer each way, any row) or "conv" (pictures).
        latent_dim: latent dimensions.
        hidden: width of the hidden layer next to the latents.
        likelihood: "bernoulli" for values in [0, 1], "gaussian" for any.
        gaussian_variance: variance of the Gaussian likelihood, in squared data units.
        epochs: passes over the training rows, at most.
        batch_size: rows a step; clipped to the rows there are.
        learning_rate: of Adam.
        beta: weight of the KL in the loss; 1 is the VAE, 0 an autoencoder.
        kl_warmup_epochs: epochs over which that weight grows linearly to beta; 0 starts at beta.
        patience: epochs without a better validation loss before training stops.
        binarise: draw the pixels anew each epoch with the grey levels as probabilities.
        seed: of everything random: initial weights, split, order, noise; below 2**64.
        threads: of PyTorch. One is fastest for small nets.

    Raises:
        TrainError: a value out of range.
    """

    model: str = "mlp"
    latent_dim: int = 20
    hidden: int = 256
    likelihood: str = "bernoulli"
    gaussian_variance: float = 0.1
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 1e-3
    beta: float = 1.0
    kl_warmup_epochs: int = 0
    patience: int = 20
    binarise: bool = False
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        _require(self.model in MODELS, f"model {self.model!r}: choose from {', '.join(MODELS)}")
        _require(
            self.likelihood in LIKELIHOODS,
            f"likelihood {self.likelihood!r}: choose from {', '.join(LIKELIHOODS)}",
        )
        _require(
            not self.binarise or self.likelihood == "bernoulli",
            "binarised data is Bernoulli data: use likelihood bernoulli",
        )
        for name in ("latent_dim", "hidden", "epochs", "batch_size", "patience", "threads"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("gaussian_variance", "learning_rate"):
            _require(0 < getattr(self, name) < float("inf"), f"{name} must be above 0")
        for name in ("beta", "kl_warmup_epochs", "seed"):
            _require(0 <= getattr(self, name) < float("inf"), f"{name} must not be negative")
        _require(self.seed < 2**64, "seed must be below 2**64")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise TrainError(message)
