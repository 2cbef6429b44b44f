"""Where an event is safe: committed here before anything else happens to it.

One SQLite file in WAL mode with `synchronous=FULL`, so that a commit has reached the
disk when `append` returns. The event takes its sequence number in the transaction that
stores it. The one-row table `head` moves in that same transaction and is never derived
from the event rows, because delivery empties those.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from types import TracebackType
from typing import Self

from edge.errors import CannotRecord
from edge.records import ChainPosition, SignedToken
from edge.steps import Step, reached
from edge.trust.tokens import MAX_EVENT_BYTES

SCHEMA_VERSION = 1

_APPLICATION_ID = 0x48414449
"""ASCII "HADI" in the file's header, so that a file of another program is not taken for an outbox."""

_SCHEMA = (
    """CREATE TABLE head (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        chain TEXT NOT NULL,
        seq INTEGER NOT NULL,
        hash TEXT,
        acked_seq INTEGER NOT NULL,
        acked_hash TEXT
    ) STRICT""",
    """CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        hash TEXT NOT NULL,
        token TEXT NOT NULL,
        made_real_ms INTEGER NOT NULL,
        acked_real_ms INTEGER
    ) STRICT""",
    "CREATE INDEX event_waiting ON event (seq) WHERE acked_real_ms IS NULL",
    """CREATE TABLE run (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        boot TEXT NOT NULL,
        clean INTEGER NOT NULL,
        conn INTEGER NOT NULL
    ) STRICT""",
)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of this board's chain, and how much of it has been delivered."""

    chain: str
    seq: int
    """0 before the first event."""
    hash: str | None
    acked_seq: int
    """Everything up to here was acknowledged."""
    acked_hash: str | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it was signed; what is sent, and sent again, is exactly this text."""

    seq: int
    token: str


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """How the daemon's last run on this outbox ended."""

    boot: str
    clean: bool


class Outbox:
    """The durable queue between recognition and the broker. Safe to use from several threads.

    Raises:
        CannotRecord: the file cannot be opened or written; the message says which and why.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._durably("opened"):
            self._database = _connect(path)
            self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything in it is already durable."""
        with self._lock:
            self._database.close()

    def append(self, sign: Callable[[ChainPosition], SignedToken], made_real_ms: int) -> StoredEvent:
        """Give the next place in the chain to `sign` and store what it returns, in one transaction."""
        with self._transaction("written") as run:
            chain, seq, prev = run("SELECT chain, seq, hash FROM head").fetchone()
            (lowest,) = run("SELECT min(seq) FROM event").fetchone()
            low = seq + 1 if lowest is None else lowest
            reached(Step.POSITION_TAKEN)
            signed = sign(ChainPosition(chain=chain, seq=seq + 1, prev=prev, low=low))
            reached(Step.SIGNED)
            if len(signed.compact) > MAX_EVENT_BYTES:
                raise CannotRecord(
                    f"event {seq + 1} of chain {chain} has {len(signed.compact)} bytes; at most {MAX_EVENT_BYTES}"
                )
            run(
                "INSERT INTO event (seq, hash, token, made_real_ms) VALUES (?, ?, ?, ?)",
                (seq + 1, signed.hash, signed.compact, made_real_ms),
            )
            reached(Step.INSERTED)
            run("UPDATE head SET seq = ?, hash = ?", (seq + 1, signed.hash))
            reached(Step.HEAD_MOVED)
        reached(Step.COMMITTED)
        return StoredEvent(seq=seq + 1, token=signed.compact)

    def waiting(self, after_seq: int, limit: int) -> tuple[StoredEvent, ...]:
        """The oldest unacknowledged events beyond `after_seq`, in order."""
        with self._lock, self._durably("read"):
            rows = self._database.execute(
                "SELECT seq, token FROM event WHERE acked_real_ms IS NULL AND seq > ? ORDER BY seq LIMIT ?",
                (after_seq, limit),
            ).fetchall()
        return tuple(StoredEvent(seq=seq, token=token) for seq, token in rows)

    def waiting_count(self) -> int:
        """How many events are not yet acknowledged."""
        with self._lock, self._durably("read"):
            (count,) = self._database.execute(
                "SELECT count(*) FROM event WHERE acked_real_ms IS NULL"
            ).fetchone()
        return int(count)

    def acknowledge(self, seqs: Iterable[int], at_real_ms: int) -> None:
        """Note that these were delivered; they move to the archive, out of the queue."""
        with self._transaction("written") as run:
            for seq in seqs:
                run(
                    "UPDATE event SET acked_real_ms = ? WHERE seq = ? AND acked_real_ms IS NULL",
                    (at_real_ms, seq),
                )
            run(
                "UPDATE head SET acked_seq = coalesce("
                "(SELECT min(seq) - 1 FROM event WHERE acked_real_ms IS NULL), seq)"
            )
            run(
                "UPDATE head SET acked_hash = coalesce("
                "(SELECT hash FROM event WHERE event.seq = head.acked_seq), acked_hash)"
            )
            reached(Step.ACKNOWLEDGING)
        reached(Step.ACKNOWLEDGED)

    def prune_archive(self, acked_before_real_ms: int) -> int:
        """Delete events acknowledged before then; returns how many. Never touches a waiting one."""
        with self._transaction("written") as run:
            deleted = run(
                "DELETE FROM event WHERE acked_real_ms < ? AND seq <= (SELECT acked_seq FROM head)",
                (acked_before_real_ms,),
            ).rowcount
            reached(Step.PRUNING)
        reached(Step.PRUNED)
        return deleted

    def redate_archive(self, before_real_ms: int, at_real_ms: int) -> None:
        """Count the age of what was acknowledged before then from `at_real_ms` on.

        For acknowledgements noted before the clock was set: once it is, they would look
        decades old, and the archive would forget them at once.
        """
        with self._transaction("written") as run:
            run("UPDATE event SET acked_real_ms = ? WHERE acked_real_ms < ?", (at_real_ms, before_real_ms))

    def head(self) -> Head:
        """The end of the chain as it stands on disk."""
        with self._lock, self._durably("read"):
            row = self._database.execute(
                "SELECT chain, seq, hash, acked_seq, acked_hash FROM head"
            ).fetchone()
        return Head(*row)

    def previous_run(self) -> PreviousRun | None:
        """How the last run ended; None on the first."""
        with self._lock, self._durably("read"):
            row = self._database.execute("SELECT boot, clean FROM run").fetchone()
        return None if row is None else PreviousRun(boot=row[0], clean=bool(row[1]))

    def mark_run(self, boot: str, *, clean: bool) -> None:
        """Remember this run, for the `start` event of the next."""
        with self._transaction("written") as run:
            run(
                "INSERT INTO run (one, boot, clean, conn) VALUES (1, ?, ?, 0) ON CONFLICT (one) DO UPDATE SET "
                "conn = CASE WHEN boot = excluded.boot THEN conn ELSE 0 END, "
                "boot = excluded.boot, clean = excluded.clean",
                (boot, clean),
            )
            reached(Step.RUN_WRITTEN)

    def next_conn(self) -> int:
        """The number of the connection that is about to be made, counted within the boot, across restarts."""
        with self._transaction("written") as run:
            run(
                "INSERT INTO run (one, boot, clean, conn) VALUES (1, '', 0, 1) "
                "ON CONFLICT (one) DO UPDATE SET conn = conn + 1"
            )
            (conn,) = run("SELECT conn FROM run").fetchone()
        return int(conn)

    def _prepare(self) -> None:
        run = self._database.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        (version,) = run("PRAGMA user_version").fetchone()
        (application,) = run("PRAGMA application_id").fetchone()
        if version == 0 and run("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
            self._create()
        elif application != _APPLICATION_ID or version > SCHEMA_VERSION:
            self._database.close()
            raise CannotRecord(
                f"{self._path}: not an outbox that this version can use (schema {version}, "
                f"known up to {SCHEMA_VERSION}); install the version that wrote it, or move the file aside"
            )

    def _create(self) -> None:
        """A new database is the birth of a chain (16 random bytes)."""
        chain = urlsafe_b64encode(token_bytes(16)).rstrip(b"=").decode()
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            run(statement)
        run("INSERT INTO head (one, chain, seq, acked_seq) VALUES (1, ?, 0, 0)", (chain,))
        run(f"PRAGMA application_id = {_APPLICATION_ID}")
        run(f"PRAGMA user_version = {SCHEMA_VERSION}")
        reached(Step.OUTBOX_WRITTEN)
        run("COMMIT")
        reached(Step.OUTBOX_CREATED)

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[Callable[..., sqlite3.Cursor]]:
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
    def _durably(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last for a schema that is damaged
            raise CannotRecord(
                f"{self._path}: the outbox cannot be {doing}: {error}; check the disk (df, dmesg) and that the "
                "file belongs to the daemon's user. Nothing that was committed is lost"
            ) from error


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
            if run("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
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


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    reached(Step.OUTBOX_TOUCHED)
    # isolation_level=None: transactions are written out, so that none is opened behind our back.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
