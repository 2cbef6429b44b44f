"""Which events may follow: windows, pauses and repetitions, with time as an argument."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.uplink.window import NOT_AUTHORIZED, STALL_MAX_S, STALL_S, Window


def sending(window: Window, count: int, now_s: float = 0.0) -> None:
    """So many more go out, as many as there is room for."""
    for _ in range(min(count, window.room(now_s))):
        window.cursor += 1
        window.sent(window.cursor, window.cursor, now_s)


def test_no_more_are_in_flight_than_the_broker_takes() -> None:
    window = Window(20)
    sending(window, 100)
    assert (window.cursor, window.room(0)) == (20, 0)
    assert window.answered(7) == 7
    assert window.room(0) == 1


def test_no_more_are_unreceipted_than_the_window_whatever_the_broker_acknowledges() -> None:
    window = Window(100, outstanding_max=30)
    sending(window, 100)
    for mid in range(1, 31):
        window.answered(mid)
    assert window.room(0) == 0
    window.covered(10, now_s=1)
    assert window.room(1) == 10


def test_without_receipts_nothing_is_repeated_for_want_of_them() -> None:
    window = Window(10)
    sending(window, 3)
    assert not window.rewind_when_due(10_000)
    assert window.cursor == 3


def test_without_progress_everything_outstanding_is_sent_again_later_and_later() -> None:
    window = Window(10, outstanding_max=10)
    window.covered(0, now_s=0)
    pauses, now_s = [], 0.0
    for _ in range(12):
        sending(window, 3, now_s)
        for mid in list(window.in_flight):
            window.answered(mid)
        began_s = now_s
        while not window.rewind_when_due(now_s):
            now_s += 1
        pauses.append(now_s - began_s)
        assert window.cursor == 0
    assert pauses[0] == STALL_S
    assert pauses[1] > 1.5 * STALL_S
    assert 0.8 * STALL_MAX_S <= pauses[-1] <= 1.2 * STALL_MAX_S + 1
    assert window.repeated == 12


def test_progress_makes_it_patient_again() -> None:
    window = Window(10, outstanding_max=10)
    sending(window, 5)
    assert window.rewind_when_due(STALL_S)
    sending(window, 5, STALL_S)
    window.covered(2, now_s=STALL_S + 1)
    assert window.repeated == 0
    assert not window.rewind_when_due(2 * STALL_S)
    assert window.rewind_when_due(2 * STALL_S + 1)
    assert window.cursor == 2, "what is covered is not sent again"


def test_what_is_all_covered_stalls_nothing() -> None:
    window = Window(10, outstanding_max=10)
    sending(window, 2)
    window.covered(2, now_s=1)
    assert not window.rewind_when_due(1000)


def test_while_the_broker_lets_nobody_publish_nothing_stalls() -> None:
    window = Window(10, outstanding_max=10)
    sending(window, 1)
    window.answered(1)
    window.refused(1, NOT_AUTHORIZED, again_at_s=600)
    assert window.room(599) == 0
    assert not window.rewind_when_due(599)
    assert not window.rewind_when_due(600)
    assert (window.cursor, window.room(600)) == (0, 10)


@given(st.lists(st.tuples(st.sampled_from("sac"), st.integers(1, 12)), max_size=60))
def test_whatever_happens_neither_limit_is_passed(steps: list[tuple[str, int]]) -> None:
    window = Window(8, outstanding_max=5)
    for now_s, (step, argument) in enumerate(steps):
        if step == "s":
            sending(window, argument, now_s)
        elif step == "a":
            window.answered(argument)
        elif argument <= window.cursor:
            window.covered(argument, now_s)
        window.rewind_when_due(now_s)
        assert len(window.in_flight) <= 8
        assert window.cursor - window.covered_seq <= 5
        assert all(window.is_sending(seq) for seq in window.in_flight.values())
