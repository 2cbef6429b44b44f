"""The outbox's tables, by numbered versions, and the way from each to the next.

A version that was ever on a board is never changed again: a new one is added, with the
statements that lead to it. `tests/outboxes/` holds a database of every version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

APPLICATION_ID = 0x48414449
"""ASCII "HADI" in the file's header, so that a file of another program is not taken for an outbox."""

_FIRST = (
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

_RECEIPTS_AND_CLOCK = (
    # An event that cannot be sent is told of by the skip:1 at this seq, which is sent in its place.
    "ALTER TABLE event ADD COLUMN aside_by INTEGER",
    # Unreceipted events of a chain that was given up, until they are signed anew, in this order.
    """CREATE TABLE former (
        number INTEGER PRIMARY KEY,
        chain TEXT NOT NULL,
        seq INTEGER NOT NULL,
        token TEXT NOT NULL,
        made_real_ms INTEGER NOT NULL
    ) STRICT""",
    # What somebody asked to be sent again, acknowledged or not.
    """CREATE TABLE resend (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        chain TEXT NOT NULL,
        from_seq INTEGER NOT NULL,
        to_seq INTEGER NOT NULL
    ) STRICT""",
    # What is known of the clock: in which boot, how far real time was ahead of CLOCK_BOOTTIME, and the last
    # synchronisation.
    """CREATE TABLE clock (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        boot TEXT NOT NULL,
        synced INTEGER NOT NULL,
        offset_ms INTEGER NOT NULL,
        sync_mono_ms INTEGER,
        sync_err_ms INTEGER
    ) STRICT""",
)

VERSIONS: Sequence[Sequence[str]] = (_FIRST, _RECEIPTS_AND_CLOCK)
"""The statements that lead to version 1, 2 and so on, each from the one before."""

SCHEMA_VERSION = len(VERSIONS)


def upgrade(run: Callable[[str], Any], version: int) -> None:
    """Lead tables of this version (0: none) to the newest; to be called within a transaction."""
    for statements in VERSIONS[version:]:
        for statement in statements:
            run(statement)
    run(f"PRAGMA application_id = {APPLICATION_ID}")
    run(f"PRAGMA user_version = {SCHEMA_VERSION}")
