"""Whatever k processes saw, their merged metrics are those of one that saw it all."""

from collections.abc import Iterable

from hypothesis import given, strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from vaeserve_server.metrics_merge import lasting, merge

# Eighths add up exactly in any order.
VALUES = st.integers(0, 10_000).map(lambda value: value / 8)
# Which series, on which of its children, by how much.
EVENTS = st.lists(
    st.tuples(st.sampled_from(["counter", "gauge", "histogram"]), st.sampled_from("ab"), VALUES),
    max_size=30,
)


class Process:
    """A process with series of each type; `b` appears with its first event, as a model may."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.counter = Counter("calls", 'Of "all" kinds.\nReally.', ["model"], registry=registry)
        self.gauge = Gauge("queue_rows", "Rows waiting.", ["model"], registry=registry)
        self.histogram = Histogram(
            "run_seconds", "Seconds.", ["model"], buckets=[-1, 0.5, 100], registry=registry
        )
        info = Gauge("model_info", "1.", ["model"], registry=registry)
        # Of one device that all processes use: each tells all of it.
        memory = Gauge("device_memory_bytes", "Memory.", ["device", "state"], registry=registry)
        memory.labels("cuda:0", "used").set(3 << 30)
        Gauge("arena_limit_bytes", "Limit.", registry=registry).set(1 << 30)
        for series in (self.counter, self.gauge, self.histogram):
            series.labels("a")
        info.labels('"a"\n').set(1)

    def see(self, events: Iterable[tuple[str, str, float]]) -> None:
        for kind, model, value in events:
            if kind == "counter":
                self.counter.labels(model).inc(value)
            elif kind == "gauge":
                self.gauge.labels(model).inc(value)
            else:
                self.histogram.labels(model).observe(value)

    def metrics(self) -> list[Metric]:
        """As a supervisor gets them."""
        return list(text_string_to_metric_families(generate_latest(self.registry).decode()))


def flat(metrics: Iterable[Metric]) -> dict[tuple[str, str, frozenset[tuple[str, str]]], float]:
    return {
        (metric.type, sample.name, frozenset(sample.labels.items())): sample.value
        for metric in metrics
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(EVENTS, min_size=1, max_size=4))
def test_merged_processes_are_one_that_saw_everything(
    seen: list[list[tuple[str, str, float]]],
) -> None:
    whole, parts = Process(), []
    for events in seen:
        part = Process()
        part.see(events)
        whole.see(events)
        parts.append(part.metrics())
    before = [flat(part) for part in parts]
    assert flat(merge(parts)) == flat(whole.metrics())
    assert [flat(part) for part in parts] == before


@given(EVENTS, EVENTS)
def test_an_ended_process_leaves_its_counts_and_holds_nothing(
    dead: list[tuple[str, str, float]], living: list[tuple[str, str, float]]
) -> None:
    first, second, whole = Process(), Process(), Process()
    first.see(dead)
    second.see(living)
    whole.see([event for event in dead if event[0] != "gauge"])
    whole.see(living)
    merged = merge([lasting(first.metrics()), second.metrics()])
    expected = flat(whole.metrics())
    assert {key: value for key, value in flat(merged).items() if value} == {
        key: value for key, value in expected.items() if value
    }


def test_what_is_exposed_again_reads_the_same() -> None:
    process, again = Process(), CollectorRegistry()
    process.see([("histogram", "a", 0.25), ("counter", "b", 3)])

    class Merged:
        def collect(self) -> list[Metric]:
            return merge([process.metrics()])

    again.register(Merged())
    text = generate_latest(again).decode()
    assert flat(text_string_to_metric_families(text)) == flat(process.metrics())
    assert merge([]) == []
