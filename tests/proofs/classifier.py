"""A small convolutional classifier of pictures: the judge of what an edit does."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

_EPOCHS, _BATCH = 10, 64


class Judge:
    """Says of pictures [rows, 1, height, width] whether they have an attribute."""

    def __init__(self, net: nn.Module, threshold: float) -> None:
        self._net, self._threshold = net, threshold

    @torch.no_grad()
    def logits(self, x: Tensor) -> npt.NDArray[np.float32]:
        """[rows]; higher is more likely to have it."""
        parts = [self._net(rows)[:, 0] for rows in torch.split(x, 256)]
        return torch.cat(parts).numpy()

    def share(self, x: Tensor) -> float:
        """Which share of the pictures it says yes to."""
        return float((self.logits(x) > self._threshold).mean())


def train(x: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], seed: int = 0) -> Judge:
    """Train one on nine tenths; the threshold is where it errs equally often on both kinds of the
    rest. Half of the pictures are blurred and all are jittered, since decoders blur and the
    judge shall look at the mouth, not at sharpness.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            *_halving(1, 16), *_halving(16, 32), *_halving(32, 64), *_halving(64, 64),
            nn.Flatten(1), nn.LazyLinear(64), nn.ReLU(), nn.Linear(64, 1),
        )  # fmt: skip
        pictures, truth = torch.from_numpy(x), torch.from_numpy(labels).float()
        net(pictures[:1])
    order = torch.randperm(len(x), generator=generator)
    apart, taught = order[: len(x) // 10], order[len(x) // 10 :]
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.05)
    steps = _EPOCHS * -(-len(taught) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    balance = (1 - truth).sum() / truth.sum()
    for _ in range(_EPOCHS):
        for rows in torch.split(taught[torch.randperm(len(taught), generator=generator)], _BATCH):
            logits = net(_jittered(pictures[rows], generator))[:, 0]
            loss = F.binary_cross_entropy_with_logits(logits, truth[rows], pos_weight=balance)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    logits = Judge(net, 0).logits(pictures[apart])
    return Judge(net, _equal_errors(logits, labels[apart.numpy()]))


def _halving(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)


def _jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrored, moved by up to 3 pixels, other contrast and brightness; half of them blurred."""
    draw = torch.rand(4, generator=generator)
    if draw[0] < 0.5:
        x = x.flip(3)
    dy, dx = torch.randint(-3, 4, (2,), generator=generator).tolist()
    x = F.pad(x, (3, 3, 3, 3), mode="replicate")[:, :, 3 + dy : 67 + dy, 3 + dx : 67 + dx]
    if draw[1] < 0.5:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return (x - 0.5) * (0.8 + 0.4 * draw[2]) + 0.5 + 0.2 * (draw[3] - 0.5)


def _equal_errors(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    cuts = np.sort(logits)
    missed = np.array([(logits[labels == 1] <= cut).mean() for cut in cuts])
    false = np.array([(logits[labels == 0] > cut).mean() for cut in cuts])
    return float(cuts[np.argmin(np.abs(missed - false))])
