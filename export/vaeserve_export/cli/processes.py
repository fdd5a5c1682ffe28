"""The processes that torchrun has started for one training."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from vaeserve_export.training.group import Group, current_group


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Within the block this process is one of those that torchrun started, or alone.

    Args:
        device: setting of the training; each process takes a GPU of its own, if there are GPUs.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield Group()
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield current_group()
    finally:
        dist.destroy_process_group()
