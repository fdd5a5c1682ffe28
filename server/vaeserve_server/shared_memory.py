"""Regions of POSIX shared memory that callers on this host lend to the server.

Nothing is mapped: a region is a descriptor, read and written by position. So a caller who truncates
the object gets an error where a mapping would kill the process, and what was checked is a copy that
nobody can change afterwards.
"""

import os
import stat
import threading
import weakref

import numpy as np
import numpy.typing as npt

from vaeserve_server.errors import InvalidArgument, NotFound, Unsupported

_FOLDER = "/dev/shm"  # noqa: S108  where Linux keeps POSIX shared memory; shm_open does the same
_MOST_REGIONS = 128
_MOST_KEY_BYTES = 255
_MOST_NAME_BYTES = 255


class Region:
    """A part of one shared memory object.

    The descriptor is closed when the last request that holds the region is done with it, so
    unregistering never pulls it away from one.

    Attributes:
        key: of the object, as registered.
        offset: where in the object the region begins, bytes.
        byte_size: its size.
    """

    def __init__(self, key: str, offset: int, byte_size: int) -> None:
        """Open the object.

        Raises:
            InvalidArgument: the key names no object of shared memory, or the region does not lie
                inside it.
        """
        self.key = key
        self.offset = offset
        self.byte_size = byte_size
        self._descriptor = _open(key, offset, byte_size)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, offset: int, size: int, field: str) -> bytes:
        """Copy bytes out of the region.

        Raises:
            InvalidArgument: they are not all inside, or the object has shrunk.
        """
        self.check(offset, size, field)
        data = os.pread(self._descriptor, size, self.offset + offset)
        if len(data) != size:
            raise _shrunk(self.key, field)
        return data

    def write(self, offset: int, values: npt.NDArray[np.generic], field: str) -> None:
        """Copy an array's bytes into the region.

        Raises:
            InvalidArgument: they do not fit, the object has shrunk, or there is no memory for it.
        """
        data = np.ascontiguousarray(values)
        self.check(offset, data.nbytes, field)
        start = self.offset + offset
        # Writing beyond the end would make the object grow again.
        if os.fstat(self._descriptor).st_size < start + data.nbytes:
            raise _shrunk(self.key, field)
        try:
            written = os.pwrite(self._descriptor, data.data, start)
        except OSError as error:
            problem = f"object {self.key!r} cannot be written: {error.strerror}"
            raise _invalid(problem, field) from error
        if written != data.nbytes:
            raise _shrunk(self.key, field)

    def check(self, offset: int, size: int, field: str) -> None:
        """Hold a place against the region's bounds.

        Raises:
            InvalidArgument: it is not inside.
        """
        if offset < 0 or size < 0 or offset + size > self.byte_size:
            raise _invalid(
                f"{size} bytes at {offset} are not inside the region's {self.byte_size} bytes",
                field,
            )


class Regions:
    """The registered regions, by name."""

    def __init__(self, *, enabled: bool) -> None:
        """Start with none.

        Args:
            enabled: whether any can be registered.
        """
        self._enabled = enabled
        self._regions: dict[str, Region] = {}
        self._lock = threading.Lock()

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open a region and keep it.

        Raises:
            Unsupported: the server was started without.
            InvalidArgument: the name is taken or none, the region is not there, or there are too
                many.
        """
        if not self._enabled:
            raise Unsupported(
                "system shared memory is off; start the server with --system-shared-memory"
            )
        if not 0 < len(name.encode()) <= _MOST_NAME_BYTES:
            raise _invalid(f"a region's name has 1 to {_MOST_NAME_BYTES} bytes", "name")
        with self._lock:
            if name in self._regions:
                raise InvalidArgument(
                    f"region {name!r} is registered already", reason="REGION_EXISTS", field="name"
                )
            if len(self._regions) >= _MOST_REGIONS:
                raise InvalidArgument(
                    f"{_MOST_REGIONS} regions are registered already",
                    reason="TOO_MANY_REGIONS",
                    field="name",
                )
            self._regions[name] = Region(key, offset, byte_size)

    def unregister(self, name: str) -> None:
        """Forget a region, or all where the name is empty; requests that use it finish.

        An unknown name is no error: it is not registered, which is what the caller wants.
        """
        with self._lock:
            if name:
                self._regions.pop(name, None)
            else:
                self._regions.clear()

    def get(self, name: str, field: str) -> Region:
        """A registered region.

        Raises:
            NotFound: there is none of that name.
        """
        region = self._regions.get(name)
        if region is None:
            raise NotFound(
                f"no shared memory region {name[:_MOST_NAME_BYTES]!r} is registered",
                reason="REGION_NOT_FOUND",
                field=field,
            )
        return region

    def all(self) -> dict[str, Region]:
        """Every region by name, of one moment."""
        with self._lock:
            return dict(self._regions)


def _open(key: str, offset: int, byte_size: int) -> int:
    """Open an object of shared memory as shm_open does, and nothing else.

    Raises:
        InvalidArgument: the key is no plain name or names no such object, or the bytes are not in
            it.
    """
    name = key.removeprefix("/")
    if not name or name in {".", ".."} or set("/\0") & set(name):
        raise _invalid("a key is a name, with or without one slash before it", "key")
    # A symbolic link could lead out of the folder; opening a pipe would wait for its other end.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(f"{_FOLDER}/{name}", flags)
    except OSError as error:
        shown = key[:_MOST_KEY_BYTES]
        raise _invalid(f"object {shown!r} cannot be opened: {error.strerror}", "key") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and 0 < byte_size <= status.st_size - offset:
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _invalid(f"{key!r} is no object of shared memory", "key")
    raise _invalid(
        f"{byte_size} bytes at {offset} are no part of object {key!r} of {status.st_size} bytes",
        "byte_size",
    )


def _shrunk(key: str, field: str) -> InvalidArgument:
    return _invalid(f"object {key!r} has shrunk since it was registered", field)


def _invalid(problem: str, field: str) -> InvalidArgument:
    return InvalidArgument(problem, reason="INVALID_REGION", field=field)
