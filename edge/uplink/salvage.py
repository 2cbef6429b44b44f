"""An outbox whose file a bad card has damaged: kept as it is, and what can still be read goes on in a new one.

Only a file that SQLite still opens, and whose last run did not end well, is examined. What
is no database of ours at all is refused by `Outbox`, and left for a person to see.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from edge.errors import CannotRecord
from edge.files import sync_folder
from edge.records import TamperKind
from edge.steps import Step, reached
from edge.uplink.outbox import FormerEvent, Outbox
from edge.uplink.recorder import Recorder

log = logging.getLogger(__name__)

EXAMINED_S = 2.0
"""So long at most; a file of 100 MB takes half a second."""

_PARTS = ("", "-wal", "-shm")


def open_outbox(path: Path) -> Outbox:
    """The outbox, also where a power cut came between the two renames of `renewed`."""
    successor = _successor(path)
    if successor.exists() and not path.exists():
        successor.rename(path)
        sync_folder(path.parent)
    return Outbox(path)


def sound(recorder: Recorder) -> Recorder:
    """The recorder itself, or one with a new outbox where its own is damaged."""
    previous = recorder.outbox.previous_run()
    if previous is None or previous.clean:
        return recorder
    found = damage(recorder.outbox.path)
    return recorder if not found else renewed(recorder, found)


def damage(path: Path) -> str:
    """The first fault that SQLite finds in a file; empty where there is none, or no time to look further."""
    until_s = time.monotonic() + EXAMINED_S
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.set_progress_handler(lambda: time.monotonic() > until_s, 100_000)
        try:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            return "" if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT else str(error)
    return "" if found == "ok" else " ".join(str(found).split())


def renewed(recorder: Recorder, found: str) -> Recorder:
    """Keep the damaged file under another name; a new chain begins, and says so, with what could be read of the old.

    The new outbox is complete before either file is renamed.
    """
    path = recorder.outbox.path
    recorder.outbox.close()
    kept = _free_name(path)
    rows = list(readable(path))
    successor = _successor(path)
    for part in _PARTS:
        successor.with_name(successor.name + part).unlink(missing_ok=True)
    with Outbox(successor) as outbox:
        detail = f"{found}; {len(rows)} unreceipted events could be read; kept as {kept.name}"
        replace(recorder, outbox=outbox).new_chain(TamperKind.DATABASE, detail)
        outbox.adopt(rows)
    reached(Step.SALVAGED)
    try:
        for part in _PARTS:
            with suppress(FileNotFoundError):
                path.with_name(path.name + part).rename(kept.with_name(kept.name + part))
        reached(Step.DAMAGED_KEPT)
        successor.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise CannotRecord(
            f"{path}: the damaged outbox cannot be moved aside ({error.strerror}); check the disk (df, dmesg)"
        ) from error
    log.error(
        "outbox: it is damaged (%s), and kept as %s; a new chain begins, in which %d events that the server has not "
        "acknowledged are signed again",
        found,
        kept,
        len(rows),
    )
    return replace(recorder, outbox=Outbox(path))


def readable(path: Path) -> Iterator[FormerEvent]:
    """The unreceipted events of a damaged file, in order: from both ends to where it breaks."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        forwards = list(_until_it_breaks(database, "ASC"))
        last = forwards[-1].seq if forwards else 0
        backwards = [event for event in _until_it_breaks(database, "DESC") if event.seq > last]
    yield from forwards
    yield from reversed(backwards)


def _until_it_breaks(database: sqlite3.Connection, order: str) -> Iterator[FormerEvent]:
    statement = {
        "ASC": "SELECT seq, CAST(token AS BLOB), made_real_ms, acked_real_ms FROM event ORDER BY seq ASC",
        "DESC": "SELECT seq, CAST(token AS BLOB), made_real_ms, acked_real_ms FROM event ORDER BY seq DESC",
    }[order]
    with suppress(sqlite3.DatabaseError):
        for seq, token, made_real_ms, acked_real_ms in database.execute(statement):
            if acked_real_ms is None and isinstance(seq, int) and isinstance(token, bytes):
                yield FormerEvent(seq, token, made_real_ms if isinstance(made_real_ms, int) else 0)


def _successor(path: Path) -> Path:
    return path.with_name(f"{path.stem}.new")


def _free_name(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.stem}-damaged-{number}.db")).exists():
        number += 1
    return kept
