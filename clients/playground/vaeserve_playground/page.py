"""The page: its parts, and which view answers to which. It, `tabs` and `widgets` know Gradio."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from vaeserve import Client, VaeserveError
from vaeserve_playground import markup, tabs, views
from vaeserve_playground.widgets import LIVE, Chosen, dropped, place, usable

STYLE = Path(__file__).with_name("style.css")
"""The look of the page's own parts; the rest is the theme's."""


def theme() -> gr.themes.Base:
    """Fonts of the visitor's own machine: the page asks nobody for anything."""
    return gr.themes.Soft(
        primary_hue="teal",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def build(client: Client, address: str) -> gr.Blocks:
    """The page on a server.

    Args:
        client: connected to it, and open for as long as the page is served.
        address: where it is, to be shown.
    """
    page = gr.Blocks(analytics_enabled=False, title="vaeserve playground", delete_cache=(600, 600))
    with page:
        gr.HTML(f"<h1>vaeserve playground <small>{escape(address)}</small></h1>")
        chosen = gr.State(Chosen(None, None))
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                model = gr.Dropdown(label="Model", elem_id="model", interactive=True)
                facts = gr.HTML(elem_id="facts")
                picture = dropped("Your picture, of any size", height=260, name="picture")
                invert = gr.Checkbox(label="Swap light and dark", elem_id="invert")
            with gr.Column(scale=3), gr.Tabs():
                with gr.Tab("Reconstruction"):
                    seen, seen_line = place("look")
                with gr.Tab("Latent sliders"):
                    tabs.latent_tab(client, chosen)
                with gr.Tab("Attributes"):
                    tabs.attribute_tab(client, chosen)
                with gr.Tab("Samples"):
                    tabs.sample_tab(client, model)
                with gr.Tab("Interpolation"):
                    tabs.walk_tab(client, chosen)

        page.load(lambda: _models(client), outputs=[model, facts])
        model.change(lambda name: _facts(client, name), model, facts, **LIVE)
        gr.on(
            [picture.change, invert.change, model.change],
            lambda *given: _look(client, *given),
            [model, picture, invert],
            [seen, seen_line, chosen],
            **LIVE,
        )
    return page


def _models(client: Client) -> tuple[Any, str]:
    """The models for the list, and why there are none."""
    try:
        names = [state.name for state in client.models() if state.ready]
    except VaeserveError as exc:
        return gr.skip(), markup.problem(f"The service does not answer: {exc}")
    if not names:
        return gr.skip(), markup.problem("The server has no model that is ready.")
    return gr.Dropdown(choices=names, value=names[0]), ""


def _facts(client: Client, name: str | None) -> str:
    if not name:
        return ""
    try:
        info = client.model(name).info
    except VaeserveError as exc:
        return markup.problem(f"The service refuses: {exc}")
    refusal = views.refusal(info)
    return markup.problem(refusal) if refusal else views.facts(info)


def _look(
    client: Client, name: str | None, picture: Image.Image | None, invert: bool
) -> tuple[str, str, Chosen]:
    model = usable(client, name)
    if model is None:
        return "", "", Chosen(None, None)
    if picture is None:
        return markup.hint("Drop in a picture at the left."), "", Chosen(name, None)
    (shown, line), looked = views.look(model, picture, invert=invert)
    return shown, line, Chosen(name, looked)
