"""One daemon a board: a second one on the same state is refused before it touches anything."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import AlreadyRunning, CannotRecord

LOCK_FILE = "daemon.lock"


@contextmanager
def alone_on(state_dir: Path) -> Iterator[None]:
    """Hold the state folder for this process; the kernel lets go of it however the process ends (flock(2)).

    Raises:
        AlreadyRunning: another process holds it.
        CannotRecord: the folder cannot be made or written.
    """
    path = state_dir / LOCK_FILE
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotRecord(
            f"{state_dir}: the outbox.db of this board cannot be kept here: {error.strerror}; check the disk (df, "
            "dmesg) and that the folder belongs to the daemon's user"
        ) from error
    try:
        _hold(descriptor, state_dir)
        yield
    finally:
        os.close(descriptor)


def _hold(descriptor: int, state_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunning(
            f"{state_dir}: another hadir-edge works on this board's state already; stop it first "
            "(systemctl stop hadir-edge), or give this one a device.state_dir of its own"
        ) from error
