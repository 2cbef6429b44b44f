"""What a server that has ended left in its database, read with plain SQLite and none of its own code."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Stored:
    """Its events, as `torture.verdict` judges them, and whatever else it has to say."""

    findings: tuple[Mapping[str, Any], ...]
    problems: tuple[str, ...]


def read_stored(path: Path) -> Stored:
    """Every event in the order of its chain, and what should not be there after honest boards."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    try:
        return Stored(tuple(_findings(database)), tuple(_problems(database)))
    finally:
        database.close()


def _findings(database: sqlite3.Connection) -> Iterator[Mapping[str, Any]]:
    rows = database.execute(
        "SELECT chain.chain, event.seq, event.hash, event.type, chain.seq AS head, chain.held_from"
        " FROM event JOIN chain ON chain.id = event.chain_id ORDER BY chain.id, event.seq"
    )
    for row in rows:
        in_order = row["seq"] <= row["head"]
        held = row["held_from"] is not None and row["seq"] >= row["held_from"]
        yield {
            "verdict": "held" if held else "counted" if in_order else "waiting",
            "believed": in_order and not held,
            "chain": row["chain"],
            "seq": row["seq"],
            "hash": row["hash"],
            "event": row["type"],
        }


def _problems(database: sqlite3.Connection) -> Iterator[str]:
    for row in database.execute("SELECT reason, count(*) AS count FROM evidence GROUP BY reason"):
        yield f"{row['count']} token(s) of honest boards are in the evidence table: {row['reason']}"
    for row in database.execute("SELECT reason, first_seq, last_seq FROM gone"):
        yield f"seq {row['first_seq']} to {row['last_seq']} is called {row['reason']}"
    for row in database.execute("SELECT kind, device, detail FROM alert WHERE closed_ms IS NULL"):
        yield f"an alert is open: {row['kind']} of {row['device']}: {row['detail']}"
