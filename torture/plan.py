"""At which points the daemon is killed, and what it was doing when it came by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from edge.steps import Step

BIRTH = (Step.OUTBOX_WRITTEN, Step.OUTBOX_CREATED)
"""Reached only while there is no outbox yet, so they come first in a life."""

APPENDING = (Step.POSITION_TAKEN, Step.SIGNED, Step.INSERTED, Step.HEAD_MOVED, Step.COMMITTED)


ELSEWHERE = frozenset(
    {
        Step.OUTBOX_UPGRADING,
        Step.OUTBOX_UPGRADED,
        Step.RECEIPT_VERIFIED,
        Step.RECEIPT_WRITTEN,
        Step.RECEIPT_KEPT,
        Step.SET_ASIDE,
        Step.FORK_SEEN,
        Step.FORK_FROZEN,
        Step.CHAIN_WRITTEN,
        Step.CHAIN_BEGUN,
        Step.FORMER_WRITTEN,
        Step.FORMER_SIGNED,
        Step.SALVAGED,
        Step.DAMAGED_KEPT,
        Step.RESEND_WRITTEN,
        Step.RESEND_ASKED,
        Step.RESENT_WRITTEN,
        Step.RESENT,
    }
)
"""Points that a board without receipts, and without misfortune, never comes by (see `tests/test_recovery.py`)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A point, and which times of coming by it belong together."""

    step: Step
    hits: tuple[int, ...] = (1,)
    """The kill comes at one of these; 1 is the first time in a run."""
    of: str = ""
    """What is under way then, where the point serves several."""

    def __str__(self) -> str:
        return f"{self.step}, {self.of}" if self.of else self.step


def targets(attendances: int) -> tuple[Target, ...]:
    """Every point of the road, for runs with so many attendances: the first event of each is its start."""
    several = tuple(range(1, attendances + 1))
    ambiguous = {
        **{
            step: (Target(step, (1,), "start"), Target(step, (*several[1:], attendances + 1), "attendance"))
            for step in APPENDING
        },
        Step.RUN_WRITTEN: (Target(Step.RUN_WRITTEN, (1,), "start"), Target(Step.RUN_WRITTEN, (2,), "stop")),
    }
    repeated = {
        Step.ATTENDANCE_DECIDED,
        Step.ATTENDANCE_TOLD,
        Step.EVENT_READ,
        Step.HANDED_OVER,
        Step.PUBACK_RECEIVED,
        Step.ACKNOWLEDGING,
        Step.ACKNOWLEDGED,
    }
    return tuple(
        target
        for step in Step
        if step not in ELSEWHERE
        for target in ambiguous.get(step, (Target(step, several if step in repeated else (1,)),))
    )


def in_one_life(all_targets: Sequence[Target], random: Random) -> tuple[Target, ...]:
    """Each target once, by chance in any order; but for those that only a new outbox has."""
    later = [target for target in all_targets if target.step not in BIRTH]
    random.shuffle(later)
    return (*(target for target in all_targets if target.step in BIRTH), *later)
