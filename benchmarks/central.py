"""How many events a second the server verifies and stores, how soon it receipts, how quickly it answers.

500 boards connect over TLS with certificates of their own and send tokens that were signed
beforehand; broker, consumers and database share the machine's cores with them. A board has
at most WINDOW events unreceipted, so that in all 500 × WINDOW are on their way at any time.
`receipt_p99_s` takes the runs on both databases; `who_was_in_ms` the database that answers more slowly.
`sqlite_bytes_per_event` and `postgresql_bytes_per_event` are what each of the million events that it
is asked about takes with its indexes, beside the token itself.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sqlalchemy import Connection, Engine, text, update

from benchmarks.crowd import Load, drive
from benchmarks.crowd_site import broker, consumer, crowd, make_site
from benchmarks.run import main, note
from benchmarks.site import now_ms
from central.ledger import begin_chains
from central.query import Span, who_was_in
from central.store import tables
from central.store.database import migrate, open_database, reading, writing
from central.store.statements import insert_new
from demo.central import consuming
from demo.postgresql import cluster, programs
from edge.evaluate.figures import Figure, one

BOARDS = 500
EVENTS = 60
"""Of each board."""
WINDOW = 4
CONSUMERS = 1
"""Processes of `hadir-central run`."""
TIMEOUT_S = 120.0

PEOPLE, DAYS = 2000, 250
"""A million events: each person in and out on 250 working days."""
DAY_MS = 86_400_000
STORED_FROM_MS = 1_764_000_000_000 // DAY_MS * DAY_MS
ASKED = 20
TOKEN_BYTES = 1100

STORED = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    "postgresql": "SELECT pg_total_relation_size('event')",
}
"""Bytes of all stored events with their indexes, as each database counts them."""


def measure(runs: int) -> Mapping[str, Figure]:
    """Both databases, one after the other, in each run; each run with new chains and new databases."""
    rates: dict[str, list[float]] = {"sqlite": [], "postgresql": []}
    latencies = []
    for run in range(runs):
        for database, measured in rates.items():
            note(f"run {run + 1} of {runs}: {database}")
            load = loaded(database)
            measured.append(load.events / load.elapsed_s)
            latencies.append(percentile(load.latencies_s, 0.99))
    note(f"{2 * PEOPLE * DAYS:,} events")
    stored = {database: answering(database) for database in rates}
    return {
        "sqlite_events_per_s": Figure("1/s", tuple(rates["sqlite"])),
        "postgresql_events_per_s": Figure("1/s", tuple(rates["postgresql"])),
        "receipt_p99_s": Figure("s", tuple(latencies)),
        "who_was_in_ms": Figure("ms", max((found.answers_ms for found in stored.values()), key=median)),
    } | {
        f"{database}_bytes_per_event": one(found.bytes_per_event, "bytes")
        for database, found in stored.items()
    }


@dataclass(frozen=True, slots=True)
class Answers:
    """Of a database with a million events."""

    answers_ms: tuple[float, ...]
    bytes_per_event: float
    """Beside the token."""


def loaded(database: str) -> Load:
    """One run on this database."""
    with tempfile.TemporaryDirectory(prefix="hadir-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # the broker's user is another where root measures
        site = make_site(folder, BOARDS, EVENTS)
        url = stack.enter_context(broker(site, CONSUMERS))
        database_url = stack.enter_context(empty_database(database))
        for number in range(1, CONSUMERS + 1):
            stack.enter_context(consuming(consumer(site, f"central-{number}", url, database_url)))
        boards = crowd(site, url)
        for board in boards:
            stack.callback(board.stream.close)
        return drive(boards, WINDOW, TIMEOUT_S)


def answering(database: str) -> Answers:
    """First in and last out of everybody on one of many days, in the middle of a million stored events."""
    with tempfile.TemporaryDirectory(prefix="hadir-bench-") as name, ExitStack() as stack:
        engine = open_database(stack.enter_context(empty_database(database)), Path(name))
        stack.callback(engine.dispose)
        migrate(engine)
        with writing(engine) as connection:
            fill(connection)
        span = Span(STORED_FROM_MS + DAYS // 2 * DAY_MS, STORED_FROM_MS + (DAYS // 2 + 1) * DAY_MS)
        with reading(engine) as connection:
            stored_bytes = connection.execute(text(STORED[database])).scalar_one()
        answers_ms = tuple(asked(engine, span) for _ in range(ASKED))
        return Answers(answers_ms, stored_bytes / (2 * PEOPLE * DAYS) - TOKEN_BYTES)


@contextmanager
def empty_database(kind: str) -> Iterator[str]:
    """The URL of a new database; SQLite's lies in the folder of whoever opens it."""
    if kind == "sqlite":
        yield "sqlite:///central.db"
        return
    found = programs()
    if found is None:
        raise RuntimeError("PostgreSQL is not installed (apt install postgresql)")
    with cluster(found) as running:
        yield running.new_database()


def fill(connection: Connection) -> None:
    """DAYS of PEOPLE who come in the morning and go in the evening, by one chain; nothing of it is signed."""
    chain = begin_chains(connection, [("door-0001", "A" * 22)], STORED_FROM_MS)["door-0001", "A" * 22]
    seq = 0
    for number in range(DAYS):
        rows = []
        for hours, direction in ((8, "in"), (17, "out")):
            for person in range(PEOPLE):
                seq += 1
                at_ms = STORED_FROM_MS + number * DAY_MS + hours * 3_600_000 + person * 1000
                rows.append(stored_row(chain, seq, f"E{person:05d}", direction, at_ms))
        insert_new(connection, tables.event, rows, ["seq"])
    connection.execute(update(tables.chain).values(seq=seq, hash="h" * 43))


def stored_row(chain: int, seq: int, person: str, direction: str, at_ms: int) -> dict[str, object]:
    """As the server would store it, with what the answer does not ask for made up."""
    return {
        "chain_id": chain,
        "seq": seq,
        "hash": "h" * 43,
        "prev": "h" * 43,
        "token": "t" * TOKEN_BYTES,
        "type": "attendance",
        "person": person,
        "direction": direction,
        "boot": "boot",
        "mono_ms": seq,
        "clock": "synced",
        "at_ms": at_ms,
        "quality": "synced",
        "arrived_ms": at_ms + 50,
    }


def asked(engine: Engine, span: Span) -> float:
    """Milliseconds of one answer, from a connection of the pool to the last row."""
    begin = now_ms()
    with reading(engine) as connection:
        found = who_was_in(connection, span)
    if len(found) != PEOPLE:
        raise RuntimeError(f"{len(found)} people were in, {PEOPLE} expected")
    return now_ms() - begin


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


if __name__ == "__main__":
    main("central", measure)
