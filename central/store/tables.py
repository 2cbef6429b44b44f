"""The tables, as SQLAlchemy Core has them; `migrations/` makes them.

Times named `_ms` are milliseconds since 1970 by this server's clock, but for `at_ms`, which
is when an event happened as well as that is known. `chain_id` stands for a device's chain.
Nothing but the opaque id says who somebody is.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up only what is called INTEGER."""


def _partial_index(name: str, condition: str, *columns: str) -> Index:
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


chain = Table(
    "chain",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("device", Text, nullable=False),
    Column("chain", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),  # how far it was followed: `central.chain.Head`
    Column("hash", Text),
    Column("linked", Boolean, nullable=False),
    Column("low", BigInteger, nullable=False),
    Column("held_from", BigInteger),
    Column("waiting", BigInteger, nullable=False),  # stored events beyond `seq`
    Column("waiting_since_ms", BigInteger),  # since when `seq` + 1 is waited for
    Column("refused", BigInteger, nullable=False),  # rows of `gone` with this reason: receipts name them
    Column("begun_ms", BigInteger, nullable=False),
    UniqueConstraint("device", "chain", name="chain_identity"),
)
"""One row a chain; the row that is locked while its events are put in order."""

event = Table(
    "event",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("prev", Text),
    Column("token", Text, nullable=False),  # the bytes as they were signed
    Column("type", Text, nullable=False),
    Column("person", Text),
    Column("direction", Text),
    Column("boot", Text, nullable=False),
    Column("mono_ms", BigInteger, nullable=False),
    Column("clock", Text, nullable=False),
    Column("at_ms", BigInteger),
    Column("err_ms", BigInteger),
    Column("quality", Text),  # `central.times.Quality`; None while nothing dates it
    Column("was_chain", Text),
    Column("was_seq", BigInteger),
    Column("arrived_ms", BigInteger, nullable=False),
    # Holds all that first in and last out ask for, so that a day is read from the index alone.
    _partial_index(
        "event_person_at", "person IS NOT NULL", "at_ms", "person", "direction", "chain_id", "seq"
    ),
    Index("event_arrived", "arrived_ms"),
    _partial_index("event_was", "was_chain IS NOT NULL", "was_chain", "was_seq"),
    _partial_index("event_unsynced", "clock <> 'synced'", "boot"),
    _partial_index("event_undated", "at_ms IS NULL", "arrived_ms"),
)
"""Every event whose signature, owner and claims hold, in its place; the chain's row says what is believed of it."""

gone = Table(
    "gone",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),  # lost, skipped, refused
    Column("hash", Text),
    Column("noted_ms", BigInteger, nullable=False),
)
"""Places without an event in `event`: lost for good, set aside by the board, or refused here."""

evidence = Table(
    "evidence",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("device", Text, nullable=False),  # of the topic; empty where that is no board's
    Column("topic", Text, nullable=False),
    Column("sha256", Text, nullable=False),  # of the whole payload
    Column("payload", LargeBinary, nullable=False),  # at most 4 KiB of it: all that an event can be
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("chain", Text),  # as the token says, which proves nothing
    Column("seq", BigInteger),
    Column("hash", Text),
    Column("arrived_ms", BigInteger, nullable=False),
    Column("released", BigInteger),  # `release.id`
    UniqueConstraint("device", "sha256", "reason", name="evidence_identity"),
    Index("evidence_place", "device", "chain", "seq"),
)
"""What is stored and not believed, byte for byte, with the reason."""

alert = Table(
    "alert",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("chain", Text, primary_key=True),  # empty where it is about no chain
    Column("seq", BigInteger, primary_key=True),  # 0 where it is about no place
    Column("detail", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("evidence", BigInteger),  # `evidence.id` of the latest
    Column("closed_ms", BigInteger),
    Column("closed_why", Text),
)
"""What a person must look at; closed by a person, or by the facts."""

clock = Table(
    "clock",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("device", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("mono_ms", BigInteger, nullable=False),
    Column("real_ms", BigInteger, nullable=False),
    Column("err_ms", BigInteger, nullable=False),
    Index("clock_boot", "device", "boot"),
)
"""What `clock:1` said while synchronised: from it the other events of that boot are dated."""

handover = Table(
    "handover",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("old_kid", Text, nullable=False),
    Column("new_jwk", Text, nullable=False),  # JSON
)
"""What `key:1` said: from the next place on, the new key speaks for this chain."""

board = Table(
    "board",
    metadata,
    Column("device", Text, primary_key=True),
    Column("state", Text),
    Column("boot", Text),
    Column("conn", BigInteger),
    Column("status", Text),  # JSON, as it came
    Column("status_ms", BigInteger),
    Column("health", Text),
    Column("health_ms", BigInteger),
)
"""What each board last said of itself, unsigned."""

head = Table(
    "head",
    metadata,
    Column("device", Text, primary_key=True),
    Column("chain", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", Text),
    Column("issued_s", BigInteger, nullable=False),
    Column("token", Text, nullable=False),
    Column("told_ms", BigInteger, nullable=False),
)
"""The furthest head of each chain that its board has signed: what there must be."""

revocation = Table(
    "revocation",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("chain_id", BigInteger, primary_key=True),  # 0 where the board has none
    Column("device", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("noted_ms", BigInteger, nullable=False),
)
"""Up to where each chain of its board was stored when a key was found revoked; what arrives later waits."""

registry_taken = Table(
    "registry_taken",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("taken_ms", BigInteger, nullable=False),
)
"""Which versions of `devices.jwks` each consumer has worked with: it does not go back to an older one."""

release = Table(
    "release",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("device", Text, nullable=False),
    Column("chain", Text, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("released_ms", BigInteger, nullable=False),
)
"""A person's word that the tokens of a range count: out of quarantine, or past a fork."""

word = Table(
    "word",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("said_ms", BigInteger, nullable=False),
)
"""A person's word on when an event happened that no clock dates; the latest stands in `event` too."""
