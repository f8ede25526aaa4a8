"""One job at a time in a folder."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from causalsat.errors import DataError

STALE_SECONDS = 300.0
_BEAT_SECONDS = 15.0


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold ``folder/job.lock``; yields the heartbeat to call now and then.

    On one machine the operating system's own file lock decides, so a killed process leaves nothing behind. A lock file
    of another machine counts as held while its heartbeat is younger than five minutes.
    """
    path = folder / "job.lock"
    handle = _acquire(path)
    last = time.monotonic()

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last > _BEAT_SECONDS:
            last = time.monotonic()
            os.utime(path)

    try:
        yield beat
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path) -> int:
    import fcntl

    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            raise _held(path, holder) from None
        # The file may have been removed by its former holder between opening and locking.
        if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
            break
        os.close(handle)
    holder = _holder(handle)
    elsewhere = holder.get("host") not in (None, socket.gethostname())
    if elsewhere and time.time() - os.fstat(handle).st_mtime < STALE_SECONDS:
        os.close(handle)
        raise _held(path, holder)
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode(), 0)
    return handle


def _holder(handle: int) -> dict[str, object]:
    try:
        found = json.loads(os.pread(handle, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _held(path: Path, holder: dict[str, object]) -> DataError:
    return DataError(
        f"Another embedding job is writing to {path.parent}: process {holder.get('process', 'unknown')} on "
        f"{holder.get('host', 'unknown')} holds {path.name}. Wait for it, end it, or choose another out=."
    )
