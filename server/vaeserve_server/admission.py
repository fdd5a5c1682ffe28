"""Which requests are let into a queue: those it has room for, and that can be answered in time."""

from vaeserve_server.call import Call
from vaeserve_server.crew import Crew
from vaeserve_server.errors import DeadlineExceeded, Overloaded
from vaeserve_server.run_times import RunTimes


class Admission:
    """The rule of one queue; the batcher guards it."""

    def __init__(
        self, crew: Crew, run_times: RunTimes, *, max_rows: int, max_queue_rows: int
    ) -> None:
        """Keep what predictions are made of; see Batcher."""
        self._crew = crew
        self._run_times = run_times
        self._max_rows = max_rows
        self._max_queue_rows = max_queue_rows

    def check(self, rows: int, call: Call, *, waiting: int, now: float) -> None:
        """Refuse a request that would only be refused later.

        Args:
            rows: that it has.
            call: its deadline.
            waiting: rows that wait before it.
            now: monotonic time.

        Raises:
            Overloaded: the queue has no room.
            DeadlineExceeded: the answer could not be there in time.
        """
        if waiting + rows > self._max_queue_rows:
            raise Overloaded(
                f"{waiting} rows wait already, at most {self._max_queue_rows} may",
                retry_after_s=self._wait_s(waiting, now),
            )
        if call.deadline is None:
            return
        if now >= call.deadline:
            raise DeadlineExceeded("the deadline had passed on arrival", reason="EXPIRED")
        if not waiting and self._crew.idle() is not None:
            # The run starts at once: trying costs less than a prediction that may be stale.
            return
        wait_s = self._wait_s(waiting + rows, now)
        if now + wait_s > call.deadline:
            ahead = waiting + sum(running for running, _ in self._crew.running)
            raise DeadlineExceeded(
                f"{ahead} rows are ahead, about {wait_s:.3f} s; "
                f"the deadline is in {call.deadline - now:.3f} s",
                reason="QUEUE_WAIT",
            )

    def predict(self, rows: int) -> float:
        """Seconds that so many rows take on one device."""
        return self._run_times.predict(rows, self._max_rows)

    def _wait_s(self, waiting: int, now: float) -> float:
        """Seconds until all devices together have run so many rows and what they run now."""
        left = sum(max(0.0, began + self.predict(rows) - now) for rows, began in self._crew.running)
        return (left + self.predict(waiting)) / self._crew.devices
