"""`verify` walks every chain from the stored bytes: whatever was changed in the database, it says where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, update

from central.prove import MAX_PROBLEMS, Proof, prove
from central.store import tables
from central.store.database import reading, writing
from central.words import Range, Word, release
from tests.office import NOW_MS, UNSYNCED, Chain, Office, message, register
from tests.test_central import altered

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "person": ({"person": "E9999"}, "person is not what the token says"),
    "time": ({"at_ms": NOW_MS - 3_600_000}, "at_ms is not what the token says"),
    "direction": ({"direction": "out"}, "direction is not what the token says"),
    "type": ({"type": "start"}, "type is not what the token says"),
    "hash": ({"hash": "h" * 43}, "hash is not what the token says"),
    "prev": ({"prev": "h" * 43}, "prev is not what the token says"),
    "boot": ({"boot": "boot-9"}, "boot is not what the token says"),
    "rubbish": ({"token": "a.b.c"}, "malformed"),
    "clock": ({"clock": "unsynced"}, "clock is not what the token says"),
}


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def office(database: Engine, chain: Chain, tmp_path: Path) -> Office:
    """With five events of one board stored."""
    office = Office(database, register(tmp_path / "devices.jwks", chain))
    office.take(chain.start(), *(chain.attend(f"E{number}") for number in range(4)))
    return office


def proven(office: Office, device: str | None = None) -> list[Proof]:
    with reading(office.engine) as connection:
        return list(prove(connection, office.keyring.registry, device))


def change(office: Office, seq: int, **values: Any) -> None:
    """As somebody with the database's password would."""
    with writing(office.engine) as connection:
        connection.execute(update(tables.event).where(tables.event.c.seq == seq).values(**values))


def test_an_untouched_chain_is_whole(office: Office) -> None:
    (proof,) = proven(office)
    assert (proof.whole, proof.events, proof.first_seq, proof.last_seq, proof.gone) == (True, 5, 1, 5, 0)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_column_is_found_at_its_place(office: Office, kind: str) -> None:
    values, said = CHANGES[kind]
    change(office, 3, **values)
    (proof,) = proven(office)
    assert any(problem.startswith("seq 3: ") and said in problem for problem in proof.problems), (
        proof.problems
    )


def test_an_altered_token_with_columns_to_match_is_found(office: Office, chain: Chain) -> None:
    chain.attend()
    office.take(chain.message(6))
    change(office, 6, token=altered(chain.tokens[5].compact), person="E9999")
    (proof,) = proven(office)
    assert proof.problems == ["seq 6: bad-signature: the signature does not fit"]


def test_a_deleted_event_is_found(office: Office) -> None:
    with writing(office.engine) as connection:
        connection.execute(delete(tables.event).where(tables.event.c.seq == 3))
    (proof,) = proven(office)
    assert proof.problems == ["seq 3 to 3: missing, and nothing says why"]


def test_a_deleted_end_is_found(office: Office) -> None:
    with writing(office.engine) as connection:
        connection.execute(delete(tables.event).where(tables.event.c.seq >= 4))
    assert proven(office)[0].problems == ["seq 4 to 5: missing, and nothing says why"]


def test_an_end_that_was_deleted_with_all_traces_shows_in_the_boards_signed_head(
    office: Office, chain: Chain
) -> None:
    office.take(chain.status())
    with writing(office.engine) as connection:
        connection.execute(delete(tables.event).where(tables.event.c.seq >= 4))
        connection.execute(update(tables.chain).values(seq=3, hash=chain.tokens[2].hash))
    (proof,) = proven(office)
    assert (proof.whole, proof.last_seq, proof.signed_seq) == (True, 3, 5)


def test_an_exchanged_history_is_found(office: Office, chain: Chain) -> None:
    """Signed by the board's own key, as only a thief of it could."""
    other = Chain(key=chain.key, tokens=chain.tokens[:2])
    other.attend("E9999")
    change(office, 3, token=other.tokens[2].compact, hash=other.tokens[2].hash, person="E9999")
    assert proven(office)[0].problems == ["seq 4: prev is not the hash of the event before it"]


def test_another_hash_in_the_chains_row_is_found(office: Office) -> None:
    with writing(office.engine) as connection:
        connection.execute(update(tables.chain).values(hash="h" * 43))
    assert proven(office)[0].problems == ["seq 5: the chain's row has another hash"]


def test_a_head_that_the_board_signed_binds(office: Office, chain: Chain) -> None:
    clone = Chain(key=chain.key, tokens=chain.tokens[:4])
    clone.attend("E77")
    office.take(clone.status())
    assert proven(office)[0].problems == ["seq 5: the board has signed another hash for this place"]


def test_what_is_accounted_for_is_no_hole(office: Office, chain: Chain) -> None:
    chain.attend()
    office.take(message(chain.device, altered(chain.tokens[5].compact)))
    chain.attend()
    chain.low = 8
    office.take(chain.attend())
    (proof,) = proven(office)
    assert (proof.problems, proof.events, proof.last_seq, proof.gone) == ([], 6, 8, 2)


def test_a_fork_is_not_whole_until_a_person_has_decided(office: Office, chain: Chain) -> None:
    clone = Chain(key=chain.key, tokens=chain.tokens[:4])
    office.take(clone.attend("E77"))
    (proof,) = proven(office)
    assert proof.problems == ["seq 5: a fork or a break; from here on nothing is counted, see the alerts"]
    with writing(office.engine) as connection:
        word = Word("Ada", "the clone was destroyed", NOW_MS)
        release(connection, office.keyring.registry, Range(chain.device, chain.chain, 5), word)
    assert proven(office)[0].whole


def test_corrected_times_are_no_contradiction(office: Office) -> None:
    other = Chain("door-02", chain="B" * 22, clock=UNSYNCED, real_ms=0)
    register(office.devices, other)
    office.look_around()
    office.take(other.start(), other.set_clock(NOW_MS))
    (proof,) = proven(office, "door-02")
    assert (proof.problems, proof.events) == ([], 2)


def test_a_key_that_is_registered_no_longer_is_said(office: Office) -> None:
    register(office.devices, Chain("door-09"))
    office.look_around()
    (proof,) = proven(office)
    assert len(proof.problems) == 5
    assert "unknown-key" in proof.problems[0]


def test_what_was_revoked_later_stays_proven(office: Office, chain: Chain) -> None:
    register(office.devices, chain, revoked_at=1_764_000_000)
    office.look_around()
    assert proven(office)[0].whole


def test_very_many_problems_are_counted(office: Office, chain: Chain) -> None:
    office.take(*(chain.attend() for _ in range(30)))
    with writing(office.engine) as connection:
        connection.execute(update(tables.event).values(boot="changed"))
    (proof,) = proven(office)
    assert (len(proof.problems), proof.more) == (MAX_PROBLEMS, 15)
