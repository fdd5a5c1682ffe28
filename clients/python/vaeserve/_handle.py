"""What every call of a model's blocking handle goes through; its calls are in `_model`."""

import threading
import time
from collections.abc import Callable, Generator, Iterable
from functools import partial

import grpc

from vaeserve import _requests
from vaeserve._channel import LOOK_TIMEOUT, remaining
from vaeserve._connection import Connection, Pending, held
from vaeserve._errors import InvalidInput, NotFound, VaeserveError
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
        self._connection.require_open()  # in a forked child the lock may never be free again
        with held(self._fetching, deadline):
            if self._info is None:
                self._info = self._get_model(deadline)
            return self._info

    def _get_model(self, deadline: float) -> ModelInfo:
        request = _requests.get_model(self.name, self.version)
        reply = self._connection.call(self._connection.catalogue.GetModel, request, deadline)
        return ModelInfo.from_message(reply.model)

    def _changed(self, info: ModelInfo, deadline: float) -> bool:
        """Look, after a refusal, whether the model is another by now, and note what it is.

        Other calls go on by what is known meanwhile. A server that hangs keeps no refusal back.
        """
        soon = self._connection.deadline(LOOK_TIMEOUT)
        try:
            found = self._get_model(min(deadline, soon))
        except VaeserveError:  # the refusal says more
            return False
        if found == info:
            return False
        self._info = found
        return True

    def _answered(self, version: int) -> None:
        """Have the model's info fetched again if another version answers than it is of."""
        info = self._info
        if info is not None and info.version != version:
            self._info = None

    def _run(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plan_for: Callable[[ModelInfo], Plan[RequestT, ReplyT, ResultT]],
        *,
        again: bool = True,
    ) -> ResultT:
        """Carry out a call; if it was refused and the model has changed, once `again`."""
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
            if not again or not self._changed(info, deadline):
                raise
            return self._run(method, remaining(deadline), plan_for, again=False)
        if replies[-1].version != info.version:
            self._answered(replies[-1].version)
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
            return self._connection.begin(method, plan.build(part), lambda: deadline, batches)

        return list(in_order(begin, plan.parts))

    def _stream(
        self,
        method: "grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]",
        timeout: float | None,
        plans_for: Callable[[ModelInfo], Iterable[Plan[RequestT, ReplyT, ResultT]]],
    ) -> Generator[ResultT, None, None]:
        """Results of plan after plan; each request has a deadline of its own."""
        deadline = partial(self._connection.deadline, timeout)
        info = self._info or self._fetched(deadline())

        def begin(request: RequestT) -> Pending[ReplyT]:
            return self._connection.begin(method, request, deadline)

        try:
            yield from results(plans_for(info), begin, self._answered)
        except (InvalidInput, NotFound):
            self._changed(info, deadline())
            raise
