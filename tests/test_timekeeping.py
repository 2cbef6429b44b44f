"""The server is told whenever the clock was set or jumped, and what is known of time outlives a power cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.board.clock import RELEASED_REAL_MS, Clock, KernelClock, KnownClock, step_to_tell
from edge.records import ClockState, Direction, TimeReading
from edge.steps import Step
from edge.trust.floor import TimeFloor
from edge.trust.identity import DeviceIdentity
from edge.trust.tokens import CLOCK, Event
from edge.uplink.outbox import Outbox
from edge.uplink.reach import Dates
from edge.uplink.recorder import Recorder
from edge.uplink.timekeeping import NOTED_EVERY_MS, TimeKeeper
from tests.chains import KEY
from tests.servers import event_of
from tests.test_recovery import PowerCut, cut_at

NOW_MS = 1_800_000_000_000


@dataclass
class Machine:
    """The clocks of a board, which a test sets."""

    real_ms: int = NOW_MS
    mono_ms: int = 60_000
    boot: str = "boot-a"
    synced: bool = False

    def passes(self, ms: int) -> None:
        self.real_ms += ms
        self.mono_ms += ms

    def clock(self) -> Clock:
        return Clock(
            kernel=lambda: KernelClock(self.synced, max_error_ms=5),
            real_ms=lambda: self.real_ms,
            mono_ms=lambda: self.mono_ms,
            boot=self.boot,
        )

    def daemon(self, outbox: Outbox) -> TimeKeeper:
        """As it starts: with a clock object of its own."""
        identity = DeviceIdentity("door-01", "hq", KEY)
        recorder = Recorder(outbox, identity, self.clock(), Direction.IN, "e" * 64, 1, diagnostics=False)
        if outbox.head().seq == 0:
            recorder.start("1.0")
        keeper = TimeKeeper(recorder, TimeFloor(outbox.path.parent, RELEASED_REAL_MS // 1000))
        keeper.look()
        return keeper


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


def told(outbox: Outbox) -> list[Event]:
    events = [event_of(event.token) for event in outbox.held(0, 100)]
    return [event for event in events if event.type == CLOCK]


def steps_told(outbox: Outbox) -> list[int]:
    return [event.payload["step_ms"] for event in told(outbox)]


def test_a_clock_that_becomes_right_is_told_with_what_it_shows_now(outbox: Outbox) -> None:
    machine = Machine(real_ms=1_000)
    keeper = machine.daemon(outbox)
    machine.passes(5_000)
    keeper.look()
    machine.real_ms, machine.synced = NOW_MS, True
    keeper.look()
    keeper.look()
    (event,) = told(outbox)
    assert event.clock is ClockState.SYNCED
    assert event.payload["real_ms"] == NOW_MS
    assert event.payload["step_ms"] == NOW_MS - 6_000
    assert event.payload["err_ms"] == 5
    assert event.mono_ms == 65_000


def test_a_clock_that_was_right_all_the_time_needs_no_word(outbox: Outbox) -> None:
    machine = Machine(synced=True)
    keeper = machine.daemon(outbox)
    machine.passes(3_600_000)
    keeper.look()
    assert told(outbox) == []


@pytest.mark.parametrize("step_ms", [500, -500, 86_400_000, -3_600_000])
def test_a_step_is_told_forwards_and_backwards(outbox: Outbox, step_ms: int) -> None:
    machine = Machine(synced=True)
    keeper = machine.daemon(outbox)
    machine.passes(1_000)
    machine.real_ms += step_ms
    keeper.look()
    machine.passes(1_000)
    keeper.look()
    assert steps_told(outbox) == [step_ms]


def test_drift_that_is_corrected_slowly_is_no_step(outbox: Outbox) -> None:
    machine = Machine(synced=True)
    keeper = machine.daemon(outbox)
    for _ in range(100):
        machine.passes(1_000)
        machine.real_ms -= 20
        keeper.look()
    assert told(outbox) == []


def test_a_boot_that_never_synchronises_tells_nothing_until_somebody_sets_the_clock(outbox: Outbox) -> None:
    machine = Machine(real_ms=1_000)
    keeper = machine.daemon(outbox)
    machine.passes(10_000)
    keeper.look()
    assert told(outbox) == []
    machine.real_ms = NOW_MS
    keeper.look()
    (event,) = told(outbox)
    assert event.clock is ClockState.UNSYNCED
    assert "err_ms" not in event.payload
    assert event.seen_s is None


def test_what_changed_while_the_daemon_was_away_in_the_same_boot_is_told_when_it_is_back(
    outbox: Outbox,
) -> None:
    """The events before were undated, and only the difference between the two dates them."""
    machine = Machine(real_ms=1_000)
    machine.daemon(outbox)
    machine.passes(2_000)
    machine.real_ms, machine.synced = NOW_MS, True
    machine.daemon(outbox)
    assert steps_told(outbox) == [NOW_MS - 3_000]


def test_another_boot_is_another_story(outbox: Outbox) -> None:
    Machine(real_ms=1_000).daemon(outbox)
    Machine(boot="boot-b", mono_ms=500, synced=True).daemon(outbox)
    assert told(outbox) == []


def test_that_it_was_synchronised_earlier_in_this_boot_outlives_the_daemon(outbox: Outbox) -> None:
    machine = Machine(synced=True)
    machine.daemon(outbox).note()
    machine.synced = False
    machine.passes(10 * 3_600_000)
    keeper = machine.daemon(outbox)
    reading = keeper._clock.read()
    assert reading.state is ClockState.HOLDOVER
    assert reading.err_ms == 5 + 1_800, "50 ppm of ten hours"
    machine.boot = "boot-b"
    assert machine.daemon(outbox)._clock.read().state is ClockState.UNSYNCED


def test_a_clock_that_is_right_raises_the_floor_and_is_believed_about_certificates(outbox: Outbox) -> None:
    machine = Machine(real_ms=1_000)
    keeper = machine.daemon(outbox)
    assert keeper.dates() == Dates(believed=False, floor_s=RELEASED_REAL_MS // 1000, now_s=1)
    machine.real_ms, machine.synced = NOW_MS + 5, True
    keeper.look()
    assert keeper.dates() == Dates(believed=True, floor_s=NOW_MS // 1000, now_s=(NOW_MS + 5) / 1000)
    machine.boot, machine.real_ms, machine.synced = "boot-b", 1_000, False
    assert machine.daemon(outbox).dates() == Dates(believed=False, floor_s=NOW_MS // 1000, now_s=1)


def test_while_nothing_happens_it_is_noted_every_hour(outbox: Outbox) -> None:
    machine = Machine(synced=True)
    keeper = machine.daemon(outbox)
    first = outbox.known_clock()
    machine.passes(NOTED_EVERY_MS - 1)
    keeper.look()
    assert outbox.known_clock() == first
    machine.passes(1)
    keeper.look()
    after = outbox.known_clock()
    assert after is not None
    assert after.sync is not None
    assert after.sync.mono_ms == 60_000 + NOTED_EVERY_MS


@pytest.mark.parametrize("step", [Step.COMMITTED, Step.CLOCK_WRITTEN, Step.CLOCK_NOTED])
def test_a_power_cut_while_it_is_told_loses_no_correction(outbox: Outbox, step: Step) -> None:
    machine = Machine(real_ms=1_000)
    keeper = machine.daemon(outbox)
    machine.real_ms, machine.synced = NOW_MS, True
    with cut_at(step), pytest.raises(PowerCut):
        keeper.look()
    machine.passes(1_000)
    machine.daemon(outbox)
    assert set(steps_told(outbox)) == {NOW_MS - 1_000}
    assert len(told(outbox)) == (1 if step is Step.CLOCK_NOTED else 2), "rather twice than never"


def test_a_small_step_beside_a_change_to_synced_is_told_with_it() -> None:
    before = KnownClock("boot-a", synced=False, offset_ms=1_000, sync=None)
    now = TimeReading(real_ms=3_001, mono_ms=2_000, boot="boot-a", state=ClockState.SYNCED, err_ms=1)
    assert step_to_tell(before, now) == 1
