"""The C library's heap, in a process of its own: what is set counts for good."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Threads that hold a piece of the heap each at the same time, then glibc's own account of it.
PROGRAM = """
import ctypes, os, sys, threading
from pathlib import Path
from vaeserve_server import heap

if sys.argv[1] == "limited":
    heap.limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
count = 4 * len(os.sched_getaffinity(0)) + 4
all_hold = threading.Barrier(count)

def hold():
    libc.malloc(1000)
    all_hold.wait(20)

threads = [threading.Thread(target=hold) for _ in range(count)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(Path(sys.argv[2]).read_text().count("<heap nr="))
"""

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not glibc"
)


def arenas(how: str, file: Path, **environment: str) -> int:
    clean = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    program = [sys.executable, "-c", PROGRAM, how, str(file)]
    done = subprocess.run(
        program, env=clean | environment, capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


def test_there_are_no_more_arenas_than_cpus(tmp_path: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    assert arenas("limited", tmp_path / "a") <= max(2, cpus) < arenas("as it is", tmp_path / "b")


def test_the_environment_overrules(tmp_path: Path) -> None:
    assert arenas("limited", tmp_path / "a", MALLOC_ARENA_MAX="7") == 7
