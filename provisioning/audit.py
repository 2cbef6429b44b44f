"""Who did what when: a table that only grows, each entry holding the hash of the one before it.

An entry is written in the transaction of what it tells about, so neither is there without
the other. The database refuses to change or delete one; whoever edits the file itself
breaks the chain, which `verify_chain` shows. What nothing inside a file can show is that the
newest entries were cut off: note the head's hash elsewhere now and then, and ask for it.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge.errors import KeyFileError

SCHEMA = """
CREATE TABLE audit (
    n INTEGER PRIMARY KEY CHECK (n >= 1),
    at_s INTEGER NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
"""

FIRST = "0" * 64
"""What the first entry names as the hash before it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done."""

    n: int
    at_s: int
    who: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    hash: str


def current_user() -> str:
    """Who does it: the login behind sudo where there is one, at this machine."""
    name = os.environ.get("SUDO_USER") or _login()
    return f"{name}@{socket.gethostname()}"


def record(
    connection: sqlite3.Connection,
    action: str,
    subject: str,
    detail: Mapping[str, Any],
    *,
    who: str,
    now_s: int,
) -> None:
    """Add an entry, in the caller's transaction. No secret belongs into `detail`."""
    last = connection.execute("SELECT n, hash FROM audit ORDER BY n DESC LIMIT 1").fetchone()
    n, prev = (last[0] + 1, last[1]) if last else (1, FIRST)
    text = json.dumps(detail, sort_keys=True)
    fields = (n, now_s, who, action, subject, text, prev)
    connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*fields, _hash(fields)))


def verify_chain(connection: sqlite3.Connection) -> Iterator[Entry]:
    """Every entry in order, each verified.

    Raises:
        KeyFileError: an entry was changed, is missing or was put in; names its number.
    """
    prev, expected = FIRST, 1
    for *fields, found in connection.execute("SELECT * FROM audit ORDER BY n"):
        if fields[0] != expected or fields[6] != prev or _hash(tuple(fields)) != found:
            raise KeyFileError(
                f"registry: the audit is broken at entry {expected}: somebody changed the file itself; compare "
                "it with a backup"
            )
        n, at_s, who, action, subject, text, _ = fields
        yield Entry(n, at_s, who, action, subject, json.loads(text), found)
        prev, expected = found, expected + 1


def _hash(fields: tuple[Any, ...]) -> str:
    """SHA-256 over the fields as a JSON list, which is the same wherever it is computed again."""
    return hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode()).hexdigest()


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return f"uid {os.getuid()}"
