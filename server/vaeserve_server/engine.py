"""What the batcher needs of an engine. Tests bring failing ones.

`onnx_engine` feeds a session from host memory, `bound_engine` from buffers on the device.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from vaeserve_server.call import Outputs, Rows
from vaeserve_server.errors import ServiceError

Packed = TypeVar("Packed", bound=Rows)
Packed_contra = TypeVar("Packed_contra", bound=Rows, contravariant=True)


class EngineMemoryError(Exception):
    """The engine could not allocate what a run needs; fewer rows may fit."""


class EngineLostError(Exception):
    """The device fails every run from now on, until the process is a new one."""


class Engine(Protocol[Packed_contra]):
    """Runs one graph, or several in a row, on what its packer made."""

    provider: str
    """Name of the ONNX Runtime provider it really runs on."""

    waited_s: float
    """Seconds of the last run that it waited for others to compute on the device."""

    def bucket(self, rows: int) -> int:
        """Rows that a run of `rows` really computes, padding included."""

    def run(self, rows: Packed_contra, *, as_levels: bool) -> Outputs:
        """Run the packed rows of one batch.

        Args:
            rows: what the packer made.
            as_levels: whether every caller wants pictures as uint8 levels. An engine may then
                return those, followed by float32 [rows], NaN where a row is not finite.

        Returns:
            the outputs in the graph's order, each [rows, ...].

        Raises:
            EngineMemoryError: there is no memory for so many rows.
            EngineLostError: the device is lost.
        """


class BatchPacker(Protocol[Packed]):
    """Makes one batch of the rows of many requests; `packing.Packer` is the usual one."""

    def pack(self, parts: Sequence[Rows]) -> Packed:
        """The rows of all requests; overwritten by the next call."""

    def sound(self, rows: Packed) -> bool:
        """Whether the model may see all of them."""

    def problem(self, part: Rows) -> ServiceError | None:
        """What is wrong with one request's rows; None if nothing is."""


class Slot(NamedTuple):
    """What runs one batch at a time.

    Attributes:
        engine: runs it; slots that share one take turns.
        packer: makes it; no other slot's.
        device: number of the device among those that the batcher has. Slots of one device overlap
            what they can: one packs and copies while the other computes.
    """

    engine: Engine[Any]
    packer: BatchPacker[Any]
    device: int = 0


def one_of_each_engine(slots: Sequence[Slot]) -> list[Slot]:
    """Slots that share no engine, one of each."""
    return list({id(slot.engine): slot for slot in slots}.values())
