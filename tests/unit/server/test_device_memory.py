"""The gauges of device memory, as a scrape shows them."""

from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.cuda_machine import CudaMachine, cuda_machine
from vaeserve.v1 import model_pb2
from vaeserve.v1.archives import Calibration
from vaeserve_server.devices import CPU, CUDA, Device
from vaeserve_server.metrics import Metrics

CALIBRATION = Calibration(*[np.linspace(0, 100, 9)] * 4, *[np.ones(2)] * 3)


@pytest.fixture
def machine() -> Iterator[CudaMachine]:
    """Two sound GPUs."""
    with cuda_machine() as made:
        yield made


def serving(provider: str, *indices: int, limit: int = 0) -> Metrics:
    """Metrics of a process with one model, whose graphs run on `provider`."""
    metrics = Metrics()
    metrics.model_loaded(model_pb2.ModelInfo(name="digits", version=1), provider, CALIBRATION)
    metrics.loaded_on([Device(CUDA, index) for index in indices], limit)
    return metrics


def scraped(metrics: Metrics) -> dict[str, float]:
    return {
        ",".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if "_memory_" in sample.name or "_limit_" in sample.name
    }


def test_a_scrape_reads_the_memory_of_the_devices_that_serve(machine: CudaMachine) -> None:
    metrics = serving(CUDA, 1, limit=7 << 20)
    expected = {
        "vaeserve_device_memory_bytes,cuda:1,used": 5 << 20,
        "vaeserve_device_memory_bytes,cuda:1,total": 64 << 20,
        "vaeserve_arena_limit_bytes": 7 << 20,
    }
    assert scraped(metrics) == expected
    machine.used[1] = 6 << 20
    assert scraped(metrics) == expected | {"vaeserve_device_memory_bytes,cuda:1,used": 6 << 20}


def test_a_device_that_is_lost_takes_no_other_series_with_it(machine: CudaMachine) -> None:
    metrics = serving(CUDA, 0, 1)
    assert len(scraped(metrics)) == 5
    machine.nvml_works = False
    assert scraped(metrics) == {"vaeserve_arena_limit_bytes": 0}


def test_without_the_management_library_there_is_a_warning_and_no_gauge(
    machine: CudaMachine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.nvml_works = False
    assert scraped(serving(CUDA, 0)) == {"vaeserve_arena_limit_bytes": 0}
    assert "no metrics of device memory" in caplog.text


def test_nothing_is_registered_where_nothing_runs_on_cuda(machine: CudaMachine) -> None:
    assert scraped(serving(CPU, 0)) == {}
    assert scraped(serving(CPU)) == {}
