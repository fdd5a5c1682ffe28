"""The settings of a training run; the command line takes its defaults from here."""

from dataclasses import dataclass

from vaeserve_export.errors import TrainError

MODELS = ("mlp", "conv", "ae", "conv-ae")
ACTIVATIONS = ("relu", "tanh", "silu", "gated")
LIKELIHOODS = ("bernoulli", "continuous-bernoulli", "gaussian", "l2")
OPTIMISERS = ("adam", "muon")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything a run depends on beside its data.

    Attributes:
        model: "mlp" (any row) or "conv" (pictures); "ae" and "conv-ae" are the plain autoencoders
            of the same nets: no noise, no KL.
        latent_dim: latent dimensions.
        hidden: width of the hidden layers; of a convolutional net the one next to the latents.
        layers: hidden layers of an mlp or ae, in either direction.
        activation: "relu", "tanh", "silu", or "gated" (a linear map times the sigmoid of another).
        likelihood: "bernoulli" or "continuous-bernoulli" for values in [0, 1], "gaussian" for any;
            "l2" is the Gaussian of variance 1/2: squared error plus a constant.
        gaussian_variance: variance of the Gaussian likelihood, in squared data units.
        learn_variance: learn that variance with the weights, from gaussian_variance on; it is
            exp(-12) at least.
        epochs: passes over the training rows, at most.
        batch_size: rows a step, in all processes together; clipped to the rows there are.
        optimiser: "adam"; or "muon" for the weights of linear maps, beside Adam for the rest.
        learning_rate: of the optimiser; with muon, Adam's is a tenth of it.
        schedule: of the learning rate: "constant"; or "cosine", which grows linearly over the
            first 3 % of the epochs and then falls to 0 along a cosine.
        beta: weight of the KL in the loss; 1 is the VAE; 0 for the plain autoencoders.
        kl_warmup_epochs: epochs over which that weight grows linearly to beta; 0 starts at beta.
        kl_cycle_epochs: epochs after which that growth starts again; 0 never.
        free_bits: nats of KL in each latent dimension that cost nothing.
        patience: epochs without a better validation loss before training stops.
        binarise: draw the pixels anew each epoch with the grey levels as probabilities.
        seed: of everything random: initial weights, split, order, noise; below 2**64.
        precision: of the factors of matrix products in training steps; sums, weights and whatever
            is measured or exported are float32.
        threads: of PyTorch; 0 measures at the start how many are fastest.
        device: "cpu", "cuda", or "auto": CUDA where there is some.

    Raises:
        TrainError: a value out of range, or values that exclude each other.
    """

    model: str = "mlp"
    latent_dim: int = 20
    hidden: int = 256
    layers: int = 1
    activation: str = "relu"
    likelihood: str = "bernoulli"
    gaussian_variance: float = 0.1
    learn_variance: bool = False
    epochs: int = 200
    batch_size: int = 128
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    beta: float = 1.0
    kl_warmup_epochs: int = 0
    kl_cycle_epochs: int = 0
    free_bits: float = 0.0
    patience: int = 20
    binarise: bool = False
    seed: int = 0
    precision: str = "float32"
    threads: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, choices in (
            ("model", MODELS),
            ("activation", ACTIVATIONS),
            ("likelihood", LIKELIHOODS),
            ("optimiser", OPTIMISERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("device", DEVICES),
        ):
            value = getattr(self, name)
            _require(value in choices, f"{name} {value!r}: choose from {', '.join(choices)}")
        for name in ("latent_dim", "hidden", "layers", "epochs", "batch_size", "patience"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("gaussian_variance", "learning_rate"):
            _require(0 < getattr(self, name) < float("inf"), f"{name} must be above 0")
        for name in (
            "beta",
            "kl_warmup_epochs",
            "kl_cycle_epochs",
            "free_bits",
            "seed",
            "threads",
        ):
            _require(0 <= getattr(self, name) < float("inf"), f"{name} must not be negative")
        _require(self.seed < 2**64, "seed must be below 2**64")
        _require(
            not self.binarise or self.likelihood == "bernoulli",
            "binarised data is Bernoulli data: use likelihood bernoulli",
        )
        _require(
            not self.learn_variance or self.likelihood == "gaussian",
            "only the variance of likelihood gaussian can be learned",
        )
        _require(
            self.layers == 1 or self.model in {"mlp", "ae"},
            f"layers is of mlp and ae; model {self.model} has as many as its pictures need",
        )
        _require(
            not self.kl_cycle_epochs or 1 <= self.kl_warmup_epochs <= self.kl_cycle_epochs,
            "kl_cycle_epochs repeats the KL warm-up: kl_warmup_epochs must be 1 to kl_cycle_epochs",
        )
        if self.autoencoder:  # whatever was asked for, so that whoever reads it is not misled
            object.__setattr__(self, "beta", 0.0)

    @property
    def autoencoder(self) -> bool:
        """The model is a plain autoencoder."""
        return self.model in {"ae", "conv-ae"}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise TrainError(message)
