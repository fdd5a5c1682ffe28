"""The choice of threads, on graphs whose cost is made up."""

from collections.abc import Callable

import pytest

from vaeserve_server.thread_choice import choose_threads


class Machine:
    """Runs take the time that they are said to take, on clocks of its own."""

    def __init__(self, cost: Callable[[int, int], tuple[float, float]]) -> None:
        self._cost = cost
        self.wall_s = self.cpu_s = 0.0
        self.tried: list[int] = []

    def run_with(self, threads: int) -> Callable[[int], None]:
        self.tried.append(threads)

        def run(rows: int) -> None:
            wall, cpu = self._cost(threads, rows)
            self.wall_s += wall
            self.cpu_s += cpu

        return run


def choice(cost: Callable[[int, int], tuple[float, float]], cpus: int) -> tuple[int, list[int]]:
    machine = Machine(cost)
    clocks = {"clock": lambda: machine.wall_s, "cpu_clock": lambda: machine.cpu_s}
    return choose_threads(machine.run_with, cpus, **clocks), machine.tried


# Microseconds as measured: docs/architecture.md.
@pytest.mark.parametrize(
    ("row", "batch", "batch_cpu", "expected"),
    [
        ((15, 19), (133, 133), (133, 209), 1),  # MLP: too short to look further
        ((252, 268), (9393, 4967), (9393, 9554), 2),  # conv encoder
        ((347, 447), (18178, 21431), (18178, 28317), 1),  # conv decoder
        # Made up: half again the CPU time for a batch, half again the time for one row.
        ((350, 315), (18000, 12000), (18000, 27000), 1),
        ((200, 300), (9000, 5000), (9000, 9000), 1),
    ],
)
def test_threads_are_used_where_they_pay(
    row: tuple[float, float],
    batch: tuple[float, float],
    batch_cpu: tuple[float, float],
    expected: int,
) -> None:
    def cost(threads: int, rows: int) -> tuple[float, float]:
        if rows == 1:
            return row[threads - 1] * 1e-6, row[threads - 1] * 1e-6
        return batch[threads - 1] * 1e-6, batch_cpu[threads - 1] * 1e-6

    assert choice(cost, 2)[0] == expected


def test_a_part_of_many_cpus_may_be_the_best() -> None:
    def cost(threads: int, rows: int) -> tuple[float, float]:
        wall = rows * 1e-3 / min(threads, 4)
        return wall, wall * threads

    assert choice(cost, 16) == (4, [1, 16, 8, 4])


def test_slow_graphs_are_measured_on_few_rows() -> None:
    rows_run = []

    def cost(threads: int, rows: int) -> tuple[float, float]:
        rows_run.append(rows)
        return 0.02 * rows / threads, 0.02 * rows

    assert choice(cost, 2)[0] == 2
    assert max(rows_run) == 2


def test_one_cpu_needs_no_measurement() -> None:
    assert choice(lambda *_: (1, 1), 1) == (1, [])
