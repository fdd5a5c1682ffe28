"""Counts of many threads fit together at every moment."""

import threading

from vaeserve_server.statistics import GraphStatistics


def test_counts_add_up_while_others_count() -> None:
    statistics = GraphStatistics(settle=lambda: None)

    def count() -> None:
        for _ in range(2000):
            statistics.ran(rows=3, seconds=1e-6, waits=[1e-6, 2e-6], ended=1.0)

    writers = [threading.Thread(target=count) for _ in range(3)]
    for writer in writers:
        writer.start()
    batches = 0
    while batches < 6000:
        seen = statistics.read()
        batches = sum(batch.batches for batch in seen.batches.values())
        assert seen.rows == 3 * batches
        assert seen.requests == 2 * batches
        assert seen.queue_ns == 3000 * batches
        assert seen.run_ns == 2 * sum(batch.run_ns for batch in seen.batches.values())
    for writer in writers:
        writer.join()
