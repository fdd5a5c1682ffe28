"""Networks as somebody else would write them: not from this project, with several latent axes."""

import torch
from torch import Tensor, nn

INPUT_SHAPE = (1, 8, 8)
LATENT_SHAPE = (2, 4, 4)


class ConvEncoder(nn.Module):
    """[rows, 1, 8, 8] -> mu, log_var [rows, 2, 4, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.Dropout(0.5)
        )
        self.mu, self.log_var = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        return self.mu(hidden), self.log_var(hidden)


class ConvDecoder(nn.Module):
    """[rows, 2, 4, 4] -> probabilities [rows, 1, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 8, 2, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.out = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.out(self.norm(self.up(z)).relu()).sigmoid()
        return x_hat


def conv_pair() -> tuple[ConvEncoder, ConvDecoder]:
    """Both in train mode, as a training loop leaves them; BatchNorm has seen some rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, decoder = ConvEncoder(), ConvDecoder()
        for _ in range(3):
            mu, _ = encoder(torch.rand(16, *INPUT_SHAPE))
            decoder(mu.detach())
    return encoder, decoder
