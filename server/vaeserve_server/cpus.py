"""How many CPUs this process may really use: a container's host may have far more."""

import math
import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """CPUs from the affinity mask and the cgroup quota, rounded up; at least 1."""
    affinity = len(os.sched_getaffinity(0))
    quota = cgroup_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def cpu_share(workers: int) -> int:
    """CPUs for each of so many processes that do the same; at least 1."""
    return max(1, usable_cpus() // workers)


def cgroup_quota(root: Path = _CGROUP_ROOT, own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Tightest CPU quota from this process's cgroup up to the root, in CPUs; None without one.

    Args:
        root: where the cgroup file system is mounted.
        own: the file that names this process's cgroups.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # v1 mounts each controller in a folder of its own, v2 mounts one tree.
        mount = root / "cpu" if controllers else root
        folder = mount / path.strip("/")
        for level in (folder, *folder.parents):
            quotas.append(_quota_of(level))
            if level == mount:
                break
    known = [quota for quota in quotas if quota is not None]
    return min(known, default=None)


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)
