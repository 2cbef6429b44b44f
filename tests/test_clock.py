"""How far the wall clock may be believed."""

from __future__ import annotations

from edge.board.clock import Clock, KernelClock, LastSync, believe, boottime_ms, read_kernel_clock
from edge.records import ClockState

GOOD = KernelClock(synchronised=True, max_error_ms=12)
BAD = KernelClock(synchronised=False, max_error_ms=16_000)
HOUR_MS = 3_600_000


def test_a_kernel_that_is_synchronised_is_believed_with_its_own_error() -> None:
    assert believe(GOOD, None, 5) == (ClockState.SYNCED, 12, LastSync(mono_ms=5, err_ms=12))


def test_a_kernel_that_never_was_synchronised_gives_no_error() -> None:
    assert believe(BAD, None, 5) == (ClockState.UNSYNCED, None, None)


def test_after_synchronisation_the_error_grows_by_50_ppm() -> None:
    last = LastSync(mono_ms=0, err_ms=12)
    assert believe(BAD, last, 10 * HOUR_MS) == (ClockState.HOLDOVER, 12 + 1800, last)


def test_a_clock_remembers_that_it_was_synchronised_once() -> None:
    kernel = [GOOD]
    clock = Clock(kernel=lambda: kernel[0], real_ms=lambda: 1_764_000_000_000, mono_ms=lambda: 7, boot="b")
    assert clock.read().state is ClockState.SYNCED
    kernel[0] = BAD
    reading = clock.read()
    assert (reading.state, reading.err_ms, reading.boot) == (ClockState.HOLDOVER, 12, "b")


def test_the_real_clocks_of_this_machine_can_be_read() -> None:
    reading = Clock().read()
    assert reading.real_ms > 1_700_000_000_000
    assert 0 < reading.mono_ms <= boottime_ms()
    assert len(reading.boot) == 36
    assert isinstance(read_kernel_clock().synchronised, bool)
