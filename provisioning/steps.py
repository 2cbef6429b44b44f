"""The named points of what provisioning writes, between any two of its writes; see `edge.steps`."""

from __future__ import annotations

from enum import StrEnum

from edge.steps import reached

__all__ = ["DeskStep", "FleetStep", "reached"]


class DeskStep(StrEnum):
    """Between what a claim has changed in the registry and what follows from it."""

    REQUEST_TAKEN = "request-taken"
    """A board's request is registered; nobody approved it."""
    APPROVED = "approved"
    """Certificate, key and answer are registered; the answer is not published."""
    ANSWER_PUBLISHED = "answer-published"
    """The broker has the answer."""
    USED_UP = "used-up"
    """The claim is used up in the registry; its messages are still at the broker."""
    CLEARED = "cleared"
    """They are gone; the files for servers and broker are still the old ones."""
    SPREAD = "spread"
    REPLY_TAKEN = "reply-taken"
    """A board's answer is registered; what it leads to is not given."""


class FleetStep(StrEnum):
    """In the order of a handover from one set of fleet keys to the next."""

    DECIDED = "decided"
    """The step, its version and its time are in the registry; nothing is written. Once for each step."""
    NEXT_MADE = "next-made"
    ANNOUNCED = "announced"
    """The document that names the next root is durable."""
    SWITCH_PUBLISHED = "switch-published"
    """The new root's document is durable; the old keys still lie where the present ones do."""
    NEXT_TAKEN = "next-taken"
    ROOT_NAMED = "root-named"
    FINISH_PUBLISHED = "finish-published"
    AUTHORITY_ENDED = "authority-ended"
