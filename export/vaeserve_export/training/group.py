"""The processes that train together; one alone is a group, too."""

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """A process's place among those that train one model.

    Attributes:
        rank: of this process, from 0; the first writes the run folder.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """This process writes the run folder and speaks for all."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The values added over all processes, without gradients; the same in each of them."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def same(self, content: bytes | None) -> bytes | None:
        """What the first process has, in all of them."""
        if self.size == 1:
            return content
        box = [content]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def current_group() -> Group:
    """The group that torch.distributed has been initialised with, or this process alone."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size())
    return Group()
