"""A look at an outbox from outside, while a daemon may be using it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from edge.errors import CannotRecord
from edge.uplink.schema import APPLICATION_ID


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What an outbox looks like from outside."""

    chain: str
    seq: int
    waiting: int
    oldest_real_ms: int | None
    """When the oldest waiting event was made, by the board's clock of then; None where none waits."""


def glimpse(path: Path, timeout_s: float = 3.0) -> Glimpse:
    """Look into an outbox that a daemon may be using, changing nothing: no byte, lock or file.

    Also has SQLite check the file's structure, as far as that goes within `timeout_s`.

    Raises:
        CannotRecord: missing, damaged, not an outbox, or not readable; the message says which.
    """
    try:
        database = sqlite3.connect(_uri_to_look(path), uri=True, isolation_level=None, timeout=1.0)
        try:
            run = database.execute
            if run("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
                raise CannotRecord(f"{path}: not an outbox; move the file aside")
            chain, seq = run("SELECT chain, seq FROM head").fetchone()
            waiting, oldest = run(
                "SELECT count(*), min(made_real_ms) FROM event WHERE acked_real_ms IS NULL"
            ).fetchone()
            damage = _damage(database, time.monotonic() + timeout_s)
        finally:
            database.close()
    except (sqlite3.Error, OSError, TypeError, UnicodeDecodeError) as error:
        raise CannotRecord(
            f"{path}: the outbox cannot be read: {error}; if it is damaged, stop the daemon and move the file aside "
            "(keep it: unsent events are in it), and a new chain begins"
        ) from error
    if damage:
        raise CannotRecord(
            f"{path}: the outbox is damaged: {damage}; stop the daemon and move the file aside "
            "(keep it: unsent events are in it), and a new chain begins"
        )
    return Glimpse(chain, seq, waiting, oldest)


def holder(path: Path) -> int | None:
    """The process that has this outbox open; None where there is none, or no outbox.

    SQLite keeps a shared lock for as long as a database in WAL mode is open, on 510 bytes
    from 0x40000002 (the "File Locking" notes of its os.h); asking for it takes no lock. To
    be asked before this process opens the file itself: closing it here would let go of the
    locks that this process has (fcntl(2)).
    """
    try:
        with path.open("rb") as file:
            # struct flock with 64-bit offsets, native alignment: type, whence, start, length, pid.
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0x40000002, 510, 0)
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else int(pid)


_FLOCK = struct.Struct("hhqqi4x")


def _uri_to_look(path: Path) -> str:
    """How SQLite opens a database in WAL mode without leaving a trace ("Read-Only Databases" in its WAL notes).

    With a log beside it, whose shared memory is read and not written; without, nothing can
    be in use, and the file is taken as it is.
    """
    log = path.with_name(f"{path.name}-wal")
    used = log.exists() and log.stat().st_size > 0
    return f"{path.absolute().as_uri()}?mode=ro&" + ("readonly_shm=1" if used else "immutable=1")


def _damage(database: sqlite3.Connection, until_s: float) -> str:
    """The first fault that SQLite finds; empty where it finds none, or there was no time to look."""
    database.set_progress_handler(lambda: time.monotonic() > until_s, 100_000)
    try:
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return ""
        raise
    return "" if found == "ok" else str(found)
