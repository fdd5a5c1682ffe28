"""What every call of a model's blocking handle goes through; its calls are in `_model`."""

import threading
import time
from collections.abc import Callable, Generator, Iterable

import grpc

from vaeserve import _requests
from vaeserve._connection import Connection, Pending, held
from vaeserve._errors import InvalidInput, NotFound, VersionChanged
from vaeserve._info import ModelInfo
from vaeserve._latency import BatchTime, asked, with_latency
from vaeserve._plan import Plan, ReplyT, RequestT, ResultT
from vaeserve._streams import in_order, results


class Handle:
    """A model's name, what is known of it, and how a call is carried out.

    Attributes:
        name: name of the model.
        version: the version held on to, or None.
    """

    def __init__(self, connection: Connection, name: str, version: int | None) -> None:
        self.name = name
        self.version = version
        self._connection = connection
        self._fetching = threading.Lock()
        self._info: ModelInfo | None = None

    @property
    def info(self) -> ModelInfo:
        """What the model is: shapes, likelihood, limits.

        Fetched once, and again after the served version changed.
        """
        return self._info or self._fetched(self._connection.deadline(None))

    def __repr__(self) -> str:
        pinned = "" if self.version is None else f", version={self.version}"
        return f"<Model {self.name!r}{pinned} at {self._connection.target}>"

    def _fetched(self, deadline: float) -> ModelInfo:
        with held(self._fetching, deadline):
            if self._info is None:
                request = _requests.get_model(self.name, self.version)
                method = self._connection.catalogue.GetModel
                reply = self._connection.call(method, request, deadline)
                self._info = ModelInfo.from_message(reply.model)
            return self._info

    def _run(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plan_for: Callable[[ModelInfo], Plan[RequestT, ReplyT, ResultT]],
    ) -> ResultT:
        """Carry out a call."""
        deadline = self._connection.deadline(timeout)
        info = self._info or self._fetched(deadline)
        began, batches = time.monotonic(), asked()
        try:
            plan = plan_for(info)
            if len(plan.parts) == 1:  # as most calls
                request = plan.build(plan.parts[0])
                replies = [self._connection.call(method, request, deadline, batches)]
            else:
                replies = self._send_parts(method, plan, deadline, batches)
        except (InvalidInput, NotFound):
            self._info = None  # perhaps another version is served by now: look again next time
            raise
        if replies[-1].version != info.version:
            self._info = None
        result = plan.join(replies)
        return result if batches is None else with_latency(result, began, batches)

    def _send_parts(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        plan: Plan[RequestT, ReplyT, ResultT],
        deadline: float,
        batches: list[BatchTime] | None,
    ) -> list[ReplyT]:
        """Send them a few at a time; the first failure ends those still under way."""

        def begin(part: range) -> Pending[ReplyT]:
            return self._connection.begin(method, plan.build(part), deadline, batches)

        return list(in_order(begin, plan.parts))

    def _stream(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plans_for: Callable[[ModelInfo], Iterable[Plan[RequestT, ReplyT, ResultT]]],
    ) -> Generator[ResultT, None, None]:
        """Results of plan after plan; each request has a deadline of its own."""
        info = self._info or self._fetched(self._connection.deadline(timeout))

        def begin(request: RequestT) -> Pending[ReplyT]:
            return self._connection.begin(method, request, self._connection.deadline(timeout))

        try:
            yield from results(plans_for(info), begin)
        except (InvalidInput, NotFound, VersionChanged):
            self._info = None
            raise
