"""From "somebody was recognised" to a signed event that is safe on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.board.clock import Clock, KernelClock
from edge.records import Attendance, Direction
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, verify
from edge.trust.tokens import EVENT_TYP, Event, parse_event
from edge.uplink.outbox import Outbox
from edge.uplink.recorder import Recorder

SOMEONE = Attendance(track=1, person="E1042", frames=4, similarity=0.71, margin=0.4, seen_mono_ms=9_000)
KEY = SigningKey.generate()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


def recorder(
    outbox: Outbox, *, boot: str = "boot-a", synchronised: bool = True, diagnostics: bool = False
) -> Recorder:
    clock = Clock(
        kernel=lambda: KernelClock(synchronised=synchronised, max_error_ms=5),
        real_ms=lambda: 1_764_000_010_000,
        mono_ms=lambda: 10_000,
        boot=boot,
    )
    identity = DeviceIdentity("door-01", "hq", KEY)
    return Recorder(outbox, identity, clock, Direction.IN, "e" * 64, 42, diagnostics)


def events(outbox: Outbox) -> list[Event]:
    keys = {KEY.kid: KEY.verification_key(frozenset({EVENT_TYP}))}
    return [parse_event(verify(stored.token, EVENT_TYP, keys).claims) for stored in outbox.waiting(0, 100)]


@pytest.fixture
def started(outbox: Outbox) -> Outbox:
    """With the start that every chain begins with."""
    recorder(outbox).start("1.0")
    return outbox


def test_an_attendance_is_signed_by_this_board_and_dated_when_the_face_was_seen(started: Outbox) -> None:
    recorder(started).attendance(SOMEONE)
    (_, event) = events(started)
    assert (event.issuer, event.audience) == ("urn:hadir:device:door-01", "urn:hadir:site:hq")
    assert (event.person, event.seen_s, event.mono_ms) == ("E1042", 1_764_000_009.0, 9_000)
    assert event.payload["embedder"] == "e" * 16


def test_without_a_clock_that_can_be_believed_it_has_no_date(started: Outbox) -> None:
    recorder(started, synchronised=False).attendance(SOMEONE)
    (_, event) = events(started)
    assert event.seen_s is None
    assert event.mono_ms == 9_000


def test_similarities_are_told_only_where_diagnostics_are_asked_for(started: Outbox) -> None:
    recorder(started).attendance(SOMEONE)
    recorder(started, diagnostics=True).attendance(SOMEONE)
    _, quiet, talkative = events(started)
    assert "similarity" not in quiet.payload
    assert (talkative.payload["similarity"], talkative.payload["margin"]) == (0.71, 0.4)


def test_each_event_names_the_hash_of_the_one_before(started: Outbox) -> None:
    board = recorder(started)
    hashes = [started.head().hash]
    for _ in range(2):
        board.attendance(SOMEONE)
        hashes.append(started.head().hash)
    told = events(started)
    assert [event.seq for event in told] == [1, 2, 3]
    assert [event.prev for event in told] == [None, *hashes[:2]]
    assert len({event.jti for event in told}) == 3


def test_a_start_tells_why_and_how_the_last_run_ended(outbox: Outbox) -> None:
    recorder(outbox).start("1.0")
    outbox.mark_run("boot-a", clean=True)
    recorder(outbox).start("1.0")
    recorder(outbox, boot="boot-b").start("1.1")
    told = [
        {name: event.payload.get(name) for name in ("cause", "clean", "version", "last")}
        for event in events(outbox)
    ]
    assert told == [
        {"cause": "new", "clean": True, "version": "1.0", "last": None},
        {"cause": "restart", "clean": True, "version": "1.0", "last": 1},
        {"cause": "boot", "clean": False, "version": "1.1", "last": 2},
    ]
