"""The registry's tables, and how a file of an earlier program comes to have them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edge.errors import KeyFileError
from provisioning import audit

SCHEMA_VERSION = 2
"""In `PRAGMA user_version`; a registry of a later program is refused, of an earlier one migrated."""

BUSY_TIMEOUT_S = 30.0
"""How long a command waits for another one's transaction."""

SCHEMA = (
    """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TRIGGER counters_only_rise BEFORE UPDATE ON counters WHEN new.value < old.value
    BEGIN SELECT RAISE(ABORT, 'a counter only rises'); END;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE devices (
    device TEXT PRIMARY KEY,
    site TEXT NOT NULL,
    direction TEXT NOT NULL,
    label TEXT NOT NULL,
    settings TEXT NOT NULL,
    added_s INTEGER NOT NULL,
    revoked_s INTEGER
) STRICT;
CREATE TABLE keys (
    kid TEXT PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices,
    jwk TEXT NOT NULL,
    sealing TEXT,
    protection TEXT,
    chain TEXT,
    first_seq INTEGER,
    last_seq INTEGER,
    added_s INTEGER NOT NULL,
    revoked_s INTEGER
) STRICT;
CREATE INDEX keys_of_device ON keys (device);
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    pem TEXT NOT NULL,
    not_after_s INTEGER NOT NULL,
    issued_s INTEGER NOT NULL,
    revoked_s INTEGER
) STRICT;
CREATE INDEX certificates_of_name ON certificates (name);
CREATE TABLE consumers (
    name TEXT PRIMARY KEY,
    added_s INTEGER NOT NULL,
    revoked_s INTEGER
) STRICT;
CREATE TABLE claims (
    claim TEXT PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices,
    purpose TEXT NOT NULL,
    state TEXT NOT NULL,
    secret BLOB NOT NULL,
    password TEXT NOT NULL,
    made_s INTEGER NOT NULL,
    expires_s INTEGER NOT NULL,
    request TEXT,
    request_kid TEXT,
    response BLOB,
    used_s INTEGER,
    alert TEXT
) STRICT;
CREATE INDEX claims_of_device ON claims (device);
"""
    + audit.SCHEMA,
    """
CREATE TABLE commands (
    jti TEXT PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices,
    n INTEGER NOT NULL,
    name TEXT NOT NULL,
    token TEXT NOT NULL,
    given_s INTEGER NOT NULL,
    expires_s INTEGER NOT NULL,
    status TEXT,
    reason TEXT,
    result TEXT,
    answered_s INTEGER
) STRICT;
CREATE UNIQUE INDEX commands_of_device ON commands (device, n);
""",
)
"""What brings a registry from version n to n + 1, at index n."""


def connect(path: Path) -> sqlite3.Connection:
    """An open registry, brought up to date. Raises KeyFileError where it is missing, damaged or of a later program."""
    try:
        connection = sqlite3.connect(
            f"file:{path}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
        )
        try:
            (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            _migrate(connection, path)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise KeyFileError(
            f"{path}: the registry cannot be used ({error}); restore the fleet from a backup"
        ) from error
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise KeyFileError(
            f"{path}: made by a later version of hadir-provision (schema {version}, this one knows {SCHEMA_VERSION}); "
            "install that one"
        )
    for number in range(version, SCHEMA_VERSION):
        connection.executescript(f"BEGIN; {SCHEMA[number]}; PRAGMA user_version = {number + 1}; COMMIT;")
