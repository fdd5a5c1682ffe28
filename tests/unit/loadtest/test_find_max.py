"""What a search says of the rate it found, in words, in JSON and on the page."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings, strategies as st

from vaeserve_loadtest import Found, Load, Report, Slo, find_max
from vaeserve_loadtest.files import to_json
from vaeserve_loadtest.page import page
from vaeserve_loadtest.table import found_table
from vaeserve_loadtest.tally import Recorder

TAKEN = datetime(2026, 1, 2, tzinfo=UTC)
SLO = Slo.parse("p90=20ms")
CAVEAT = "the load generator's limit, the server can do more: try --workers 2"
PROMPT, LATE, BUSY = "prompt", "late", "busy"


def report(rate: float, latency_s: float, generator: str) -> Report:
    load = Load(address="127.0.0.1:1", model="digits", rate=rate, duration_s=10.0, warmup_s=0.0)
    recorder = Recorder(load, began=0)
    for number in range(200):
        intended = number / 20
        sent = intended + (0.8 * latency_s if generator == LATE else 0)
        recorder.succeeded(0, intended, sent, intended + latency_s)
    recorder.tally.cpu_shares = [0.95 if generator == BUSY else 0.2]
    return Report.of(load, recorder.tally)


def search(
    generator_at: Callable[[float], str], limit: float = 500.0, capacity: float = 600.0
) -> Found:
    """Of a server that keeps the level up to a limit."""

    def run_at(rate: float) -> Report:
        return report(rate, 0.01 if rate <= limit else 0.1, generator_at(rate))

    return find_max(SLO, capacity, duration_s=10.0, run_at=run_at)


def told(found: Found) -> tuple[str, dict[str, object], str]:
    written = json.loads(json.dumps(to_json(found.trials, found)))["find_max"]
    headline = page(found.trials, found, TAKEN).split("<dl>")[1].split("</dl>")[0]
    return found_table(found), written, headline.replace("&#x27;", "'")


def test_a_rate_of_the_server_is_told_with_its_confidence() -> None:
    table, written, headline = told(search(lambda _: PROMPT))
    assert "confidence  above 99.9%" in table
    assert written["caveat"] is None
    assert written["confidence"] == pytest.approx(1, abs=1e-3)
    assert "above 99.9%" in headline
    assert "generator" not in table + headline


@pytest.mark.parametrize("generator", [LATE, BUSY])
@pytest.mark.parametrize("limited", ["the rate found", "the rate that failed"])
def test_a_rate_of_the_generator_is_told_as_such(generator: str, limited: str) -> None:
    def generator_at(rate: float) -> str:
        return generator if (rate <= 500) == (limited == "the rate found") else PROMPT

    found = search(generator_at)
    table, written, headline = told(found)
    assert found.rate is not None
    assert f"requests/s, {CAVEAT}" in table.split("highest rate that holds")[1].splitlines()[0]
    assert "confidence  none about the server" in table
    assert written["rate"] == found.rate
    assert written["confidence"] is None
    assert CAVEAT in str(written["caveat"])
    assert f"{found.rate:.0f} requests/s<small>{CAVEAT}" in headline
    assert "99.9%" not in table + headline


def test_a_late_generator_elsewhere_does_not_matter() -> None:
    plain = search(lambda _: PROMPT)
    decisive = {plain.rate, plain.failed_at}
    table, written, headline = told(search(lambda at: PROMPT if at in decisive else LATE))
    assert CAVEAT not in table + headline
    assert written["caveat"] is None


def test_no_rate_at_all_may_be_the_generators_fault() -> None:
    table, written, headline = told(search(lambda _: LATE, limit=0.0))
    assert CAVEAT in table.split("no rate holds")[1].splitlines()[0]
    assert CAVEAT in str(written["caveat"])
    assert CAVEAT in headline


def drawn(found: Found) -> tuple[list[str], str]:
    """The legend of the Distribution plot, which stands as comments in the SVG; the caption."""
    plot = page(found.trials, found, TAKEN).split("<h2>Distribution</h2>")[1].split("</figure>")[0]
    legend = re.findall(r"<!-- ([\d.]+ requests/s.*?) -->", plot)
    return legend, plot.split("<figcaption>")[1]


@settings(max_examples=4, deadline=None)
@given(st.floats(20, 3000), st.floats(0.1, 3))
@example(900.0, 0.1)  # twelve rates, of which the two lie near one end
def test_the_distribution_always_has_the_two_rates_that_decide(limit: float, miss: float) -> None:
    found = search(lambda _: PROMPT, limit, capacity=miss * limit)
    legend, caption = drawn(found)
    assert f"{found.rate:g} requests/s, found" in legend
    assert f"{found.failed_at:g} requests/s, failed" in legend
    assert len(set(legend)) == len(legend) <= 8
    assert f" {len(legend)} of {len(found.trials)} runs shown" in caption


def test_a_warning_stands_once_with_the_runs_that_it_concerns() -> None:
    found = search(lambda _: LATE)
    text = page(found.trials, found, TAKEN)
    assert text.count("most of the latency is its own") == 1
    (warning,) = re.findall(r"<li>(.*?)</li>", text)
    rates = Counter(each.load.target for each in found.trials)
    assert max(rates.values()) > 1
    for target, times in rates.items():
        assert target + (f" ({times} runs)" if times > 1 else "") in warning
    assert found_table(found).count("most of the latency is its own") == 1


def test_a_warning_of_one_run_keeps_its_figures() -> None:
    found = search(lambda rate: LATE if rate > 500 else PROMPT)
    late = [each for each in found.trials if each.generator_limited]
    one = Found(SLO, rate=late[0].load.rate, trials=[late[0], found.trials[-1]])
    assert "requests started up to 80.0 ms late (p99)" in page(one.trials, one, TAKEN)
