"""Messages whose parsing would keep others waiting: where they wait, and how many bytes of them."""

import time
from collections.abc import Callable
from functools import partial

from google.protobuf.message import Message

from vaeserve_server.call import Call, Reply
from vaeserve_server.errors import Overloaded
from vaeserve_server.methods import LARGE_BYTES, Method
from vaeserve_server.quota import Quota

MOST_WAITING_BYTES = 256 * 1024 * 1024
"""Large messages of a server that wait to be parsed, or are being parsed."""

Step = Callable[[], None]


class LargeMessages:
    """Those of one transport."""

    def __init__(self, run: Callable[[Step], object]) -> None:
        """Have none.

        Args:
            run: runs a step, now or later, a few of them at a time.
        """
        self._run = run
        self._waiting = Quota(MOST_WAITING_BYTES, "large messages")

    def answer(self, method: Method, request: bytes | Message, call: Call, reply: Reply) -> None:
        """Have a request answered: a large message in its turn, or not where too many wait."""
        if isinstance(request, bytes) and len(request) > LARGE_BYTES:
            self._defer(method, request, call, reply)
        else:
            method.answer(request, call, reply)

    def _defer(self, method: Method, data: bytes, call: Call, reply: Reply) -> None:
        try:
            self._waiting.acquire(len(data))
        except Overloaded as refusal:
            reply(refusal)
            return
        self._run(partial(self._answer, method, data, call, reply))

    def _answer(self, method: Method, data: bytes, call: Call, reply: Reply) -> None:
        try:
            # Whoever left meanwhile is not to keep those waiting who have not.
            gone = call.gone(time.monotonic())
            if gone is None:
                method.answer(data, call, reply)
            else:
                reply(gone)
        finally:
            self._waiting.release(len(data))
