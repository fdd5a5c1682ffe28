"""Clients do not survive a fork: gRPC's threads and connections stay with the parent.

The child's copies are told, so that their calls say so at once instead of waiting for threads that
are not there, or writing into the parent's connections. It costs a call nothing.
"""

import ctypes
import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What wants to know."""

    def forked(self) -> None:
        """Called in the child, where nothing else runs yet."""


_open: WeakSet[Forked] = WeakSet()


def watch(connection: Forked) -> None:
    """Have a connection told in every child that is forked from now on."""
    _open.add(connection)


def keep(call: object) -> None:
    """Never free a call of the parent's in a child, nor touch it.

    Both take a lock of the call's, which a thread that is not here may have held at the fork.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(call))


def _tell() -> None:
    for connection in list(_open):
        connection.forked()


os.register_at_fork(after_in_child=_tell)
