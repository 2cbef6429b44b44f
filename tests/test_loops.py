"""Named loops and the slot that holds the newest frame."""

from __future__ import annotations

import threading

import numpy as np

from edge.loops import Loop, Slot
from edge.records import Frame
from edge.service import STALL_S, Watchdog


def frame(number: int) -> Frame:
    return Frame(image=np.zeros((2, 2, 3), np.uint8), captured_mono_ms=number, number=number)


def test_a_live_cameras_frame_is_overwritten_and_counted_as_dropped() -> None:
    slot = Slot()
    for number in (1, 2, 3):
        slot.put(frame(number), may_drop=True)
    taken = slot.take(1)
    assert taken is not None
    assert (taken.number, slot.dropped) == (3, 2)
    assert slot.take(0) is None


def test_a_files_frames_are_all_taken_in_order() -> None:
    slot = Slot()
    taken: list[int] = []

    def give(loop: Loop) -> None:
        for number in range(20):
            slot.put(frame(number), may_drop=False)
        slot.close()

    giver = Loop("giver", give)
    giver.start()
    while not slot.finished:
        got = slot.take(5)
        if got is not None:
            taken.append(got.number)
    giver.join(5)
    assert taken == list(range(20))
    assert slot.dropped == 0


def test_closing_lets_a_waiting_giver_go_and_keeps_the_last_frame() -> None:
    slot = Slot()
    slot.put(frame(1), may_drop=False)
    giver = Loop("giver", lambda loop: slot.put(frame(2), may_drop=False))
    giver.start()
    slot.close()
    giver.join(5)
    assert not giver.running
    last = slot.take(0)
    assert last is not None
    assert last.number == 1
    assert slot.finished


def test_what_ends_a_loop_is_kept_for_its_owner() -> None:
    def fail(loop: Loop) -> None:
        raise ValueError("broken")

    loop = Loop("failing", fail)
    loop.start()
    loop.join(5)
    assert isinstance(loop.error, ValueError)


def test_the_watchdog_is_fed_only_while_every_running_loop_turns() -> None:
    end = threading.Event()

    def until_end(loop: Loop) -> None:
        end.wait(10)

    turning, hanging = (Loop(name, until_end) for name in ("turning", "hanging"))
    for loop in (turning, hanging):
        loop.start()
    watchdog = Watchdog((turning, hanging))
    try:
        for _ in range(3):
            turning.turned()
            assert watchdog.all_turning(STALL_S / 3 - 0.1)
        turning.turned()
        assert not watchdog.all_turning(1.0)
        hanging.turned()
        turning.turned()
        assert watchdog.all_turning(1.0)
    finally:
        end.set()
    for loop in (turning, hanging):
        loop.join(5)
    assert watchdog.all_turning(STALL_S * 2), "a loop that has ended is not a loop that hangs"
