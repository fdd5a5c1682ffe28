"""Features in which pictures are compared: the last hidden layer of a small classifier.

A distance in pixels says little about what a picture shows. A classifier of the data's own labels
knows what matters in it, is trained here in seconds, and needs no weights from elsewhere.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vaeserve_export.data.dataset import Dataset, split
from vaeserve_export.errors import DataError

FEATURES = 64
STEPS = 1000
_BATCH, _LEARNING_RATE, _SEED = 128, 1e-3, 0
_SMALLEST_SIDE = 7  # pictures are halved until their longer side is at most this, at least once
_FIRST_CHANNELS, _MOST_CHANNELS = 16, 64
_MEASURED_ROWS = 1024  # of a batch when features are taken
_FORMAT = 1  # raise it when the nets or their training change, or old files would be taken


@dataclass(frozen=True)
class FeatureNet:
    """A trained classifier.

    Attributes:
        body: rows to features.
        accuracy: share of held-out rows that it classifies rightly. Features of a classifier that
            has learned nothing measure nothing.
    """

    body: nn.Module
    accuracy: float

    @torch.no_grad()
    def __call__(self, x: Tensor) -> npt.NDArray[np.float32]:
        """Features, [rows, FEATURES], of rows [rows, ...] shaped as those it was trained on."""
        parts = [self.body(rows).numpy() for rows in torch.split(x.float(), _MEASURED_ROWS)]
        return np.concatenate(parts)


def feature_net(data: Dataset, *, steps: int = STEPS, cache: Path | None = None) -> FeatureNet:
    """Train a classifier of the data's labels: convolutions for pictures, an MLP for vectors.

    On one thread and seeded: equal data gives equal features on one machine. 1000 steps on pictures
    of 28x28 take about ten seconds.

    Args:
        data: rows with labels; a tenth of them is held out for the accuracy.
        steps: of Adam, 128 rows each.
        cache: folder in which trained weights are kept, and found again for the same data and
            steps; made if it is not there.

    Raises:
        DataError: no labels, or only one class.
    """
    if data.labels is None:
        raise DataError(f"{data.name}: has no labels, so no classifier can be trained on it")
    classes, targets = np.unique(data.labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"{data.name}: has one class only, so there is nothing to classify")
    net = _build(data.row_shape, len(classes))
    file = cache / f"features-{_digest(data, steps)}.safetensors" if cache else None
    accuracy = _load(net, file) if file else None
    if accuracy is None:
        accuracy = _train(net, torch.from_numpy(data.x), torch.from_numpy(targets), steps)
        if file:
            _save(net, accuracy, file)
    return FeatureNet(net[0].eval(), accuracy)


def _build(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Body and head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        body = _conv_body(shape) if len(shape) == 3 else _mlp_body(shape)
        return nn.Sequential(body, nn.Linear(FEATURES, classes))


def _conv_body(shape: tuple[int, ...]) -> nn.Sequential:
    channels, height, width = shape
    layers: list[nn.Module] = []
    wider = _FIRST_CHANNELS
    while not layers or max(height, width) > _SMALLEST_SIDE:
        layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.ReLU()]
        channels, height, width = wider, (height + 1) // 2, (width + 1) // 2
        wider = min(2 * wider, _MOST_CHANNELS)
    flat = channels * height * width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, FEATURES), nn.ReLU())


def _mlp_body(shape: tuple[int, ...]) -> nn.Sequential:
    inputs, wide = nn.Linear(math.prod(shape), 2 * FEATURES), nn.Linear(2 * FEATURES, FEATURES)
    return nn.Sequential(nn.Flatten(), inputs, nn.ReLU(), wide, nn.ReLU())


def _train(net: nn.Sequential, x: Tensor, targets: Tensor, steps: int) -> float:
    """Train in place; the accuracy on the held-out rows."""
    train_rows, held_out = (torch.from_numpy(rows) for rows in split(len(x), _SEED))
    generator = torch.Generator().manual_seed(_SEED)
    optimiser = torch.optim.Adam(net.parameters(), _LEARNING_RATE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and so the weights, depends on their number
    try:
        for _ in range(steps):
            picked = torch.randint(len(train_rows), (_BATCH,), generator=generator)
            batch = train_rows[picked]
            optimiser.zero_grad()
            loss = F.cross_entropy(net(x[batch]), targets[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            parts = [net(x[rows]).argmax(1) for rows in torch.split(held_out, _MEASURED_ROWS)]
    finally:
        torch.set_num_threads(threads)
    return float((torch.cat(parts) == targets[held_out]).double().mean())


def _digest(data: Dataset, steps: int) -> str:
    content = hashlib.sha256(json.dumps([_FORMAT, data.sha256, steps]).encode())
    content.update(np.ascontiguousarray(data.labels, "<i8").data)
    return content.hexdigest()[:16]


def _load(net: nn.Sequential, file: Path) -> float | None:
    """Take the weights of a file; the accuracy, or None if there is no such file, or no sound one.

    A damaged one is written again: it is a cache.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            accuracy = float(opened.metadata()["accuracy"])
            net.load_state_dict({name: opened.get_tensor(name).clone() for name in opened.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError, LookupError, TypeError, ValueError):
        return None
    return accuracy


def _save(net: nn.Sequential, accuracy: float, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_bytes(safetensors.torch.save(net.state_dict(), {"accuracy": repr(accuracy)}))
    fresh.replace(file)
