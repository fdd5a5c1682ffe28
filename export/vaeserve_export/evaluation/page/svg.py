"""Matplotlib figures as SVG that takes its colours and type from the page around it."""

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Written as these, read as the page's own: what they become depends on the reader's theme.
INK, FAINT, LINE = "#000001", "#000002", "#000003"
_THEMED = {INK: "var(--ink)", FAINT: "var(--faint)", LINE: "var(--line)"}

BLUE, ORANGE, GREEN, RED, GREY = "#3d87c4", "#e07f35", "#45a06a", "#d4525c", "#8b969d"
"""Readable on a light and on a dark page."""


def figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many axes side by side, in inches."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    axes = [drawn.add_subplot(1, columns, number + 1) for number in range(columns)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(LINE)
        ax.tick_params(colors=FAINT, labelsize=8.5, length=3)
        ax.xaxis.label.set(color=FAINT, fontsize=9)
        ax.yaxis.label.set(color=FAINT, fontsize=9)
        ax.title.set(color=INK, fontsize=10)
        ax.grid(color=LINE, linewidth=0.6)
        ax.set_axisbelow(True)
    return drawn, axes


def legend(ax: Axes, **options: Any) -> None:
    """A legend in the page's ink."""
    ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, **options)


def to_svg(drawn: Figure, name: str) -> str:
    """The figure's SVG element.

    Args:
        drawn: a figure of `figure`.
        name: of the figure, another for each on the page: its element ids are made from it.
    """
    content = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        drawn.savefig(content, format="svg", transparent=True, metadata={"Date": None}, dpi=160)
    text = content.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for written, themed in _THEMED.items():
        text = text.replace(written, themed)
    # Two figures have equal ids for their axes, which are referred to by nothing.
    return re.sub(
        r' id="(?:figure|axes|patch|text|line2d|xtick|ytick|matplotlib)[._\w]*"', "", text
    )
