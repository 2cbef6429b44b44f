"""The outbox's file: opened or made, brought to the newest schema, and written in transactions only.

SQLite in WAL mode with `synchronous=FULL`, so that a commit has reached the disk when a
transaction is left.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_bytes
from types import TracebackType
from typing import Self

from edge.errors import CannotRecord, DiskFull
from edge.steps import Step, reached
from edge.uplink.schema import APPLICATION_ID, SCHEMA_VERSION, upgrade

LOG_PAGES = 256
"""SQLite's log is written back at 1 MiB, not at 4: on a disk that is full, what is in it cannot be moved."""

COPIED_PAGES = 1024
"""4 MiB at a time, between which a watchdog is told that all is well."""

Run = Callable[..., sqlite3.Cursor]
"""Executes a statement."""


def new_chain() -> str:
    """A chain's name: 16 random bytes."""
    return urlsafe_b64encode(token_bytes(16)).rstrip(b"=").decode()


class Database:
    """One file, one connection, one lock. Safe to use from several threads.

    Raises:
        CannotRecord: the file cannot be opened or written; the message says which and why.
        DiskFull: there is no room for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._durably("opened"):
            self._database = _connect(path)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        return self._path

    def close(self) -> None:
        """Close the file; everything in it is already durable."""
        with self._lock:
            self._database.close()

    def write_back(self) -> None:
        """Move what the log holds into the file, so that the log is used again from its beginning."""
        with self._lock, self._durably("written"):
            self._database.execute("PRAGMA wal_checkpoint(RESTART)")

    def copy_to(self, path: Path, turned: Callable[[], None]) -> None:
        """Write all of it to a new file, and sync that. `turned` is called between pages."""
        with self._lock, self._durably("copied"):
            path.touch(mode=0o600)
            copy = sqlite3.connect(path, isolation_level=None)
            try:
                copy.execute("PRAGMA synchronous = FULL")
                self._database.backup(copy, pages=COPIED_PAGES, progress=lambda *_: turned())
            finally:
                copy.close()
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def _prepare(self) -> None:
        run = self._database.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        (version,) = run("PRAGMA user_version").fetchone()
        (application,) = run("PRAGMA application_id").fetchone()
        if version == 0 and run("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
            self._create()
        elif application != APPLICATION_ID or not 0 < version <= SCHEMA_VERSION:
            raise CannotRecord(
                f"{self._path}: not an outbox that this version can use (schema {version}, "
                f"known up to {SCHEMA_VERSION}); install the version that wrote it, or move the file aside"
            )
        elif version < SCHEMA_VERSION:
            run("BEGIN IMMEDIATE")
            upgrade(run, version)
            reached(Step.OUTBOX_UPGRADING)
            run("COMMIT")
            reached(Step.OUTBOX_UPGRADED)

    def _create(self) -> None:
        """A new database is the birth of a chain."""
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        upgrade(run, 0)
        run("INSERT INTO head (one, chain, seq, acked_seq) VALUES (1, ?, 0, 0)", (new_chain(),))
        reached(Step.OUTBOX_WRITTEN)
        run("COMMIT")
        reached(Step.OUTBOX_CREATED)

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[Run]:
        """All of it durable, or none of it."""
        with self._lock, self._durably(doing):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database.execute
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[Run]:
        with self._lock, self._durably("read"):
            yield self._database.execute

    @contextmanager
    def _durably(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last for a schema that is damaged
            raise _kind_of(error)(
                f"{self._path}: the outbox cannot be {doing}: {error}; {_advice(error)}. Nothing that was committed "
                "is lost"
            ) from error


def _kind_of(error: Exception) -> type[CannotRecord]:
    """Which of the branches a caller can do something about."""
    if _code(error) == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull
    return CannotRecord


def _advice(error: Exception) -> str:
    if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another program has it open and writes; end that (fuser shows which)"
    return "check the disk (df, dmesg) and that the file belongs to the daemon's user"


def _code(error: Exception) -> int:
    """SQLite's primary code; 0 of what is no error of SQLite's."""
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    reached(Step.OUTBOX_TOUCHED)
    # isolation_level=None: transactions are written out, so that none is opened behind our back.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
