"""The command `fit-prior`."""

# Heavy imports belong to the command that needs them.
# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaeserve_export.cli.command import FOLDER, SEED, Command
from vaeserve_export.cli.data_options import data_options
from vaeserve_export.cli.fitting import seed_of, tell

if TYPE_CHECKING:
    from vaeserve_export.latent.prior import PriorFit


class _Components(click.ParamType[int | None]):
    """A number, or `auto`."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """None for auto."""
        if value in {"auto", None}:
            return None
        return click.IntRange(min=1).convert(value, param, ctx)


@click.command(cls=Command)
@click.argument("model", type=FOLDER)
@data_options()
@click.option(
    "--components", type=_Components(), default="auto", show_default=True, help="Of the mixture."
)
@click.option("--seed", type=SEED, help="As that of the training by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fit_prior(
    model: Path,
    *,
    spec: str,
    data_dir: Path | None,
    components: int | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Fit a prior to where the encoder of MODEL puts the data: a Gaussian mixture, for Sample.

    MODEL is a run, which keeps it for `export`, or a bundle's version folder, of which the next
    version is written.
    """
    import torch

    from vaeserve_export.bundling.keep import keep
    from vaeserve_export.latent.fitted import read_fitted
    from vaeserve_export.latent.prior import fit_prior as fit
    from vaeserve_export.trained.open import open_subject
    from vaeserve_export.trained.rows import load_rows

    torch.set_num_threads(1)  # the last bits depend on their number
    subject = open_subject(model)
    before = read_fitted(model)
    data = load_rows(subject, spec, data_dir=data_dir)
    result = fit(subject, data, components=components, seed=seed_of(subject, data, seed))
    tell(keep(model, before.with_prior(result)), result, _table(result), as_json=as_json)


def _table(fit: "PriorFit") -> str:
    entry = fit.entry
    lines = [f"{'components':>12}  nats a row, rows that choose"]
    lines += [f"{count:12}  {nats:.2f}" for count, nats in fit.tried.items()]
    gain = entry.standard_nats - entry.held_out_nats
    size = len(fit.mixture.means[0])
    components = "1 component" if entry.components == 1 else f"{entry.components} components"
    lines.append(
        f"{components} over {fit.active} of {size} dimensions, fitted to "
        f"{entry.rows} posterior draws: {entry.held_out_nats:.2f} nats a held-out draw, N(0, I) "
        f"{entry.standard_nats:.2f}: {abs(gain):.2f} {'better' if gain > 0 else 'worse'}"
    )
    return "\n".join(lines)
