"""Yesterday's copy of the database is brought back: what is missing is listed board by board, and comes again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from central.prove import prove
from central.reconcile import Missing, reconcile
from central.store.database import reading
from tests.databases import opened
from tests.office import Chain, Office, register

Copy = Callable[[], str]
"""Copies the database as it is now; what it returns opens the copy."""


def missing(office: Office) -> list[Missing]:
    with reading(office.engine) as connection:
        return list(reconcile(connection))


@pytest.fixture
def copy(request: pytest.FixtureRequest, database: Engine, database_url: str, tmp_path: Path) -> Copy:
    def copied() -> str:
        database.dispose()  # nobody is connected, and SQLite's log is in its file
        if database_url.startswith("sqlite"):
            shutil.copy(tmp_path / "central.db", tmp_path / "yesterday.db")
            return "sqlite:///yesterday.db"
        url: str = request.getfixturevalue("postgresql").new_database(copy_of=database_url)
        return url

    return copied


def test_what_a_restored_database_lacks_is_listed_and_fills_when_boards_send_it_again(
    database: Engine, copy: Copy, tmp_path: Path
) -> None:
    quiet, busy, new = Chain("door-01"), Chain("door-02", chain="B" * 22), Chain("door-03", chain="C" * 22)
    office = Office(database, register(tmp_path / "devices.jwks", quiet, busy, new))
    office.take(quiet.start(), quiet.attend(), busy.start(), busy.attend())
    yesterday = copy()
    office.take(busy.attend(), busy.attend(), new.start(), new.attend())
    assert missing(office) == []
    with opened(yesterday, tmp_path) as engine:
        restored = Office(engine, office.devices)
        restored.take(quiet.status(), busy.status(), new.status())
        assert [
            (one.device, one.stored_seq, one.head_seq, one.ranges, one.resend_from)
            for one in missing(restored)
        ] == [
            ("door-02", 2, 4, (range(3, 5),), 3),
            ("door-03", 0, 2, (range(1, 3),), 1),
        ]
        restored.take(*(busy.message(seq) for seq in (3, 4)), *(new.message(seq) for seq in (1, 2)))
        assert missing(restored) == []
        with reading(engine) as connection:
            assert all(proof.whole for proof in prove(connection, restored.keyring.registry))


def test_what_a_board_has_archived_already_is_lost_only_until_it_sends_it_again(
    database: Engine, copy: Copy, tmp_path: Path
) -> None:
    """Everything was receipted, so that its next event says that it holds nothing before."""
    chain = Chain()
    office = Office(database, register(tmp_path / "devices.jwks", chain))
    office.take(chain.start(), chain.attend())
    yesterday = copy()
    office.take(chain.attend(), chain.attend())
    with opened(yesterday, tmp_path) as engine:
        restored = Office(engine, office.devices)
        chain.low = 5
        restored.take(chain.attend())
        assert restored.alerts() == [("lost", "door-01", 3)]
        assert [(one.ranges, one.resend_from) for one in missing(restored)] == [((range(3, 5),), 3)]
        restored.take(chain.message(4), chain.message(3))
        assert (restored.alerts(), missing(restored)) == ([], [])
        assert [belief for _, _, belief in restored.beliefs()] == ["counted"] * 5


def test_a_gap_and_another_history_are_listed_too(database: Engine, tmp_path: Path) -> None:
    chain = Chain()
    office = Office(database, register(tmp_path / "devices.jwks", chain))
    start, _, third = chain.start(), chain.attend(), chain.attend()
    office.take(start, third)
    (gap,) = missing(office)
    assert (gap.head_seq, gap.ranges, gap.other_history) == (None, (range(2, 3),), False)
    clone = Chain(key=chain.key, tokens=chain.tokens[:2])
    clone.attend("E9")
    office.take(chain.message(2), clone.status())
    (other,) = missing(office)
    assert (other.ranges, other.resend_from, other.other_history) == ((), None, True)


def test_one_board_may_be_asked_about_alone(database: Engine, tmp_path: Path) -> None:
    one, two = Chain("door-01"), Chain("door-02", chain="B" * 22)
    office = Office(database, register(tmp_path / "devices.jwks", one, two))
    for chain in (one, two):
        chain.start()
        office.take(chain.status())
    with reading(office.engine) as connection:
        assert [found.device for found in reconcile(connection, "door-02")] == ["door-02"]
