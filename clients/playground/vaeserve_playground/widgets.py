"""What the parts of the page share: how widgets are made, and what the visitor looks at."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from vaeserve import Client, Model, VaeserveError
from vaeserve_playground import views
from vaeserve_playground.views import Looked

LIVE: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "hidden"}
"""For what answers to each movement of a hand: only the last one counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What the visitor looks at: one object, so that what depends on it is made once a change.

    Attributes:
        name: of the model; None where it cannot be shown.
        looked: the picture; None without one.
    """

    name: str | None
    looked: Looked | None


def place(name: str) -> tuple[gr.HTML, gr.HTML]:
    """Where a view is shown, and the line below it."""
    return gr.HTML(elem_id=name), gr.HTML(elem_id=f"{name}-line")


def dropped(label: str, *, height: int, name: str) -> gr.Image:
    """A place to drop a picture of any kind; it comes as it is."""
    return gr.Image(
        label=label,
        type="pil",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=height,
        elem_id=name,
        buttons=[],
    )


def usable(client: Client, name: str | None) -> Model | None:
    """The model, if it answers and its rows are pictures; what is wrong is said by the facts."""
    if not name:
        return None
    model = client.model(name)
    try:
        return None if views.refusal(model.info) else model
    except VaeserveError:
        return None
