"""A run as a subject: its best weights, by PyTorch."""

from pathlib import Path

import torch
from torch import Tensor

from vaeserve_export.trained.subject import Origin
from vaeserve_export.training import run as run_folder
from vaeserve_export.vae.model import Vae


class RunSubject:
    """The best weights of a finished run; a Subject."""

    def __init__(self, folder: Path) -> None:
        """Load the weights.

        Raises:
            RunError: no finished run.
        """
        config = run_folder.read_config(folder)
        self.origin = Origin(
            folder=folder,
            name=folder.name,
            data_sha256=config.data_sha256,
            beta=config.settings.beta,
            columns=config.columns,
            binarise=config.settings.binarise,
        )
        self.vae: Vae = run_folder.load_model(folder)
        self.likelihood = self.vae.likelihood
        self.input_shape = config.input_shape
        self.latent_dim = config.settings.latent_dim

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See Subject."""
        mu, log_var = self.vae.encoder(x)
        return mu, log_var

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """See Subject."""
        x_hat: Tensor = self.vae.decoder(z)
        return x_hat

    @torch.no_grad()
    def reconstruction_nats(self, x: Tensor, z: Tensor) -> Tensor:
        """See Subject."""
        raw = self.vae.decoder.raw(z.flatten(0, 1))
        return self.likelihood.draw_nats(raw.view(*z.shape[:2], -1), x.flatten(1))
