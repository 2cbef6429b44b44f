"""Statements that the two databases spell differently, and what several modules ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from central.store.database import is_postgresql
from central.store.tables import chain

Values = Mapping[str, Any]

MAX_ROWS = 1000
"""In one statement: SQLite takes 32,766 values in all (sqlite.org/limits.html)."""


def insert_new(
    connection: Connection, table: Table, rows: Sequence[Values], returning: Sequence[str]
) -> list[Row[Any]]:
    """Insert what is not there yet; these columns of what was inserted, in no order."""
    if not rows:
        return []
    columns = [table.c[name] for name in returning]
    if not is_postgresql(connection):
        statement = sqlite.insert(table).on_conflict_do_nothing().returning(*columns)
        return list(connection.execute(statement, rows))
    names = list(rows[0])
    # One array a column: a statement of one length, however many rows, which is prepared once.
    arrays = [func.unnest(bindparam(name, type_=postgresql.ARRAY(table.c[name].type))) for name in names]
    insert = postgresql.insert(table).from_select(names, select(*arrays))
    values = {name: [row[name] for row in rows] for name in names}
    return list(connection.execute(insert.on_conflict_do_nothing().returning(*columns), values))


def insert_or(
    connection: Connection, table: Table, rows: Sequence[Values], update: Mapping[str, Any]
) -> None:
    """Insert, or change these columns of what is there: each to an expression, or "excluded" for the new value."""
    if not rows:
        return
    statement = _insert(connection, table)
    changes = {
        name: statement.excluded[name] if isinstance(value, str) and value == "excluded" else value
        for name, value in update.items()
    }
    connection.execute(
        statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changes), rows
    )


def chain_ids(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The ids of these devices' chains, as far as they have been begun."""
    devices = {device for device, _ in wanted}
    rows = connection.execute(
        select(chain.c.device, chain.c.chain, chain.c.id).where(chain.c.device.in_(devices))
    )
    return {(device, name): number for device, name, number in rows}


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)
