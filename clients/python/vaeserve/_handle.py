"""What every call of a model's blocking handle goes through; its calls are in `_model`."""

import threading
from collections.abc import Callable

import grpc

from vaeserve import _requests
from vaeserve._connection import Connection, held
from vaeserve._errors import InvalidInput, NotFound
from vaeserve._info import ModelInfo
from vaeserve._plan import Plan, ReplyT, RequestT, ResultT


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
        return self._info_by(self._connection.deadline(None))

    def __repr__(self) -> str:
        pinned = "" if self.version is None else f", version={self.version}"
        return f"<Model {self.name!r}{pinned} at {self._connection.target}>"

    def _info_by(self, deadline: float) -> ModelInfo:
        if (known := self._info) is not None:
            return known
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
        """Carry out a call, part after part."""
        deadline = self._connection.deadline(timeout)
        info = self._info_by(deadline)
        try:
            plan = plan_for(info)
            replies = [
                self._connection.call(method, plan.build(part), deadline) for part in plan.parts
            ]
        except (InvalidInput, NotFound):
            self._info = None  # perhaps another version is served by now: look again next time
            raise
        if replies[-1].version != info.version:
            self._info = None
        return plan.join(replies)
