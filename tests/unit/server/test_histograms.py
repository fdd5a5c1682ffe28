"""Cheap histograms count what prometheus_client's count."""

import math
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import Metric

from vaeserve_server.histograms import HistogramFamily, Series

VALUES = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.1, 0.25, 1.0]), max_size=200)
BOUNDS = st.lists(
    st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    min_size=1,
    max_size=8,
    unique=True,
).map(sorted)


def cumulative(series: Series) -> list[float]:
    return [count for _, count in series.samples()[0]]


@given(values=VALUES, bounds=BOUNDS, many=st.booleans())
def test_as_prometheus_client_counts(values: list[float], bounds: list[float], many: bool) -> None:
    theirs = Histogram("h", "h", registry=CollectorRegistry(), buckets=bounds)
    ours = Series(bounds)
    for value in values:
        theirs.observe(value)
        if not many:
            ours.observe(value)
    if many:
        ours.observe_many(values)
    (family,) = theirs.collect()
    buckets = [sample.value for sample in family.samples if sample.name == "h_bucket"]
    assert cumulative(ours) == buckets
    _, count, total = ours.samples()
    assert count == ours.count == len(values)
    assert total == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-6)


def test_values_that_are_not_finite_are_left_out() -> None:
    series = Series([1.0])
    series.observe_many([math.nan, 0.5, math.inf, -math.inf, 2.0])
    assert series.samples() == ([("1", 1.0), ("+Inf", 2.0)], 2.0, 2.5)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that change often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
def test_no_value_of_any_thread_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    series = Series(np.arange(10.0))
    threads, each = 4, 30_000
    monkeypatch.setattr("vaeserve_server.histograms._KEPT", 50)  # counted often, amid the others
    go = threading.Barrier(threads + 1)

    def observe(value: float) -> None:
        go.wait()
        for number in range(each):
            if number % 3:
                series.observe(value)
            else:
                series.observe_many([value])

    writers = [threading.Thread(target=observe, args=(float(value),)) for value in range(threads)]
    for writer in writers:
        writer.start()
    go.wait()
    seen = 0.0
    while seen < threads * each:
        buckets, count, _ = series.samples()
        assert count == buckets[-1][1]
        assert seen <= count <= threads * each
        seen = count
        if not any(writer.is_alive() for writer in writers):
            break
    for writer in writers:
        writer.join()
    buckets, count, total = series.samples()
    assert [number for _, number in buckets[:threads]] == [
        each * (value + 1) for value in range(threads)
    ]
    assert (count, total) == (threads * each, each * sum(range(threads)))


def test_bounds_that_are_close_are_labelled_apart() -> None:
    bounds = [-0.5, 5e-05, 1.0, 1048576.0, 180660.1, 180660.3]
    labels = [label for label, _ in Series(bounds).samples()[0]]
    assert labels == ["-0.5", "5e-05", "1", "180660.1", "180660.3", "1048576", "+Inf"]


@given(bounds=BOUNDS)
def test_a_label_is_its_bound(bounds: list[float]) -> None:
    labels = [label for label, _ in Series(bounds).samples()[0]]
    assert [float(label) for label in labels] == [*bounds, math.inf]


def test_a_family_names_and_labels_its_series() -> None:
    family = HistogramFamily("run_seconds", "Seconds.", ("model", "graph"))
    family.add("digits", "encoder", bounds=(-1.0, 0.5)).observe_many([-2.0, 0.25, 3.0])
    (metric,) = family.collect()
    assert isinstance(metric, Metric)
    labels = {"model": "digits", "graph": "encoder"}
    assert [(sample.name, sample.labels, sample.value) for sample in metric.samples] == [
        ("run_seconds_bucket", {**labels, "le": "-1"}, 1.0),
        ("run_seconds_bucket", {**labels, "le": "0.5"}, 2.0),
        ("run_seconds_bucket", {**labels, "le": "+Inf"}, 3.0),
        ("run_seconds_count", labels, 3.0),
        ("run_seconds_sum", labels, 1.25),
    ]
