"""A scripted server that can keep GetModel waiting."""

import threading
from typing import Any

from unit.client.scripted_server import Script


class Held(Script):
    """Answers GetModel while `answer` is set, or after ten seconds.

    Of calls that must wait, `arrived` is set by the first, `gone` by the end of one, `gave_in` by
    one that has waited for so long.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.answer = threading.Event(), threading.Event()
        self.gone, self.gave_in = threading.Event(), threading.Event()

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self.answer.is_set():
            context.add_callback(self.gone.set)
            self.arrived.set()
        if not self.answer.wait(10):
            self.gave_in.set()
        return super().GetModel(request, context)
