"""The rows of docs/results.md: what is trained, how it is measured, what was published."""

from dataclasses import dataclass

_DYNAMIC = ("--binarise",)
_MLP = ("--model", "mlp")


@dataclass(frozen=True)
class Row:
    """One trained and measured model.

    Attributes:
        name: of its folder.
        title: in the table.
        data: data source.
        train: options of `vaeserve train` beside data, out and budget.
        evaluate: options of `vaeserve evaluate`.
        bar: highest NLL that passes, nats; None where the best that is reached counts.
        budget: CPU minutes of training that it was tuned for.
        published: the figure to stand beside, nats, and whose it is.
    """

    name: str
    title: str
    data: str
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    budget: int
    bar: float | None = None
    published: str = ""


ROWS: tuple[Row, ...] = ()
