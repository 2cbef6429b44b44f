"""The chains in the database: what any number of consumers store in any order ends as one history."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select

from central.chain import Verdict
from central.evidence import Alert
from central.ledger import Outcome, begin_chains, store
from central.store import tables
from central.store.database import reading, writing
from central.verify import Received
from tests.test_watch import CHAIN, NOW_S, hash_of, token

NOW_MS = round(NOW_S * 1000)


def take(database: Engine, *batch: Received, now_ms: int = NOW_MS) -> Outcome:
    """Store these in one batch."""
    keys = {(one.device, one.event.chain) for one in batch}
    with writing(database) as connection:
        ids = begin_chains(connection, keys, now_ms)
    with writing(database) as connection:
        return store(connection, ids, batch, [], now_ms)


def row(database: Engine, device: str = "door-01", chain: str = CHAIN) -> dict[str, object]:
    """The chain's row."""
    statement = select(tables.chain).where(tables.chain.c.device == device, tables.chain.c.chain == chain)
    with reading(database) as connection:
        return dict(connection.execute(statement).one()._mapping)


def alerts(database: Engine, *, closed: bool = False) -> list[tuple[str, int]]:
    """Kind and place of the alerts that are open, or closed."""
    alert = tables.alert.c
    is_open = alert.closed_ms.is_not(None) if closed else alert.closed_ms.is_(None)
    with reading(database) as connection:
        return sorted(
            (kind, seq) for kind, seq in connection.execute(select(alert.kind, alert.seq).where(is_open))
        )


def test_a_batch_in_order_moves_the_head_and_owes_a_receipt(database: Engine) -> None:
    outcome = take(database, token(1), token(2), token(3))
    assert outcome.verdicts[Verdict.COUNTED] == 3
    assert [(due.seq, due.hash) for due in outcome.due] == [(3, hash_of(3))]
    assert (row(database)["seq"], row(database)["hash"], row(database)["waiting"]) == (3, hash_of(3), 0)


def test_what_comes_too_early_waits_and_nothing_beyond_the_gap_is_receipted(database: Engine) -> None:
    outcome = take(database, token(1), token(3), token(4))
    assert [due.seq for due in outcome.due] == [1]
    assert (outcome.verdicts[Verdict.WAITING], row(database)["waiting"]) == (2, 2)
    outcome = take(database, token(2))
    assert [due.seq for due in outcome.due] == [4]
    assert (outcome.verdicts[Verdict.COUNTED], row(database)["waiting"]) == (3, 0)


def test_what_comes_again_is_stored_once_and_receipted_again(database: Engine) -> None:
    take(database, token(1), token(2))
    outcome = take(database, token(1), token(1))
    assert outcome.verdicts[Verdict.REDELIVERED] == 2
    assert [due.seq for due in outcome.due] == [2]
    assert alerts(database) == []


@pytest.mark.parametrize("apart", [True, False])
def test_another_token_in_a_place_is_a_fork_both_are_kept_and_what_follows_is_held(
    database: Engine, apart: bool
) -> None:
    if apart:
        take(database, token(1), token(2))
        take(database, token(2, story="clone"))
    else:
        take(database, token(1), token(2), token(2, story="clone"))
    assert take(database, token(3)).verdicts == {Verdict.HELD: 1, Verdict.WAITING: 0}
    assert row(database)["held_from"] == 2
    assert alerts(database) == [(Alert.FORK, 2)]
    with reading(database) as connection:
        kept = connection.execute(select(tables.evidence.c.seq, tables.evidence.c.hash)).all()
    assert [tuple(one) for one in kept] == [(2, hash_of(2, "clone"))]


def test_a_prev_that_does_not_fit_is_held_and_alerted(database: Engine) -> None:
    outcome = take(database, token(1), token(2, after="rewritten"), token(3))
    assert (outcome.verdicts[Verdict.BROKEN], outcome.verdicts[Verdict.HELD]) == (1, 1)
    assert [due.seq for due in outcome.due] == [3], "stored is not believed, and no outbox wedges"
    assert alerts(database) == [(Alert.ALTERED, 2)]


def test_what_the_board_says_is_gone_is_a_lost_row_and_the_head_moves_on(database: Engine) -> None:
    outcome = take(database, token(1), token(5, low=5))
    assert [due.seq for due in outcome.due] == [5]
    assert alerts(database) == [(Alert.LOST, 2)]
    with reading(database) as connection:
        lost = connection.execute(select(tables.gone.c.first_seq, tables.gone.c.last_seq)).all()
    assert [tuple(one) for one in lost] == [(2, 4)]


def test_what_was_lost_and_comes_after_all_is_counted_and_the_alert_closes(database: Engine) -> None:
    take(database, token(1), token(5, low=5))
    for seq in (3, 4, 2):
        assert take(database, token(seq)).verdicts[Verdict.COUNTED] == 1
    assert (alerts(database), alerts(database, closed=True)) == ([], [(Alert.LOST, 2)])
    with reading(database) as connection:
        assert connection.execute(select(tables.gone)).all() == []


def test_what_comes_late_must_fit_between_its_neighbours(database: Engine) -> None:
    take(database, token(1), token(2), token(6, low=6))
    assert take(database, token(5, story="forged")).verdicts[Verdict.HELD] == 1
    assert row(database)["held_from"] == 5
    assert (Alert.ALTERED, 5) in alerts(database)


def test_a_day_that_waited_for_one_event_is_followed_to_its_end(database: Engine) -> None:
    """By pages: once, `low` made the chain step over what it had only not read yet."""
    last = 2501
    take(database, *(token(seq, low=2) for seq in range(3, last + 1)), token(1))
    outcome = take(database, token(2, low=2))
    assert [due.seq for due in outcome.due] == [last]
    assert (row(database)["waiting"], alerts(database)) == (0, [])


def test_low_does_not_lose_what_waits_on_another_page(database: Engine) -> None:
    last = 2501
    take(database, token(1), *(token(seq) for seq in range(3, last + 1)))
    outcome = take(database, token(last + 1, low=last + 1))
    assert [due.seq for due in outcome.due] == [last + 1]
    assert alerts(database) == [(Alert.LOST, 2)]
