"""The lines about events: whatever a board claims, somebody can read it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from central.chain import Verdict
from central.report import finding_line, time_words
from central.watch import Finding
from edge.records import ClockState
from tests.test_watch import token


def test_a_token_that_is_dated_ahead_of_its_arrival_is_marked_as_such() -> None:
    received = token(1)
    received = replace(received, event=replace(received.event, payload={"direction": "in"}))
    assert "dated ahead" not in finding_line(Finding(Verdict.COUNTED, received))
    ahead = Finding(Verdict.COUNTED, replace(received, ahead=True))
    assert finding_line(ahead).endswith("seq 1  dated ahead of its arrival")


@pytest.mark.parametrize("issued_s", [-(10**15), 10**15, 2**100])
def test_a_time_in_no_calendar_is_told_in_seconds(issued_s: int) -> None:
    """Signed by a real board, such a token must not end the consumer that lists it."""
    received = token(1)
    event = replace(received.event, seen_s=None, issued_s=issued_s, clock=ClockState.SYNCED)
    assert time_words(replace(received, event=event)) == f"made {issued_s} s after 1970, synced"
