"""One request on its way: what the transport knows of it, and the steps its handler takes.

A handler is a generator: it yields a `Run` wherever it needs a graph, is sent the outputs, and
returns the reply. It never blocks and does not know which thread resumes it, so any transport can
carry it.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

Floats = npt.NDArray[np.float32]
Outputs = tuple[Floats, ...]


@dataclass(slots=True, eq=False)
class Call:
    """What a handler and the batcher may ask about the caller.

    Attributes:
        deadline: monotonic time after which nobody waits any more; None without one.
        cancelled: set by the transport when the caller goes away.
    """

    deadline: float | None = None
    cancelled: bool = False


class Graph(Protocol):
    """Takes rows for one graph; `batcher.Batcher` is the real one."""

    def submit(self, rows: Floats, call: Call, done: "Done") -> None:
        """Admit rows and return at once; `done` is called once, later, from another thread.

        Raises:
            ServiceError: refused; `done` is not called.
        """


@dataclass(frozen=True, slots=True)
class Run:
    """Rows that a handler wants run on a graph."""

    graph: Graph
    rows: Floats


Done = Callable[[Outputs | Exception], None]
Reply = Callable[[Message | Exception], None]
Steps = Generator[Run, Outputs, Message]


def drive(steps: Steps, call: Call, reply: Reply) -> None:
    """Take a handler from run to run until it has a reply or an error, and pass that on, once.

    Returns as soon as the handler waits for a graph; the graph's thread carries on from there.
    """

    def advance(step: Callable[[], Run]) -> None:
        try:
            run = step()
            run.graph.submit(run.rows, call, resume)
        except StopIteration as end:
            reply(end.value)
        except Exception as error:  # noqa: BLE001  every failure is the caller's to see
            reply(error)

    def resume(outcome: Outputs | Exception) -> None:
        if isinstance(outcome, Exception):
            advance(lambda: steps.throw(outcome))
        else:
            advance(lambda: steps.send(outcome))

    advance(lambda: next(steps))
