"""The rows of docs/results.md: what is trained, how it is measured, what was published."""

from dataclasses import dataclass

_SWEEP = ("--schedule", "cosine", "--patience", "100000")  # one fall of the rate, to its end
_MUON = ("--optimiser", "muon", "--learning-rate", "0.02", "--precision", "bfloat16")
_COMMON = (*_MUON, *_SWEEP, "--threads", "1", "--seed", "0")
_TANH = (
    *("--model", "mlp", "--layers", "2", "--hidden", "200", "--activation", "tanh"),
    *("--latent-dim", "50", "--batch-size", "500", *_COMMON),
)
_GATED = (
    *("--model", "mlp", "--layers", "2", "--hidden", "300", "--activation", "gated"),
    *("--latent-dim", "40", "--batch-size", "1000", *_COMMON),
)
_CONV = ("--model", "conv", "--latent-dim", "40", "--batch-size", "500", *_COMMON)
_DYNAMIC = "--binarise"
_FULL = ("--samples", "5000")
_SMALLER = ("--samples", "1000", "--rows", "1000")


@dataclass(frozen=True)
class Row:
    """One trained and measured model.

    Attributes:
        name: of its folder.
        title: in the table.
        data: data source; `{data_dir}` in it is replaced.
        train: options of `vaeserve train` beside data and out.
        evaluate: options of `vaeserve evaluate`.
        budget: CPU minutes of training that it may take.
        bar: highest NLL that passes, nats; None where the best that is reached counts.
        published: the figure to stand beside, and whose it is.
    """

    name: str
    title: str
    data: str
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    budget: int
    bar: float | None
    published: str


_EXEMPLAR = "228.70 (Norouzi et al. 2020, gated 2x300, z 40)"
_IWAE = "86.76 (Burda et al. 2016, 2x200, z 50)"

ROWS = (
    Row(
        "fashion-10",
        "Fashion-MNIST dynamic, gated 2x300, z 40",
        "fashion-mnist",
        (*_GATED, _DYNAMIC, "--epochs", "120"),
        (*_FULL, _DYNAMIC),
        budget=10,
        bar=235.0,
        published=_EXEMPLAR,
    ),
    Row(
        "fashion-60",
        "the same, longer",
        "fashion-mnist",
        (*_GATED, _DYNAMIC, "--epochs", "250"),
        (*_FULL, _DYNAMIC),
        budget=60,
        bar=None,
        published=_EXEMPLAR,
    ),
    Row(
        "mnist-20",
        "MNIST dynamic, tanh 2x200, z 50",
        "mnist",
        (*_TANH, _DYNAMIC, "--epochs", "300"),
        (*_FULL, _DYNAMIC),
        budget=20,
        bar=90.0,
        published=_IWAE,
    ),
    Row(
        "mnist-90",
        "the same, longer",
        "mnist",
        (*_TANH, _DYNAMIC, "--epochs", "600"),
        (*_FULL, _DYNAMIC),
        budget=90,
        bar=None,
        published=_IWAE,
    ),
    Row(
        "mnist-static",
        "MNIST static (Larochelle), tanh 2x200, z 50",
        "npz:{data_dir}/binarized-mnist/binarized-mnist.npz",
        (*_TANH, "--epochs", "60"),
        _FULL,
        budget=20,
        bar=None,
        published="88.71 (Burda et al. 2016, recalled)",
    ),
    Row(
        "mnist-conv",
        "MNIST dynamic, conv, z 40",
        "mnist",
        (*_CONV, _DYNAMIC, "--epochs", "10"),
        (*_SMALLER, _DYNAMIC),
        budget=30,
        bar=None,
        published="",
    ),
    Row(
        "fashion-conv",
        "Fashion-MNIST dynamic, conv, z 40",
        "fashion-mnist",
        (*_CONV, _DYNAMIC, "--epochs", "10"),
        (*_SMALLER, _DYNAMIC),
        budget=30,
        bar=None,
        published="",
    ),
)
