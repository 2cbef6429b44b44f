"""Chains: every event counted once and in order, and what does not fit told and held back."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.chain import GAP_ALERT_S, Verdict
from central.verify import Received
from central.watch import KEPT_GAPS, KEPT_HASHES, MAX_CHAINS, MAX_WAITING, Finding, Gap, Ledger
from edge.records import ClockState
from edge.trust.jws import encode_base64url
from edge.trust.tokens import ATTENDANCE, Event

CHAIN = "A" * 22
NOW_S = 1_764_000_000.0

COUNTED, REDELIVERED, WAITING = Verdict.COUNTED, Verdict.REDELIVERED, Verdict.WAITING
FORKED, BROKEN, HELD, OVERFLOWING = Verdict.FORKED, Verdict.BROKEN, Verdict.HELD, Verdict.OVERFLOWING


def hash_of(seq: int, story: str = "", chain: str = CHAIN) -> str:
    return encode_base64url(sha256(f"{chain} {seq} {story}".encode()).digest())


def token(
    seq: int,
    *,
    low: int = 1,
    story: str = "",
    after: str = "",
    chain: str = CHAIN,
    device: str = "door-01",
    at_s: float = NOW_S,
) -> Received:
    """An event as it was verified. `story` tells tokens of one place apart, `after` is that of the one before."""
    event = Event(
        issuer=f"urn:hadir:device:{device}",
        audience="urn:hadir:site:hq",
        issued_s=int(NOW_S),
        jti=f"{seq}",
        type=ATTENDANCE,
        chain=chain,
        seq=seq,
        prev=hash_of(seq - 1, after, chain) if seq > 1 else None,
        low=low,
        boot="boot",
        mono_ms=seq * 1000,
        clock=ClockState.SYNCED,
        err_ms=None,
        seen_s=NOW_S,
        person="E1042",
        payload={"direction": "in"},
    )
    return Received(device, "kid", event, f"h.{seq}.{story}", hash_of(seq, story, chain), at_s, False)


def told(findings: tuple[Finding, ...]) -> list[tuple[Verdict, int]]:
    return [(finding.verdict, finding.received.event.seq) for finding in findings]


def after(ledger: Ledger, *tokens: Received) -> list[tuple[Verdict, int]]:
    """What was told about the last of these."""
    findings: tuple[Finding, ...] = ()
    for received in tokens:
        findings = ledger.take(received)
    return told(findings)


def counted(ledger: Ledger, *tokens: Received) -> list[int]:
    """Which were counted, in the order in which they were."""
    findings = [finding for received in tokens for finding in ledger.take(received)]
    return [seq for verdict, seq in told(tuple(findings)) if verdict is COUNTED]


def test_what_comes_in_order_is_counted_in_order() -> None:
    ledger = Ledger()
    assert [after(ledger, token(seq)) for seq in (1, 2, 3)] == [
        [(COUNTED, 1)],
        [(COUNTED, 2)],
        [(COUNTED, 3)],
    ]
    assert (ledger.waiting_count(), ledger.lost_count(), ledger.gaps(NOW_S + 1e6)) == (0, 0, ())


def test_what_comes_again_is_counted_once_and_is_no_alarm() -> None:
    ledger = Ledger()
    assert counted(ledger, token(1), token(2), token(1), token(2), token(2)) == [1, 2]
    assert after(ledger, token(1)) == [(REDELIVERED, 1)]


def test_what_comes_again_while_it_waits_is_no_alarm() -> None:
    ledger = Ledger()
    assert after(ledger, token(3), token(3)) == [(REDELIVERED, 3)]
    assert ledger.waiting_count() == 1


def test_what_comes_too_early_waits_for_those_before_it() -> None:
    ledger = Ledger()
    assert after(ledger, token(3)) == [(WAITING, 3)]
    assert after(ledger, token(2)) == [(WAITING, 2)]
    assert ledger.waiting_count() == 2
    assert after(ledger, token(1)) == [(COUNTED, 1), (COUNTED, 2), (COUNTED, 3)]
    assert ledger.waiting_count() == 0


@given(st.data())
def test_any_order_with_repetitions_counts_every_event_once_and_in_order(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 12))
    repeated = data.draw(st.lists(st.integers(1, length), max_size=12))
    order = data.draw(st.permutations([*range(1, length + 1), *repeated]))
    ledger = Ledger()
    assert counted(ledger, *(token(seq) for seq in order)) == list(range(1, length + 1))
    assert (ledger.waiting_count(), ledger.lost_count()) == (0, 0)


@given(st.data())
def test_whatever_low_says_every_event_that_comes_is_counted_once(data: st.DataObject) -> None:
    """A board without receipts calls everything up to now acknowledged: `low` is then nearly its own seq."""
    length = data.draw(st.integers(1, 12))
    lows = [data.draw(st.integers(1, seq)) for seq in range(1, length + 1)]
    coming = data.draw(st.lists(st.integers(1, length), max_size=24))
    ledger = Ledger()
    seqs = counted(ledger, *(token(seq, low=lows[seq - 1]) for seq in coming))
    assert len(seqs) == len(set(seqs))
    assert len(seqs) + ledger.waiting_count() == len(set(coming))


@given(st.lists(st.tuples(st.integers(1, 8), st.sampled_from("abc"), st.sampled_from("abc")), max_size=30))
def test_no_place_is_ever_counted_twice(coming: list[tuple[int, str, str]]) -> None:
    ledger = Ledger()
    seqs = counted(ledger, *(token(seq, story=story, after=before) for seq, story, before in coming))
    assert len(seqs) == len(set(seqs))


def test_chains_and_boards_do_not_touch_each_other() -> None:
    ledger = Ledger()
    other = "B" * 22
    ledger.take(token(1))
    assert after(ledger, token(1, chain=other)) == [(COUNTED, 1)]
    assert after(ledger, token(1, device="door-02")) == [(COUNTED, 1)], "chain ids are no secret"
    ledger.take(token(9, low=9, device="door-02"))
    ledger.take(token(1, story="forged", device="door-02"))
    assert after(ledger, token(2)) == [(COUNTED, 2)], "neither `low` nor a fork of another board"


# Two histories of one chain


def test_another_token_in_a_counted_place_is_a_fork_and_not_counted() -> None:
    ledger = Ledger()
    assert after(ledger, token(1), token(2), token(2, story="forged")) == [(FORKED, 2)]


def test_a_fork_names_the_hash_that_was_there_first() -> None:
    ledger = Ledger()
    ledger.take(token(1))
    (finding,) = ledger.take(token(1, story="forged"))
    assert hash_of(1) in finding.detail


def test_after_a_fork_nothing_of_this_chain_is_counted_whoever_signed_it() -> None:
    ledger = Ledger()
    after(ledger, token(1), token(2), token(2, story="clone"))
    assert after(ledger, token(3)) == [(HELD, 3)], "the one that was here first may be the clone"
    assert after(ledger, token(3, story="clone", after="clone")) == [(FORKED, 3)]
    assert after(ledger, token(4, story="clone", after="clone")) == [(HELD, 4)]
    assert after(ledger, token(1)) == [(REDELIVERED, 1)]
    assert after(ledger, token(1, chain="B" * 22)) == [(COUNTED, 1)], "a new chain begins anew"


def test_a_fork_of_what_still_waits_holds_back_both() -> None:
    ledger = Ledger()
    assert after(ledger, token(1), token(3), token(3, story="clone")) == [(FORKED, 3)]
    assert after(ledger, token(2)) == [(COUNTED, 2), (HELD, 3)], "what precedes the fork is not in doubt"


def test_a_forked_token_that_comes_again_is_told_once() -> None:
    ledger = Ledger()
    after(ledger, token(1), token(1, story="clone"))
    (finding,) = ledger.take(token(1, story="clone"))
    assert (finding.verdict, finding.detail) == (REDELIVERED, "of a fork that was told before")
    assert after(ledger, token(1, story="another")) == [(FORKED, 1)]


def test_a_board_cannot_fill_the_memory_with_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has its key can sign one place without end; the oldest such token is forgotten and told anew."""
    monkeypatch.setattr("central.watch.KEPT_HASHES", 2)
    ledger = Ledger()
    ledger.take(token(1))
    clones = [token(1, story=f"clone {number}") for number in range(3)]
    assert [after(ledger, clone) for clone in clones] == [[(FORKED, 1)]] * 3
    assert after(ledger, clones[2]) == [(REDELIVERED, 1)]
    assert after(ledger, clones[0]) == [(FORKED, 1)]
    assert after(ledger, token(1)) == [(REDELIVERED, 1)], "and what was counted stays counted"


def test_a_prev_that_does_not_fit_is_not_counted_nor_is_what_follows() -> None:
    """Once, the next token after a broken one was counted again: one token was the price of a rewritten history."""
    ledger = Ledger()
    assert after(ledger, token(1), token(2, after="rewritten")) == [(BROKEN, 2)]
    assert after(ledger, token(3)) == [(HELD, 3)]
    assert after(ledger, token(2, story="right")) == [(FORKED, 2)], "the place is taken; a person decides"


def test_a_break_among_waiting_events_is_found_when_their_turn_comes() -> None:
    ledger = Ledger()
    findings = after(ledger, token(4), token(3, after="rewritten"), token(2), token(1))
    assert findings == [(COUNTED, 1), (COUNTED, 2), (BROKEN, 3), (HELD, 4)]


def test_what_is_held_does_not_pile_up() -> None:
    ledger = Ledger()
    after(ledger, token(1), token(1, story="clone"))
    for seq in range(2, 50):
        assert after(ledger, token(seq)) == [(HELD, seq)]
    assert ledger.waiting_count() == 0


# Lost events


def test_what_the_board_says_is_gone_for_good_is_stepped_over_and_counted_as_lost() -> None:
    ledger = Ledger()
    assert after(ledger, token(1), token(5, low=5)) == [(COUNTED, 5)]
    assert ledger.lost_count() == 3
    assert after(ledger, token(6)) == [(COUNTED, 6)]


def test_only_what_is_below_low_is_stepped_over() -> None:
    ledger = Ledger()
    assert after(ledger, token(1), token(8, low=5)) == [(WAITING, 8)]
    assert ledger.lost_count() == 3
    assert after(ledger, token(5), token(6), token(7)) == [(COUNTED, 7), (COUNTED, 8)]


def test_low_of_a_token_further_on_frees_those_that_wait() -> None:
    ledger = Ledger()
    after(ledger, token(1), token(4), token(5))
    assert after(ledger, token(9, low=4)) == [(COUNTED, 4), (COUNTED, 5), (WAITING, 9)]
    assert ledger.lost_count() == 2


def test_low_does_not_step_over_what_is_here() -> None:
    ledger = Ledger()
    assert after(ledger, token(2), token(3), token(5, low=5)) == [(COUNTED, 2), (COUNTED, 3), (COUNTED, 5)]
    assert ledger.lost_count() == 2


def test_after_a_loss_the_chain_goes_on_from_what_came_and_is_checked_again() -> None:
    ledger = Ledger()
    assert after(ledger, token(3, low=3), token(4, after="rewritten")) == [(BROKEN, 4)]


def test_what_was_given_up_for_lost_and_comes_after_all_is_counted() -> None:
    """Once, an event that a later one had overtaken on its way was dropped as if it had come before."""
    ledger = Ledger()
    after(ledger, token(1), token(6, low=6))
    (finding,) = ledger.take(token(3))
    assert (finding.verdict, finding.detail[:4], ledger.lost_count()) == (COUNTED, "late", 3)
    assert counted(ledger, token(3), token(5), token(4), token(2), token(5)) == [5, 4, 2]
    assert ledger.lost_count() == 0
    assert after(ledger, token(3, story="forged")) == [(FORKED, 3)]


@pytest.mark.parametrize(
    "forged", [token(5, story="forged"), token(3, after="rewritten")], ids=["end", "start"]
)
def test_what_comes_late_must_fit_between_its_neighbours(forged: Received) -> None:
    ledger = Ledger()
    after(ledger, token(1), token(2), token(6, low=6))
    assert after(ledger, forged) == [(BROKEN, forged.event.seq)]
    assert after(ledger, token(7)) == [(HELD, 7)]


def test_what_comes_late_must_fit_what_came_late_before_it() -> None:
    ledger = Ledger()
    assert after(ledger, token(1), token(6, low=6), token(4), token(3, story="forged")) == [(BROKEN, 3)]
    ledger = Ledger()
    assert after(ledger, token(1), token(6, low=6), token(3), token(4, after="rewritten")) == [(BROKEN, 4)]


def test_what_comes_late_after_the_place_of_a_fork_is_held() -> None:
    ledger = Ledger()
    after(ledger, token(1), token(1, story="clone"), token(6, low=6))
    assert after(ledger, token(4)) == [(HELD, 4)]


def test_a_leap_to_the_end_of_numbers_swallows_nothing_that_comes_after_all() -> None:
    """A stolen key signs the last seq there is and calls everything before it lost."""
    ledger = Ledger()
    ledger.take(token(1))
    end = 2**53 - 1
    ledger.take(token(end, low=end))
    assert ledger.lost_count() == end - 2
    assert counted(ledger, token(2), token(3)) == [2, 3]


# Gaps


def test_a_gap_is_told_after_a_minute_and_not_before() -> None:
    ledger = Ledger()
    after(ledger, token(1), token(5), token(7, at_s=NOW_S + 50))
    assert ledger.gaps(NOW_S + GAP_ALERT_S) == ()
    assert ledger.gaps(NOW_S + GAP_ALERT_S + 0.1) == (Gap("door-01", CHAIN, 2, 4, NOW_S),)


def test_a_gap_that_closes_in_time_is_not_told() -> None:
    ledger = Ledger()
    after(ledger, token(2), token(1, at_s=NOW_S + 59))
    assert ledger.gaps(NOW_S + 1000) == ()


def test_a_gap_that_is_being_filled_waits_anew() -> None:
    ledger = Ledger()
    after(ledger, token(4), token(1, at_s=NOW_S + 50))
    assert ledger.gaps(NOW_S + 100) == ()
    assert ledger.gaps(NOW_S + 111) == (Gap("door-01", CHAIN, 2, 3, NOW_S + 50),)


# Joining later


def test_who_joins_later_begins_at_the_first_event_seen() -> None:
    ledger = Ledger(join=True)
    assert after(ledger, token(100)) == [(COUNTED, 100)]
    assert after(ledger, token(102), token(101)) == [(COUNTED, 101), (COUNTED, 102)]
    assert after(ledger, token(103, after="rewritten")) == [(BROKEN, 103)]
    (finding,) = ledger.take(token(99))
    assert (finding.verdict, finding.detail) == (REDELIVERED, "older than what this ledger remembers")


def test_who_does_not_join_waits_for_the_beginning() -> None:
    assert after(Ledger(), token(100)) == [(WAITING, 100)]


# Bounds


def test_only_so_many_wait() -> None:
    ledger = Ledger()
    for seq in range(3, 3 + MAX_WAITING):
        ledger.take(token(seq))
    assert after(ledger, token(3 + MAX_WAITING)) == [(OVERFLOWING, 3 + MAX_WAITING)]
    assert ledger.waiting_count() == MAX_WAITING
    assert after(ledger, token(1, device="door-02")) == [(COUNTED, 1)], "other boards have room of their own"


def test_the_bound_does_not_shut_out_what_all_wait_for() -> None:
    """Once, a full chain refused the very event that would have freed it, and stood still for ever."""
    ledger = Ledger()
    for seq in range(2, 2 + MAX_WAITING):
        ledger.take(token(seq))
    findings = after(ledger, token(1))
    assert findings == [(COUNTED, seq) for seq in range(1, MAX_WAITING + 2)]
    assert ledger.waiting_count() == 0


def test_a_full_chain_still_learns_what_is_gone_for_good() -> None:
    """Once, `low` of a token that found no room was not read, and the chain stood still for ever."""
    ledger = Ledger()
    for seq in range(2, 2 + MAX_WAITING):
        ledger.take(token(seq))
    last = 2 + MAX_WAITING
    findings = after(ledger, token(last, low=2))
    assert findings == [(COUNTED, seq) for seq in range(2, last + 1)]
    assert ledger.lost_count() == 1


def test_a_board_cannot_begin_chains_without_end() -> None:
    ledger = Ledger()
    chains = [f"{number:022}" for number in range(MAX_CHAINS + 1)]
    for chain in chains[:-1]:
        assert after(ledger, token(1, chain=chain)) == [(COUNTED, 1)]
    assert after(ledger, token(1, chain=chains[-1])) == [(OVERFLOWING, 1)]
    assert after(ledger, token(2, chain=chains[0])) == [(COUNTED, 2)]
    assert after(ledger, token(1, device="door-02")) == [(COUNTED, 1)]


def test_what_is_older_than_the_memory_is_not_counted_again() -> None:
    ledger = Ledger()
    assert len(counted(ledger, *(token(seq) for seq in range(1, KEPT_HASHES + 3)))) == KEPT_HASHES + 2
    (finding,) = ledger.take(token(1))
    assert (finding.verdict, finding.detail) == (REDELIVERED, "older than what this ledger remembers")
    (finding,) = ledger.take(token(3))
    assert (finding.verdict, finding.detail) == (REDELIVERED, "")


def test_only_so_many_losses_are_looked_for() -> None:
    ledger = Ledger()
    for number in range(KEPT_GAPS + 1):
        ledger.take(token(2 + 2 * number, low=2 + 2 * number))
    assert after(ledger, token(1)) == [(REDELIVERED, 1)], "the oldest is given up"
    assert after(ledger, token(3)) == [(COUNTED, 3)]


def test_a_loss_that_is_filled_in_pieces_stays_within_the_bound() -> None:
    ledger = Ledger()
    after(ledger, token(1), token(10_000, low=10_000))
    for seq in range(3, 3 + 2 * KEPT_GAPS, 2):
        assert after(ledger, token(seq)) == [(COUNTED, seq)]
    assert after(ledger, token(2)) == [(REDELIVERED, 2)], "the oldest piece is given up"
    assert after(ledger, token(4)) == [(COUNTED, 4)]
