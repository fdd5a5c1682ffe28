"""Pictures, charts and tables as HTML that needs nothing from elsewhere. Pure."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt
from PIL import Image

from vaeserve import Latency
from vaeserve_playground.pictures import Levels

_CHART_HEIGHT, _COLUMN, _MARGIN = 150, 46, 34
_LEAST_SPAN = 3.0  # the chart's axis reaches at least this far from 0


def figure(image: Levels, caption: str, width: int) -> str:
    """An image with its caption, its pixels kept sharp however large it is drawn.

    Args:
        image: [height, width] or [height, width, channels] levels.
        caption: text below it.
        width: greatest width in CSS pixels.
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure class="vae-figure"><img alt="{escape(caption)}" style="width:{width}px"'
        f' src="data:image/png;base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def row_of(*parts: str) -> str:
    """Several pieces side by side."""
    return f'<div class="vae-row">{"".join(parts)}</div>'


def table(rows: Sequence[tuple[str, str, str]]) -> str:
    """A table of figures.

    Args:
        rows: name, value, and what it means.
    """
    lines = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td><td>{escape(meaning)}</td></tr>"
        for name, value, meaning in rows
    )
    return f'<table class="vae-table">{lines}</table>'


def latencies(calls: Sequence[tuple[str, Latency]]) -> str:
    """How long each call took, and where the time went if the server tells.

    Args:
        calls: name and latency of each.
    """
    return f'<p class="vae-latency">{"".join(_call(*each) for each in calls)}</p>'


def problem(text: str) -> str:
    """What went wrong, in words."""
    return f'<p class="vae-problem" role="alert">{escape(text)}</p>'


def hint(text: str) -> str:
    """What to do next."""
    return f'<p class="vae-hint">{escape(text)}</p>'


def posterior_chart(indices: Sequence[int], mu: npt.ArrayLike, std: npt.ArrayLike) -> str:
    """The posterior as an SVG chart: mu with a bar of one sigma to either side.

    The band behind it is one sigma of the prior N(0, 1). A bar as long as the band is high says
    nothing about the picture.

    Args:
        indices: dimensions to show, in this order.
        mu: means of all dimensions.
        std: standard deviations of all dimensions.
    """
    means, spreads = np.ravel(mu)[list(indices)], np.ravel(std)[list(indices)]
    span = max([_LEAST_SPAN, *np.ceil(np.abs(means) + spreads)])
    tick = span // 2
    width = _MARGIN + _COLUMN * len(indices)

    def height_of(value: float) -> float:
        return round(float(_CHART_HEIGHT / 2 * (1 - value / span)), 1)

    marks = []
    for column, (index, mean, spread) in enumerate(zip(indices, means, spreads, strict=True)):
        x = _MARGIN + _COLUMN * (column + 0.5)
        top, middle, bottom = (height_of(mean + way * spread) for way in (1, 0, -1))
        marks.append(
            f'<line class="sigma" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
            f'<circle class="mu" cx="{x}" cy="{middle}" r="4">'
            f"<title>z{index} = {mean:.2f} ± {spread:.2f}</title></circle>"
            f'<text x="{x}" y="{_CHART_HEIGHT + 16}" text-anchor="middle">z{index}</text>'
        )
    ticks = "".join(
        f'<text x="{_MARGIN - 6}" y="{height_of(value) + 4}" text-anchor="end">{value:g}</text>'
        for value in (-tick, 0, tick)
    )
    band = height_of(-1) - height_of(1)
    return (
        f'<figure class="vae-figure"><svg class="vae-chart" width="{width}"'
        f' height="{_CHART_HEIGHT + 22}" role="img" aria-label="posterior">'
        f'<rect class="prior" x="{_MARGIN}" y="{height_of(1)}" width="{width - _MARGIN}"'
        f' height="{band:.1f}"/><line class="zero" x1="{_MARGIN}" x2="{width}"'
        f' y1="{height_of(0)}" y2="{height_of(0)}"/>{ticks}{"".join(marks)}</svg>'
        "<figcaption>posterior, mu ± sigma, of the most active dimensions; "
        "the band is the prior</figcaption></figure>"
    )


def _call(name: str, latency: Latency) -> str:
    parts = ""
    if latency.batches:
        shown = " · ".join(
            f"{part} {1e3 * getattr(latency, part):.1f}" for part in ("queue", "run", "network")
        )
        parts = f" <small>({shown})</small>"
    return f"<span><b>{escape(name)}</b> {1e3 * latency.total:.1f} ms{parts}</span> "
