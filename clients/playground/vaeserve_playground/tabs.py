"""The tabs of the page that make pictures: by sliders, by chance, along a path."""

import random
from collections.abc import Callable
from typing import Any

import gradio as gr
from PIL import Image

from vaeserve import Client, VaeserveError
from vaeserve_playground import calls, markup, views
from vaeserve_playground.widgets import LIVE, Chosen, dropped, place, usable

_EDIT_REACH = 3.0  # distances between the means without and with the attribute
_SEEDS = 1 << 31


def latent_tab(client: Client, chosen: gr.State) -> None:
    """Sliders on the most active latent dimensions."""

    def sliders(now: Chosen) -> None:
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

        gr.on([each.input for each in widgets], decoded, widgets, [picture, below], **LIVE)
        reset.click(
            lambda: [*(each.value for each in widgets), shown, line],
            outputs=[*widgets, picture, below],
        )

    _made_anew(sliders, chosen)


def attribute_tab(client: Client, chosen: gr.State) -> None:
    """Sliders on the attributes that were fitted."""

    def sliders(now: Chosen) -> None:
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

        gr.on([each.input for each in widgets], edited, widgets, [picture, below], **LIVE)

    _made_anew(sliders, chosen)


def _made_anew(widgets: Callable[[Chosen], None], chosen: gr.State) -> None:
    """Make widgets that depend on the model and the picture whenever one of them changes.

    They may listen to `input` only, which the visitor's hand causes: `change` also comes from
    widgets that were just made, and may come when they are replaced already.
    """

    def made(now: Chosen) -> None:
        try:
            widgets(now)
        except VaeserveError as exc:
            gr.HTML(markup.problem(f"The service refuses: {exc}"))

    gr.render(inputs=chosen, show_progress="hidden")(made)


def sample_tab(client: Client, model_name: gr.Dropdown) -> None:
    """Draws from a prior."""
    with gr.Row():
        n = gr.Slider(1, 64, 16, step=1, label="Rows")
        temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature")
        seed = gr.Number(0, precision=0, minimum=0, label="Seed", elem_id="seed")
        prior = gr.Radio(["standard"], value="standard", label="Prior")
    again = gr.Button("Another seed", elem_id="again", size="sm")
    shown, line = place("samples")

    def drawn(
        name: str | None, n: float, temperature: float, seed: float | None, prior: str
    ) -> views.View:
        model = usable(client, name)
        if model is None:
            return "", ""
        return views.samples(
            model, int(n), seed=int(seed or 0), temperature=temperature, prior=prior
        )

    model_name.change(lambda name: _priors(client, name), model_name, prior, **LIVE)
    again.click(lambda: random.randrange(_SEEDS), outputs=seed)  # noqa: S311  not a secret
    gr.on(
        [each.change for each in (model_name, n, temperature, seed, prior)],
        drawn,
        [model_name, n, temperature, seed, prior],
        [shown, line],
        **LIVE,
    )


def _priors(client: Client, name: str | None) -> Any:
    """The priors that a model has, to choose from."""
    model = usable(client, name)
    fitted = model is not None and model.info.prior is not None
    return gr.Radio(choices=["standard", "fitted"] if fitted else ["standard"], value="standard")


def walk_tab(client: Client, chosen: gr.State) -> None:
    """A path between two pictures."""
    with gr.Row():
        other = dropped("The other picture", height=200, name="other")
        with gr.Column():
            steps = gr.Slider(2, 16, 8, step=1, label="Steps")
            path = gr.Radio(["lerp", "slerp"], value="lerp", label="Path")
    shown, line = place("walk")

    def walked(now: Chosen, end: Image.Image | None, steps: float, path: str) -> views.View:
        if now.name is None:
            return "", ""
        return views.walked(client.model(now.name), now.looked, end, steps=int(steps), path=path)

    given = [chosen, other, steps, path]
    gr.on([each.change for each in given], walked, given, [shown, line], **LIVE)
