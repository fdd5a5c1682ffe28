"""The state of a training between two steps, as one file.

Weights, best weights, optimiser moments and generator states are tensors of a safetensors file;
the counters are JSON in its header. One file, renamed into place, cannot hold halves of two steps,
and reading it runs no code. A run that goes on from it, with equal threads and versions, ends in
the same bits as one that was never interrupted.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor
from torch.optim import Optimizer

from vaeserve_export.errors import RunError
from vaeserve_export.training.files import write_atomic
from vaeserve_export.training.rows import Generators
from vaeserve_export.vae.model import Vae


@dataclass
class Progress:
    """The counters.

    Attributes:
        epoch: epochs completed.
        batch: batches done of the next one.
        step: optimiser steps taken.
        best_epoch: the epoch of the best validation loss.
        best_loss: that loss.
        seconds: time spent in training.
        cpu_seconds: processor time spent in training, by all threads and processes.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class TrainState:
    """Everything that training changes."""

    vae: Vae
    optimisers: list[Optimizer]
    generators: Generators
    sums: Tensor
    """Of the epoch's rows so far, float64: reconstruction, KL, loss."""
    best: dict[str, Tensor] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    def save(self, path: Path) -> None:
        """Write the checkpoint, replacing an older one in a single step."""
        tensors = {f"weights/{name}": value for name, value in self.vae.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for at, optimiser in enumerate(self.optimisers):
            for number, moments in optimiser.state_dict()["state"].items():
                for name, value in moments.items():
                    tensors[f"optimiser/{at}/{number}/{name}"] = value
        tensors |= {f"generator/{name}": g.get_state() for name, g in self.generators.items()}
        tensors["sums"] = self.sums
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        header = {"progress": json.dumps(asdict(self.progress))}
        write_atomic(path, safetensors.torch.save(tensors, header))

    def load(self, content: bytes) -> None:
        """Go back to a checkpoint, given as the bytes of its file.

        Raises:
            RunError: it is damaged or of another model.
        """
        try:
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            progress = Progress(**json.loads(header["__metadata__"]["progress"]))
            tensors = safetensors.torch.load(content)
            # Copies: the bytes' own tensors are not aligned as PyTorch's are.
            tensors = {name: value.clone() for name, value in tensors.items()}
            self.vae.load_state_dict(_below("weights/", tensors))
            self.best = _below("best/", tensors)
            for at, optimiser in enumerate(self.optimisers):
                _load_moments(optimiser, _below(f"optimiser/{at}/", tensors))
            for name, state in _below("generator/", tensors).items():
                self.generators[name].set_state(state)
            self.sums.copy_(tensors["sums"])
        except (SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
            raise RunError(f"the checkpoint cannot be resumed from: {error}") from error
        self.progress = progress


def seeds(seed: int, purposes: tuple[str, ...]) -> dict[str, int]:
    """Independent seeds for several purposes from one."""
    words = np.random.SeedSequence(seed).generate_state(len(purposes), np.uint64)
    return {purpose: int(word) for purpose, word in zip(purposes, words, strict=True)}


def _load_moments(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        moments.setdefault(int(number), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
