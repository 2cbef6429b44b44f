"""How long to leave a broker alone after a connection has ended."""

from __future__ import annotations

from edge.uplink.connection import Closed
from edge.uplink.reach import SESSION_TAKEN_OVER

TAKEN_OVER_PAUSE_S = 300.0
"""Two boards with one identity would throw each other out for ever; give way for five minutes."""

STEADY_S = 60.0
"""A connection that lasted so long was a good one; the next failure is a new one."""

SUSPICIOUS = 4
"""So many connections in a row that were accepted and cut short: a broker that restarts does that once."""

SUSPICION = (
    "it was accepted and cut short four times in a row; perhaps another client logs in as this board "
    "(Mosquitto 2.0 says nothing when it takes a session over): look for a second board with the same key"
)


class Patience:
    """How long to wait after a connection, and whether another client may have cut it short."""

    def __init__(self, retry_min_s: float, retry_max_s: float) -> None:
        self._retry_min_s = retry_min_s
        self._retry_max_s = retry_max_s
        self._next_s = retry_min_s
        self._cut_short = 0

    def after(self, closed: Closed, lasted_s: float) -> tuple[Closed, float]:
        """What to say of a connection that stood so long (0: was never accepted), and the pause in seconds."""
        if lasted_s >= STEADY_S:
            self._next_s = self._retry_min_s
        by_the_other_side = closed.reason != 0
        self._cut_short = self._cut_short + 1 if by_the_other_side and 0 < lasted_s < STEADY_S else 0
        if self._cut_short == SUSPICIOUS:
            self._cut_short = 0
            closed = Closed(SESSION_TAKEN_OVER, f"{closed.detail}; {SUSPICION}")
        if closed.reason == SESSION_TAKEN_OVER:
            return closed, TAKEN_OVER_PAUSE_S
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, self._retry_max_s)
        return closed, pause_s
