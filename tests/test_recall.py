"""What a restarted daemon still knows of who passed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.board.clock import Clock, KernelClock
from edge.records import Attendance, Direction
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey
from edge.uplink import recall
from edge.uplink.outbox import Outbox
from edge.uplink.recall import last_passages
from edge.uplink.recorder import Recorder

KEY = SigningKey.generate()
BOOTED_REAL_MS = 1_764_000_000_000


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


def clock(
    mono_ms: int, *, boot: str = "boot-a", booted_real_ms: int = BOOTED_REAL_MS, good: bool = True
) -> Clock:
    return Clock(
        kernel=lambda: KernelClock(synchronised=good, max_error_ms=5),
        real_ms=lambda: booted_real_ms + mono_ms,
        mono_ms=lambda: mono_ms,
        boot=boot,
    )


def records(outbox: Outbox, at: Clock, direction: Direction = Direction.IN) -> Recorder:
    return Recorder(
        outbox, DeviceIdentity("door-01", "hq", KEY), at, direction, "e" * 64, 42, diagnostics=False
    )


def pass_by(recorder: Recorder, person: str) -> None:
    now_ms = recorder.clock.read().mono_ms
    recorder.attendance(Attendance(1, person, frames=4, similarity=0.7, margin=0.4, seen_mono_ms=now_ms))


def passages(
    outbox: Outbox, at: Clock, within_ms: int = 60_000, direction: Direction = Direction.IN
) -> dict[str, int]:
    return dict(last_passages(outbox, at.read(), direction, within_ms))


def test_who_passed_within_the_time_is_known_after_a_restart_and_nobody_else(outbox: Outbox) -> None:
    """Regression: a restart within the cooldown recorded whoever came by again a second time."""
    for person, at_ms in (("E1", 10_000), ("E2", 50_000), ("E3", 80_000), ("E2", 90_000)):
        pass_by(records(outbox, clock(at_ms)), person)
    assert passages(outbox, clock(100_000)) == {"E2": 90_000, "E3": 80_000}
    assert passages(outbox, clock(300_000)) == {}


def test_an_event_that_was_delivered_is_still_known(outbox: Outbox) -> None:
    pass_by(records(outbox, clock(10_000)), "E1")
    outbox.acknowledge([1], BOOTED_REAL_MS)
    assert passages(outbox, clock(20_000)) == {"E1": 10_000}


def test_who_came_in_may_go_out_at_once(outbox: Outbox) -> None:
    pass_by(records(outbox, clock(10_000)), "E1")
    pass_by(records(outbox, clock(11_000), Direction.OUT), "E2")
    assert passages(outbox, clock(20_000)) == {"E1": 10_000}
    assert passages(outbox, clock(20_000), direction=Direction.OUT) == {"E2": 11_000}


def test_an_attendance_of_an_earlier_boot_counts_by_its_date(outbox: Outbox) -> None:
    pass_by(records(outbox, clock(500_000)), "E1")
    after = clock(5_000, boot="boot-b", booted_real_ms=BOOTED_REAL_MS + 520_000)
    assert passages(outbox, after) == {"E1": -20_000}, "25 s ago, 20 s before this boot"
    assert passages(outbox, after, within_ms=24_000) == {}


@pytest.mark.parametrize(("then", "now"), [(False, True), (True, False)])
def test_without_a_date_an_earlier_boot_says_nothing(outbox: Outbox, then: bool, now: bool) -> None:
    pass_by(records(outbox, clock(500_000, good=then)), "E1")
    later = clock(5_000, boot="boot-b", booted_real_ms=BOOTED_REAL_MS + 520_000, good=now)
    assert passages(outbox, later) == {}


def test_an_attendance_ahead_of_the_clock_keeps_nobody_out(outbox: Outbox) -> None:
    pass_by(records(outbox, clock(500_000)), "E1")
    set_back = clock(5_000, boot="boot-b", booted_real_ms=BOOTED_REAL_MS - 86_400_000)
    assert passages(outbox, set_back) == {}


def test_other_events_and_unreadable_rows_in_between_do_not_hide_anybody(
    outbox: Outbox, tmp_path: Path
) -> None:
    recorder = records(outbox, clock(10_000))
    recorder.start("1.0")
    pass_by(recorder, "E1")
    pass_by(recorder, "E2")
    recorder.clock_set(recorder.clock.read(), 900)
    with sqlite3.connect(tmp_path / "outbox.db") as database:
        database.execute("UPDATE event SET token = CAST(X'ff00' AS TEXT) WHERE seq = 3")
    assert passages(outbox, clock(20_000)) == {"E1": 10_000}


@pytest.mark.parametrize("since", range(10))
def test_no_place_at_the_edge_of_a_page_is_left_out(
    since: int, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "PAGE", 3)
    recorder = records(outbox, clock(10_000))
    pass_by(recorder, "E1")
    for _ in range(since):
        recorder.clock_set(recorder.clock.read(), 900)
    assert passages(outbox, clock(20_000)) == {"E1": 10_000}


@pytest.mark.parametrize(("since", "known"), [(3, {"E1": 10_000}), (6, {})])
def test_only_so_many_events_are_read(
    since: int, known: dict[str, int], outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "PAGE", 2)
    monkeypatch.setattr(recall, "MOST", 6)
    recorder = records(outbox, clock(10_000))
    pass_by(recorder, "E1")
    for _ in range(since):
        recorder.clock_set(recorder.clock.read(), 900)
    assert passages(outbox, clock(20_000)) == known
