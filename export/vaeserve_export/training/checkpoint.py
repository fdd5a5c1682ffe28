"""The state of a training between two epochs, as one file.

Weights, best weights, optimiser moments and generator states are tensors of a safetensors file;
the counters are JSON in its header. One file, renamed into place, cannot hold halves of two epochs,
and reading it runs no code. A run that goes on from it, with equal threads and versions, ends in
the same bits as one that was never interrupted.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vaeserve_export.errors import RunError
from vaeserve_export.training.run import write_atomic
from vaeserve_export.vae.model import Vae

PURPOSES = ("shuffle", "binarise", "eps")
"""Each has a generator of its own, so that drawing more for one does not shift the others."""


@dataclass
class Progress:
    """The counters.

    Attributes:
        epoch: epochs completed.
        step: optimiser steps taken.
        best_epoch: the epoch of the best validation loss.
        best_loss: that loss.
        seconds: time spent in training.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    seconds: float = 0.0


@dataclass
class TrainState:
    """Everything that training changes."""

    vae: Vae
    optimiser: torch.optim.Adam
    generators: dict[str, torch.Generator]
    best: dict[str, Tensor] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    def save(self, path: Path) -> None:
        """Write the checkpoint, replacing an older one in a single step."""
        tensors = {f"weights/{name}": value for name, value in self.vae.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{number}/{name}": value for name, value in moments.items()}
        tensors |= {f"generator/{name}": g.get_state() for name, g in self.generators.items()}
        header = {"progress": json.dumps(asdict(self.progress))}
        write_atomic(path, safetensors.torch.save(tensors, header))

    def load(self, path: Path) -> None:
        """Go back to a checkpoint.

        Raises:
            RunError: the file is damaged or of another model.
        """
        try:
            with safe_open(path, framework="pt") as file:
                progress = Progress(**json.loads(file.metadata()["progress"]))
                # Copies: the file's own tensors are not aligned as PyTorch's are.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            self.vae.load_state_dict(_below("weights/", tensors))
            self.best = _below("best/", tensors)
            self._load_optimiser(_below("optimiser/", tensors))
            for name, state in _below("generator/", tensors).items():
                self.generators[name].set_state(state)
        except (
            OSError,
            SafetensorError,
            RuntimeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise RunError(f"{path}: cannot be resumed from: {error}") from error
        self.progress = progress

    def _load_optimiser(self, tensors: dict[str, Tensor]) -> None:
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            number, name = key.split("/")
            moments.setdefault(int(number), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})


def seeds(seed: int, purposes: tuple[str, ...]) -> dict[str, int]:
    """Independent seeds for several purposes from one."""
    words = np.random.SeedSequence(seed).generate_state(len(purposes), np.uint64)
    return {purpose: int(word) for purpose, word in zip(purposes, words, strict=True)}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
