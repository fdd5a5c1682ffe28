"""The heap of the C library, which gRPC, ONNX Runtime and numpy share."""

import ctypes
import os

from vaeserve_server.cpus import usable_cpus

_M_ARENA_MAX = -8  # malloc.h
_FEWEST = 2


def limit_arenas() -> None:
    """Have it in no more pieces than threads can run at once; `MALLOC_ARENA_MAX` overrules.

    glibc makes up to eight a CPU, and what is freed in one serves no other. Calls begin on one
    thread and end on another, so a server would grow for days. To be called before there are
    threads: glibc decides when the second one allocates. Counts for processes started later, too.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and "MALLOC_ARENA_MAX" not in os.environ:
        arenas = max(_FEWEST, usable_cpus())
        libc.mallopt(_M_ARENA_MAX, arenas)
        os.environ["MALLOC_ARENA_MAX"] = str(arenas)
