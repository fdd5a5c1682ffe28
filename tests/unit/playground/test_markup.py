"""What is put into the page: sound HTML that asks nobody for anything."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from vaeserve import BatchTime, Latency
from vaeserve_playground import dimensions, markup


def test_a_figure_holds_its_picture() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    html = markup.figure(image, "a < b", 100)
    data = re.search(r"data:image/png;base64,([^\"]+)", html)
    assert data
    with Image.open(io.BytesIO(base64.b64decode(data[1]))) as shown:
        np.testing.assert_array_equal(np.asarray(shown), image)
    assert "a &lt; b" in html


def test_text_cannot_become_markup() -> None:
    bad = "<script>"
    pieces = (
        markup.problem(bad),
        markup.hint(bad),
        markup.latencies([(bad, Latency(0.001, ()))]),
        markup.table([(bad, bad, bad)]),
    )
    for piece in pieces:
        assert bad not in piece


def test_latencies_are_in_milliseconds_and_in_parts_where_they_are_told() -> None:
    silent = markup.latencies([("encode", Latency(0.0015, ()))])
    assert "<b>encode</b> 1.5 ms</span>" in silent
    batch = BatchTime("digits-encoder", queue=0.001, run=0.002, rows=1, close_reason="idle")
    told = markup.latencies([("encode", Latency(0.01, (batch,)))])
    assert "<b>encode</b> 10.0 ms <small>(queue 1.0 · run 2.0 · network 7.0)</small>" in told


def test_the_chart_shows_mu_and_sigma_of_the_chosen_dimensions() -> None:
    chart = markup.posterior_chart([2, 0], [0.5, 9, -6], [0.25, 9, 1])
    svg = ElementTree.fromstring(chart)  # noqa: S314  our own markup
    titles = [title.text for title in svg.iter("title")]
    assert titles == ["z2 = -6.00 ± 1.00", "z0 = 0.50 ± 0.25"]
    dots = [float(dot.attrib["cy"]) for dot in svg.iter("circle")]
    bars = [
        sorted((float(bar.attrib["y1"]), float(bar.attrib["y2"])))
        for bar in svg.iter("line")
        if bar.attrib["class"] == "sigma"
    ]
    assert dots[0] > dots[1]  # up is more
    for dot, (top, bottom) in zip(dots, bars, strict=True):
        assert 0 <= top < dot < bottom <= 150
    # One latent unit is as long in every bar.
    lengths = [bottom - top for top, bottom in bars]
    assert abs(lengths[0] - 4 * lengths[1]) < 0.5


def test_the_most_active_dimensions_come_first() -> None:
    chosen = dimensions.most_active([0, 1, 2], [0.1, 3, 0.5], [0.9, 1, 0.5], 2)
    assert [each.index for each in chosen] == [1, 2]
    assert (chosen[0].low, chosen[0].high) == (-5, 7)
    assert (chosen[1].low, chosen[1].high) == (-1, 5)
    assert [each.index for each in dimensions.first(3, 8)] == [0, 1, 2]
