"""How many threads a graph is worth, by measuring it. docs/architecture.md has the figures."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# A batch as a loaded server runs them; more rows tell the same and take longer to measure.
_BATCH_ROWS = 16
_LONGEST_BATCH_S = 50e-3

# Below this, waking a second thread costs about what it saves.
_WORTH_SPLITTING_S = 1e-3

# Threads must bring a batch to at most this share of its time at no more than this multiple of its
# CPU time (the other CPUs have calls to receive and answer), and may not slow one row by more.
_MOST_BATCH_TIME = 0.75
_MOST_BATCH_CPU = 1.3
_MOST_ROW_TIME = 1.2

_RUNS = 3


@dataclass(frozen=True)
class Cost:
    """What a graph costs with some number of threads, in seconds.

    Attributes:
        row_s: time of a run of one row.
        batch_s: time of a run of a batch.
        batch_cpu_s: CPU time of that.
    """

    row_s: float
    batch_s: float
    batch_cpu_s: float

    def worth(self, one_thread: "Cost") -> bool:
        """Whether these threads are worth more than one."""
        return (
            self.batch_s <= _MOST_BATCH_TIME * one_thread.batch_s
            and self.batch_cpu_s <= _MOST_BATCH_CPU * one_thread.batch_cpu_s
            and self.row_s <= _MOST_ROW_TIME * one_thread.row_s
        )


def choose_threads(
    run_with: Callable[[int], Callable[[int], object]],
    cpus: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.process_time,
) -> int:
    """The most threads that are worth it: all CPUs, a half, a quarter, ... or 1.

    Args:
        run_with: makes, for a number of threads, what runs the graph on so many rows.
        cpus: that this process may use.
        clock: seconds.
        cpu_clock: seconds of CPU time of this process.
    """
    if cpus == 1:
        return 1

    def fastest(run: Callable[[int], object], rows: int) -> tuple[float, float]:
        """Time and CPU time of the fastest of a few runs: what others do meanwhile only adds."""
        run(rows)  # allocates
        wall_s, cpu_s = [], []
        for _ in range(_RUNS):
            cpu, start = cpu_clock(), clock()
            run(rows)
            wall_s.append(clock() - start)
            cpu_s.append(cpu_clock() - cpu)
        return min(wall_s), min(cpu_s)

    run = run_with(1)
    row_s, _ = fastest(run, 1)
    rows = max(1, min(_BATCH_ROWS, int(_LONGEST_BATCH_S / row_s)))
    one_thread = Cost(row_s, *fastest(run, rows))
    if one_thread.batch_s < _WORTH_SPLITTING_S:
        return 1
    for threads in _halves(cpus):
        run = run_with(threads)
        row_s, _ = fastest(run, 1)
        if Cost(row_s, *fastest(run, rows)).worth(one_thread):
            return threads
    return 1


def _halves(cpus: int) -> Iterator[int]:
    while cpus > 1:
        yield cpus
        cpus //= 2
