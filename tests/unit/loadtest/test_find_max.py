"""What a search says of the rate it found, in words, in JSON and on the page."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TextIO

import pytest
from hypothesis import example, given, strategies as st
from matplotlib.figure import Figure

from vaeserve_loadtest import Found, Load, Report, Slo, find_max
from vaeserve_loadtest.curves import distinct_runs
from vaeserve_loadtest.files import to_json
from vaeserve_loadtest.find_max import MOST_RUNS
from vaeserve_loadtest.page import page
from vaeserve_loadtest.table import found_table
from vaeserve_loadtest.tally import Recorder

TAKEN = datetime(2026, 1, 2, tzinfo=UTC)
SLO = Slo.parse("p90=20ms")
CAVEAT = "the load generator's limit, the server can do more: try --workers 2"
FACTORS = st.floats(0.1, 500)
REQUESTS = 200  # of a run
PROMPT, LATE, BUSY = "prompt", "late", "busy"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have their words and no drawings, which take half a second each."""

    def savefig(_: Figure, file: TextIO, **__: object) -> None:
        file.write("<svg/>")

    monkeypatch.setattr(Figure, "savefig", savefig)


@lru_cache
def summed_up(slow: int, latency_s: float, generator: str) -> Report:
    load = Load(address="127.0.0.1:1", model="digits", rate=1.0, duration_s=10.0, warmup_s=0.0)
    recorder = Recorder(load, began=0)
    for number in range(REQUESTS):
        intended = number * 10 / REQUESTS
        latency = latency_s if number < slow else 0.01
        sent = intended + (0.8 * latency if generator == LATE else 0)
        recorder.succeeded(0, intended, sent, intended + latency)
    recorder.tally.cpu_shares = [0.95 if generator == BUSY else 0.2]
    return Report.of(load, recorder.tally)


def report(rate: float, slow: int = 0, latency_s: float = 0.1, generator: str = PROMPT) -> Report:
    """Of a run in which some requests were slow, the others took 10 ms."""
    counted = summed_up(slow, latency_s, generator)
    return replace(counted, load=replace(counted.load, rate=rate))


def search(
    generator_at: Callable[[float], str], limit: float = 500.0, capacity: float = 600.0
) -> Found:
    """Of a server that keeps the level up to a limit."""

    def run_at(rate: float) -> Report:
        return report(rate, 0 if rate <= limit else REQUESTS, generator=generator_at(rate))

    return find_max(SLO, capacity, duration_s=10.0, run_at=run_at)


def told(found: Found) -> tuple[str, dict[str, object], str]:
    written = json.loads(json.dumps(to_json(found.trials, found)))["find_max"]
    headline = page(found.trials, found, TAKEN).split("<dl>")[1].split("</dl>")[0]
    return found_table(found), written, headline.replace("&#x27;", "'")


@pytest.mark.usefixtures("undrawn")
def test_a_rate_of_the_server_is_told_with_its_confidence() -> None:
    table, written, headline = told(search(lambda _: PROMPT))
    assert "confidence  above 99.9%" in table
    assert written["caveat"] is None
    assert written["confidence"] == pytest.approx(1, abs=1e-3)
    assert "above 99.9%" in headline
    assert "generator" not in table + headline


@pytest.mark.usefixtures("undrawn")
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


@pytest.mark.usefixtures("undrawn")
def test_a_late_generator_elsewhere_does_not_matter() -> None:
    plain = search(lambda _: PROMPT)
    decisive = {plain.rate, plain.failed_at}
    table, written, headline = told(search(lambda at: PROMPT if at in decisive else LATE))
    assert CAVEAT not in table + headline
    assert written["caveat"] is None


@pytest.mark.usefixtures("undrawn")
def test_no_rate_at_all_may_be_the_generators_fault() -> None:
    table, written, headline = told(search(lambda _: LATE, limit=0.0))
    assert CAVEAT in table.split("no rate holds")[1].splitlines()[0]
    assert CAVEAT in str(written["caveat"])
    assert CAVEAT in headline


@given(st.floats(20, 3000), st.floats(0.1, 3), st.integers(2, 12))
@example(900.0, 0.1, 8)  # twelve rates, of which the two lie near one end
def test_among_the_runs_to_draw_are_always_the_two_rates_that_decide(
    limit: float, miss: float, most: int
) -> None:
    found = search(lambda _: PROMPT, limit, capacity=miss * limit)
    rates = [each.load.asked for each in distinct_runs(found.trials, found, most)]
    assert {found.rate, found.failed_at} <= set(rates)
    assert rates == sorted(set(rates))
    assert len(rates) == min(most, len({each.load.asked for each in found.trials}))


def test_the_distribution_names_what_it_draws() -> None:
    found = search(lambda _: PROMPT, 900.0, capacity=90.0)
    plot = page(found.trials, found, TAKEN).split("<h2>Distribution</h2>")[1].split("</figure>")[0]
    # The legend stands as comments in the SVG.
    legend = re.findall(r"<!-- ([\d.]+ requests/s.*?) -->", plot)
    assert f"{found.rate:g} requests/s, found" in legend
    assert f"{found.failed_at:g} requests/s, failed" in legend
    assert len(set(legend)) == len(legend) == 8
    assert f" 8 of {len(found.trials)} runs shown" in plot.split("<figcaption>")[1]


@pytest.mark.usefixtures("undrawn")
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


@pytest.mark.usefixtures("undrawn")
def test_a_warning_of_one_run_keeps_its_figures() -> None:
    found = search(lambda rate: LATE if rate > 500 else PROMPT)
    late = [each for each in found.trials if each.generator_limited]
    one = Found(SLO, rate=late[0].load.rate, trials=[late[0], found.trials[-1]])
    assert "requests started up to 80.0 ms late (p99)" in page(one.trials, one, TAKEN)


def untold(found: Found) -> tuple[str, str]:
    """What is said where no rate was found: in words, and as the page's headline."""
    table, written, headline = told(found)
    assert found.rate is None
    assert written["gave_up"] == found.gave_up
    return table.splitlines()[-1], headline.split("<dd>")[1].split("</dd>")[0]


@pytest.mark.usefixtures("undrawn")
def test_a_search_that_used_up_its_runs_does_not_say_that_no_rate_holds() -> None:
    first = set[float]()

    def run_at(rate: float) -> Report:
        # Holds the level once at each rate, and never again.
        once = rate <= 500 and rate not in first
        first.add(rate)
        return report(rate, 0 if once else REQUESTS)

    found = find_max(SLO, 600.0, duration_s=10.0, run_at=run_at)
    assert found.failed_at is not None
    assert found.failed_at > 100
    assert len(found.trials) > MOST_RUNS - 3
    verdict, headline = untold(found)
    assert verdict.startswith("found no rate that holds p90=20ms: even ")
    assert "has used up its runs" in verdict
    assert "too few requests" not in verdict
    assert headline == "not found"
    assert untold(find_max(SLO, 1e9, 10.0, lambda rate: report(rate, REQUESTS)))[0] == (
        "found no rate that holds p90=20ms: even 345000.0 requests/s did not; "
        "a lower one may, but the search has used up its runs: try a --sweep"
    )


@given(
    level=st.sampled_from([("p90=20ms", 3), ("p99.9=20ms", 300)]),
    capacity=FACTORS,
    limit=FACTORS,
    wavering=st.booleans(),
)
@example(level=("p90=20ms", 3), capacity=1.5, limit=1.2, wavering=True)  # steps above the least
def test_rates_at_which_a_run_has_too_few_requests_are_not_tried(
    level: tuple[str, float], capacity: float, limit: float, *, wavering: bool
) -> None:
    slo, least = Slo.parse(level[0]), level[1]  # at which three of ten seconds may be slow
    tried = set[float]()

    def run_at(rate: float) -> Report:
        holds = rate <= limit * least and not (wavering and rate in tried)
        tried.add(rate)
        return report(rate, 0 if holds else REQUESTS)

    found = find_max(slo, capacity * least, duration_s=10.0, run_at=run_at)
    assert len(found.trials) <= MOST_RUNS
    assert min(tried) >= least
    if found.rate is not None:
        assert found.rate <= limit * least
    else:
        assert wavering or limit < 1.06
        assert found.failed_at is not None
        assert found.gave_up == (found.failed_at > 1.05 * least)


@given(st.integers(1, 999), st.integers(1, 20))
def test_a_level_allows_exactly_its_share(tenths: int, thousands: int) -> None:
    slo = Slo.parse(f"p{tenths / 10}=20ms")
    requests = 1000 * thousands
    allowed = (1000 - tenths) * thousands
    held = replace(report(1.0), succeeded=requests - allowed, failed=allowed, dropped=0)
    assert slo.holds(held)
    assert not slo.holds(replace(held, succeeded=held.succeeded - 1, dropped=1))
