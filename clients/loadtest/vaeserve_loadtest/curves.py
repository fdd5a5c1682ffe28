"""Which of many runs to draw."""

from collections.abc import Sequence

from vaeserve_loadtest.find_max import Found
from vaeserve_loadtest.report import Report


def distinct_runs(reports: Sequence[Report], found: Found | None, most: int) -> list[Report]:
    """Choose runs whose distributions can be told apart in one plot.

    Args:
        reports: the runs, in order.
        found: what a search found in them; the rate it found and the lowest that failed stay.
        most: how many to choose, at least 2.

    Returns:
        The last run of each load that had an answer: in a search the one that decided about its
        rate. Where those are more than `most`, a part of them, spread evenly. By growing load.
    """
    last = {each.load.target: each for each in reports if each.percentiles}
    runs = sorted(last.values(), key=lambda each: each.load.asked)
    if len(runs) <= most:
        return runs
    decisive = set() if found is None else {found.rate, found.failed_at}
    kept = [each for each in runs if each.load.rate in decisive]
    others = [each for each in runs if each.load.rate not in decisive]
    room = most - len(kept)
    last_place = max(room - 1, 1)
    spread = [others[place * (len(others) - 1) // last_place] for place in range(room)]
    return sorted([*kept, *spread], key=lambda each: each.load.asked)
