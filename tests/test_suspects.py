"""Which event breaks the connection: only what did it alone, three times, is set aside."""

from __future__ import annotations

import pytest

from edge.uplink.suspects import INNOCENT, Suspects

MALFORMED = 0x81
UNSPECIFIED = 0x80


def test_what_was_in_flight_at_three_ends_in_a_row_is_sent_alone() -> None:
    suspects = Suspects()
    for in_flight in ({3, 4, 5}, {4, 5, 6}, {5, 4}):
        assert suspects.alone is None
        assert suspects.ended(in_flight, UNSPECIFIED) is None
    assert suspects.alone == 4
    suspects.cleared(4)
    assert suspects.alone == 5


def test_what_breaks_the_connection_alone_three_times_is_set_aside() -> None:
    suspects = Suspects()
    for _ in range(3):
        suspects.ended({7}, MALFORMED)
    assert [suspects.ended({7}, MALFORMED) for _ in range(3)] == [None, None, 7]
    assert suspects.alone is None


def test_what_was_acknowledged_is_not_suspected_and_ends_the_row() -> None:
    suspects = Suspects()
    for _ in range(2):
        suspects.ended({7}, UNSPECIFIED)
    suspects.cleared(7)
    suspects.ended({7}, UNSPECIFIED)
    assert suspects.alone is None


def test_others_in_flight_begin_a_new_row() -> None:
    suspects = Suspects()
    for in_flight in ({1}, {1}, {2}, {2}):
        suspects.ended(in_flight, UNSPECIFIED)
    assert suspects.alone is None
    suspects.ended({2}, UNSPECIFIED)
    assert suspects.alone == 2


@pytest.mark.parametrize("reason", sorted(INNOCENT))
def test_an_end_that_no_event_brings_about_accuses_none(reason: int) -> None:
    suspects = Suspects()
    for _ in range(10):
        assert suspects.ended({1}, reason) is None
    assert suspects.alone is None


def test_an_end_with_nothing_in_flight_accuses_none() -> None:
    suspects = Suspects()
    for in_flight in ({1}, {1}, set[int](), {1}):
        suspects.ended(in_flight, UNSPECIFIED)
    assert suspects.alone == 1
