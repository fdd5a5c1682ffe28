"""Every RPC once, through the SDK, with a picture of what came back."""

import json
from pathlib import Path

import click
import numpy as np
from sklearn.datasets import load_digits

from vaeserve import Client
from vaeserve_demo import figures

_GREYS = 16
"""Grey levels of scikit-learn's digits: 0..16."""

_SHOWN = 10
_STEPS = 10
_GRID = 100
_SEED = 7


def walk(address: str, model: str, run: Path, out: Path) -> None:
    """Call everything and draw.

    Args:
        address: HOST:PORT of the server.
        model: name of the digits model.
        run: run folder, for the training curves.
        out: where the pictures go.
    """
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    figures.training_curves(epochs, out / "training_curves.png")
    pictures, labels = load_digits(return_X_y=True)
    x = (pictures / _GREYS).astype(np.float32).reshape(-1, 1, 8, 8)
    with Client(address) as client:
        for state in client.models():
            click.echo(f"models       {state}")
        digits = client.model(model)

        posterior = digits.encode(x)
        _said("encode", f"{len(x)} pictures -> mu {posterior.mu.shape}, log_var the same")
        figures.latent_map(posterior.mu, labels, out / "latent_map.png")

        decoded = digits.reconstruct(x[:_SHOWN])
        _said("reconstruct", f"{_SHOWN} pictures")
        figures.reconstructions(x[:_SHOWN, 0], decoded[:, 0], out / "reconstructions.png")

        samples = digits.sample(_GRID, seed=_SEED)
        again = digits.sample(10, seed=_SEED)
        if not np.array_equal(samples[:10], again):
            raise click.ClickException("sample(10) differs from the first ten of sample(100)")
        _said("sample", f"{_GRID} draws from seed {_SEED}; 10 alone are the first 10, bit for bit")
        figures.sample_grid(samples[:, 0], out / "prior_samples.png")

        mean = posterior.mu[labels == 0].mean(axis=0, keepdims=True)
        _said("decode", f"the mean zero, {digits.decode(mean).shape}")

        paths = {
            f"{a} to {b}, {path}": digits.interpolate(
                x[np.argmax(labels == a)], x[np.argmax(labels == b)], steps=_STEPS, path=path
            )[:, 0]
            for a, b in ((1, 0), (3, 8), (4, 9))
            for path in ("lerp", "slerp")
        }
        _said("interpolate", f"{len(paths)} paths of {_STEPS} steps")
        figures.interpolations(paths, out / "interpolation.png")


def _said(rpc: str, what: str) -> None:
    click.echo(f"{rpc:<12} {what}")
