"""What the page shows for each gesture, as HTML. The SDK is called here, Gradio is not known.

Each view returns its two parts, what is to be seen and the line below it with the latency of each
call; where the service refuses, the first is empty and the second says why in words.
"""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from vaeserve import Latents, Model, ModelInfo, Score, VaeserveError
from vaeserve_playground import calls, markup
from vaeserve_playground.calls import Stopwatch
from vaeserve_playground.pictures import Levels, fitted, grid_of, image_of, picture_shape

SLIDERS = 8
_CHARTED = 10
_LARGE, _WIDE = 208, 900  # CSS pixels

View = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What the page keeps of the picture that was dropped in.

    Attributes:
        row: [*input_shape] levels.
        mu: its posterior mean, [*latent_shape].
    """

    row: Levels
    mu: Latents


def told(view: Callable[[Stopwatch], str]) -> View:
    """Run a view; what the service refuses becomes words."""
    watch = Stopwatch()
    try:
        shown = view(watch)
    except VaeserveError as exc:
        return "", markup.problem(f"The service refuses: {exc}")
    return shown, markup.latencies(watch.calls)


def refusal(info: ModelInfo) -> str | None:
    """Why a model cannot be shown here; None if it can."""
    if info.preprocessing is None or picture_shape(info.input_shape) is None:
        shape = "x".join(map(str, info.input_shape))
        return f"{info.name!r} takes rows of shape {shape}, which are no pictures to look at."
    return None


def facts(info: ModelInfo) -> str:
    """One line about a model."""
    shapes = ("x".join(map(str, shape)) for shape in (info.input_shape, info.latent_shape))
    return markup.hint(
        f"version {info.version} · pictures {' → latents '.join(shapes)} · {info.likelihood}"
        f" · {info.precision}"
    )


def look(model: Model, picture: Image.Image, *, invert: bool) -> tuple[View, Looked | None]:
    """A picture, its reconstruction, posterior and score; and what to keep of it."""
    kept: list[Looked] = []

    def view(watch: Stopwatch) -> str:
        info = model.info
        row, words = fitted(picture, info.input_shape, invert=invert)
        seen = calls.look(model, row, watch)
        kept.append(Looked(row, seen.posterior.mu[0]))
        charted = [each.index for each in calls.sliders_of(info, _CHARTED)]
        chart = markup.posterior_chart(charted, seen.posterior.mu[0], seen.posterior.std[0])
        return markup.row_of(
            markup.figure(image_of(row), f"what the model sees: {words}", _LARGE),
            markup.figure(image_of(seen.reconstruction), "reconstruction", _LARGE),
            _score_table(seen.score),
        ) + markup.row_of(chart)

    shown = told(view)
    return shown, kept[0] if kept else None


def decoded(model: Model, z: Latents) -> View:
    """The picture of one latent row."""
    return told(
        lambda watch: markup.figure(image_of(calls.decode(model, z, watch)), "decoded", _LARGE)
    )


def edited(model: Model, z: Latents, amounts: dict[str, float]) -> View:
    """A latent row's picture before and after an edit."""

    def view(watch: Stopwatch) -> str:
        before = calls.decode(model, z, watch)
        after = calls.edit(model, z, amounts, watch)
        return markup.row_of(
            markup.figure(image_of(before), "before", _LARGE),
            markup.figure(image_of(after), "edited", _LARGE),
        )

    return told(view)


def samples(model: Model, n: int, *, seed: int, temperature: float, prior: str) -> View:
    """A grid of draws."""

    def view(watch: Stopwatch) -> str:
        rows = calls.sample(model, n, seed=seed, temperature=temperature, prior=prior, watch=watch)
        grid = grid_of(rows)
        draws = "1 draw" if n == 1 else f"{n} draws"
        caption = f"{draws} from the {prior} prior, seed {seed}, temperature {temperature:g}"
        return markup.figure(grid, caption, min(_WIDE, 4 * grid.shape[1]))

    return told(view)


def walked(
    model: Model, start: Looked | None, end: Image.Image | None, *, steps: int, path: str
) -> View:
    """The way from the picture that was looked at to another one."""
    if start is None or end is None:
        return markup.hint("Drop in two pictures: one at the left, one here."), ""

    def view(watch: Stopwatch) -> str:
        row, words = fitted(end, model.info.input_shape)
        rows = calls.walk(model, start.row, row, steps=steps, path=path, watch=watch)
        strip = grid_of(rows, columns=steps)
        caption = f"{steps} points, {path}; the second picture was {words}"
        return markup.figure(strip, caption, min(_WIDE, 5 * strip.shape[1]))

    return told(view)


def _score_table(score: Score) -> str:
    return markup.table(
        [
            ("-ELBO", f"{score.negative_elbo[0]:.1f} nats", "at mu"),
            ("reconstruction", f"{score.reconstruction[0]:.1f} nats", "-log p(x|z)"),
            ("KL", f"{score.kl[0]:.1f} nats", "posterior to prior"),
            ("percentile", f"{score.percentile[0]:.0f} %", "of validation rows are lower"),
            ("typicality", f"{score.typicality[0]:.2f}", "0: unlike what it learnt from"),
        ]
    )
