"""The page: widgets, and which view answers to which of them. Only this module knows Gradio."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from vaeserve import Client, Model, VaeserveError
from vaeserve_playground import calls, markup, views
from vaeserve_playground.views import Looked

STYLE = Path(__file__).with_name("style.css")
"""The look of the page's own parts; the rest is the theme's."""
_LIVE: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "hidden"}
_EDIT_REACH = 3.0  # distances between the means without and with the attribute
_SEEDS = 1 << 31


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """What the visitor looks at: one object, so that what depends on it is made once a change.

    Attributes:
        name: of the model; None where it cannot be shown.
        looked: the picture; None without one.
    """

    name: str | None
    looked: Looked | None


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
        chosen = gr.State(_Chosen(None, None))
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                model = gr.Dropdown(label="Model", elem_id="model", interactive=True)
                facts = gr.HTML(elem_id="facts")
                picture = _dropped("Your picture, of any size", height=260, name="picture")
                invert = gr.Checkbox(label="Swap light and dark", elem_id="invert")
            with gr.Column(scale=3), gr.Tabs():
                with gr.Tab("Reconstruction"):
                    seen, seen_line = _shown("look")
                with gr.Tab("Latent sliders"):
                    _latent_tab(client, chosen)
                with gr.Tab("Attributes"):
                    _attribute_tab(client, chosen)
                with gr.Tab("Samples"):
                    _sample_tab(client, model)
                with gr.Tab("Interpolation"):
                    _walk_tab(client, chosen)

        page.load(lambda: _models(client), outputs=[model, facts])
        model.change(lambda name: _facts(client, name), model, facts, **_LIVE)
        gr.on(
            [picture.change, invert.change, model.change],
            lambda *given: _look(client, *given),
            [model, picture, invert],
            [seen, seen_line, chosen],
            **_LIVE,
        )
    return page


def _shown(name: str) -> tuple[gr.HTML, gr.HTML]:
    return gr.HTML(elem_id=name), gr.HTML(elem_id=f"{name}-line")


def _dropped(label: str, *, height: int, name: str) -> gr.Image:
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


def _usable(client: Client, name: str | None) -> Model | None:
    """The model, if it answers and its rows are pictures; what is wrong is said by the facts."""
    if not name:
        return None
    model = client.model(name)
    try:
        return None if views.refusal(model.info) else model
    except VaeserveError:
        return None


def _look(
    client: Client, name: str | None, picture: Image.Image | None, invert: bool
) -> tuple[str, str, _Chosen]:
    model = _usable(client, name)
    if model is None:
        return "", "", _Chosen(None, None)
    if picture is None:
        return markup.hint("Drop in a picture at the left."), "", _Chosen(name, None)
    (shown, line), looked = views.look(model, picture, invert=invert)
    return shown, line, _Chosen(name, looked)


def _latent_tab(client: Client, chosen: gr.State) -> None:
    def sliders(now: _Chosen) -> None:
        if now.name is None:
            return
        model = client.model(now.name)
        info = model.info
        start = now.looked.mu if now.looked else calls.middle_of(info)
        dimensions = calls.sliders_of(info, views.SLIDERS)
        flat = start.ravel()
        widgets = []
        with gr.Row():
            with gr.Column(min_width=260):
                gr.HTML(
                    markup.hint(
                        "The most active dimensions, from your picture's mu."
                        if now.looked
                        else "The most active dimensions, from the middle of the latent space."
                    )
                )
                for each in dimensions:
                    value = round(float(flat[each.index]), 2)
                    widgets.append(
                        gr.Slider(
                            min(each.low, value),
                            max(each.high, value),
                            value,
                            step=0.01,
                            label=f"z{each.index}",
                            elem_id=f"z{each.index}",
                            interactive=True,
                        )
                    )
                reset = gr.Button("Back to the start", size="sm")
            with gr.Column(min_width=240):
                shown, line = views.decoded(model, start)
                picture = gr.HTML(shown, elem_id="decoded")
                below = gr.HTML(line, elem_id="decoded-line")

        def decoded(*values: float) -> views.View:
            return views.decoded(model, calls.moved(start, dimensions, values))

        gr.on([each.input for each in widgets], decoded, widgets, [picture, below], **_LIVE)
        reset.click(
            lambda: [*(each.value for each in widgets), shown, line],
            outputs=[*widgets, picture, below],
        )

    _made_anew(sliders, chosen)


def _attribute_tab(client: Client, chosen: gr.State) -> None:
    def sliders(now: _Chosen) -> None:
        if now.name is None:
            return
        model = client.model(now.name)
        info = model.info
        if not info.attributes:
            gr.HTML(markup.hint(f"{info.name!r} was exported without attribute directions."))
            return
        start = now.looked.mu if now.looked else calls.middle_of(info)
        names = [attribute.name for attribute in info.attributes]
        with gr.Row():
            with gr.Column(min_width=260):
                gr.HTML(markup.hint("1 leads from pictures without the attribute to those with."))
                widgets = [
                    gr.Slider(
                        -_EDIT_REACH,
                        _EDIT_REACH,
                        0,
                        step=0.05,
                        label=attribute.name,
                        info=f"held-out AUC {attribute.auc:.3f}",
                    )
                    for attribute in info.attributes
                ]
            with gr.Column(min_width=240):
                shown, line = views.edited(model, start, {})
                picture = gr.HTML(shown, elem_id="edited")
                below = gr.HTML(line, elem_id="edited-line")

        def edited(*values: float) -> views.View:
            return views.edited(model, start, dict(zip(names, values, strict=True)))

        gr.on([each.input for each in widgets], edited, widgets, [picture, below], **_LIVE)

    _made_anew(sliders, chosen)


def _made_anew(widgets: Callable[[_Chosen], None], chosen: gr.State) -> None:
    """Make widgets that depend on the model and the picture whenever one of them changes.

    They may listen to `input` only, which the visitor's hand causes: `change` also comes from
    widgets that were just made, and may come when they are replaced already.
    """

    def made(now: _Chosen) -> None:
        try:
            widgets(now)
        except VaeserveError as exc:
            gr.HTML(markup.problem(f"The service refuses: {exc}"))

    gr.render(inputs=chosen, show_progress="hidden")(made)


def _sample_tab(client: Client, model_name: gr.Dropdown) -> None:
    with gr.Row():
        n = gr.Slider(1, 64, 16, step=1, label="Rows")
        temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature")
        seed = gr.Number(0, precision=0, minimum=0, label="Seed", elem_id="seed")
        prior = gr.Radio(["standard"], value="standard", label="Prior")
    again = gr.Button("Another seed", elem_id="again", size="sm")
    shown, line = _shown("samples")

    def drawn(
        name: str | None, n: float, temperature: float, seed: float | None, prior: str
    ) -> views.View:
        model = _usable(client, name)
        if model is None:
            return "", ""
        return views.samples(
            model, int(n), seed=int(seed or 0), temperature=temperature, prior=prior
        )

    model_name.change(lambda name: _priors(client, name), model_name, prior, **_LIVE)
    again.click(lambda: random.randrange(_SEEDS), outputs=seed)  # noqa: S311  not a secret
    gr.on(
        [each.change for each in (model_name, n, temperature, seed, prior)],
        drawn,
        [model_name, n, temperature, seed, prior],
        [shown, line],
        **_LIVE,
    )


def _priors(client: Client, name: str | None) -> Any:
    """The priors that a model has, to choose from."""
    model = _usable(client, name)
    fitted = model is not None and model.info.prior is not None
    return gr.Radio(choices=["standard", "fitted"] if fitted else ["standard"], value="standard")


def _walk_tab(client: Client, chosen: gr.State) -> None:
    with gr.Row():
        other = _dropped("The other picture", height=200, name="other")
        with gr.Column():
            steps = gr.Slider(2, 16, 8, step=1, label="Steps")
            path = gr.Radio(["lerp", "slerp"], value="lerp", label="Path")
    shown, line = _shown("walk")

    def walked(now: _Chosen, end: Image.Image | None, steps: float, path: str) -> views.View:
        if now.name is None:
            return "", ""
        return views.walked(client.model(now.name), now.looked, end, steps=int(steps), path=path)

    given = [chosen, other, steps, path]
    gr.on([each.change for each in given], walked, given, [shown, line], **_LIVE)
