"""What modules of a user's own must be to become a bundle, and what to do about it if they are not.

Proofs come later, on the graphs: these checks name the cause where a proof would only fail.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vaeserve_export.bundling.golden import prior_draws
from vaeserve_export.bundling.pair import Pair
from vaeserve_export.errors import ExportError

_PROBE_ROWS = 4
_ROW_TOLERANCE = 1e-3  # between a row alone and among others: sums in another order are far below


def require_module(module: object, role: str) -> None:
    """A module on the CPU in float32."""
    if not isinstance(module, nn.Module):
        raise ExportError(
            f"{role}: is {type(module).__name__}, not a torch.nn.Module; wrap it in one"
        )
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type != "cpu":
            raise ExportError(
                f"{role}: lies on {tensor.device}; parity is proven on the CPU: call {role}.cpu()"
            )
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ExportError(
                f"{role}: has {tensor.dtype} weights; call {role}.float(), and ask for less with "
                "precision="
            )


@torch.no_grad()
def probe_encoder(encoder: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Run an encoder on a few rows.

    Returns:
        The latent shape, without the batch axis.

    Raises:
        ExportError: it cannot run them, or returns something else than mu and log_var.
    """
    x = torch.linspace(0, 1, _PROBE_ROWS)[:, None] * torch.ones(input_shape).flatten()
    x = x.reshape(_PROBE_ROWS, *input_shape)

    def run(rows: Tensor) -> tuple[Tensor, ...]:
        return _mu_log_var(encoder(rows), len(rows))

    mu, _ = _same_however_run(run, x, "encoder")
    return tuple(mu.shape[1:])


@torch.no_grad()
def probe_pair(pair: Pair, *, bounded: bool) -> None:
    """Run both on rows of their own, once the latent shape is known.

    Args:
        pair: the modules.
        bounded: x_hat is a probability.

    Raises:
        ExportError: the decoder cannot run them, or what the two return cannot be served.
    """

    def decode(z: Tensor) -> tuple[Tensor, ...]:
        return (_x_hat(pair.decoder(z), (len(z), *pair.input_shape)),)

    few = prior_draws(pair, first_row=0, rows=_PROBE_ROWS)
    _same_however_run(decode, few, "decoder")
    x_hat = pair.decode(prior_draws(pair, first_row=0, rows=64))
    if bounded and not 0.0 <= x_hat.min() <= x_hat.max() <= 1.0:
        raise ExportError(
            f"decoder: gives {x_hat.min():.3g} to {x_hat.max():.3g}, but this likelihood is of "
            "probabilities in [0, 1]: end it with a sigmoid, or use likelihood='gaussian'"
        )
    mu, log_var = pair.encode(x_hat)
    for name, values in (("mu", mu), ("log_var", log_var)):
        _require_finite(values, f"encoder: {name}, of decoded prior samples,")
    if log_var.min() >= 0 and log_var.max() > 0:
        raise ExportError(
            f"encoder: log_var is never negative ({log_var.min():.3g} to {log_var.max():.3g} over "
            "64 rows), as if it were sigma or sigma^2: return the logarithm of the variance, "
            "2 * sigma.log()"
        )


def _mu_log_var(output: Any, rows: int) -> tuple[Tensor, ...]:
    if not isinstance(output, tuple | list) or not all(isinstance(o, Tensor) for o in output):
        raise ExportError(
            f"encoder: returns {type(output).__name__}; return the tensors mu, log_var"
        )
    if len(output) != 2:
        raise ExportError(
            f"encoder: returns {len(output)} tensors; return mu and log_var alone: the service "
            "draws the sample"
        )
    mu, log_var = output
    if mu.shape != log_var.shape or mu.dim() < 2 or len(mu) != rows:
        raise ExportError(
            f"encoder: of {rows} rows it makes mu {list(mu.shape)} and log_var "
            f"{list(log_var.shape)}; both must be [{rows}, ...] and alike"
        )
    return mu, log_var


def _x_hat(output: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(output, Tensor):
        raise ExportError(
            f"decoder: returns {type(output).__name__}; return one tensor, the mean of p(x|z)"
        )
    if output.shape != shape:
        raise ExportError(
            f"decoder: of {shape[0]} latent rows it makes {list(output.shape)}; "
            f"by input_shape it must be {list(shape)}"
        )
    return output


def _same_however_run(
    run: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor, role: str
) -> tuple[Tensor, ...]:
    """Outputs that are finite, float32, repeatable, and those of each row by itself."""
    together = _attempt(run, rows, role)
    for values in together:
        if values.dtype != torch.float32:
            raise ExportError(f"{role}: returns {values.dtype}; it must be float32")
        _require_finite(values, f"{role}: what it returns")
    again = _attempt(run, rows, role)
    if not all(map(torch.equal, together, again)):
        raise ExportError(
            f"{role}: the same input gives other outputs each time, in eval mode: it draws noise "
            "inside; return mu and log_var, or the mean, and let the service draw"
        )
    alone = _attempt(run, rows[-1:], role)
    for values, single in zip(together, alone, strict=True):
        if not torch.allclose(values[-1:], single, rtol=_ROW_TOLERANCE, atol=_ROW_TOLERANCE):
            raise ExportError(
                f"{role}: a row's result depends on the rows beside it; normalise over the row's "
                "own elements, never over the batch"
            )
    return together


def _attempt(
    run: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor, role: str
) -> tuple[Tensor, ...]:
    try:
        return run(rows)
    except ExportError:
        raise
    except Exception as error:  # a user's module raises whatever it likes
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"{role}: fails on float32 {list(rows.shape)}: {text}; it must take any number of rows "
            "of the shape that was given"
        ) from error


def _require_finite(values: Tensor, what: str) -> None:
    if not values.isfinite().all():
        raise ExportError(f"{what} is NaN or infinite; look at the weights")
