"""The named points of the road, between any two steps that are durable or that others can see.

Production code says `reached(Step.X)` as it passes; nobody listens, and it costs a
function call (0.05 µs). `torture/` puts a watcher here, inside a process that it started
itself, and ends that process with SIGKILL at a point of its choice. Nothing that a board
reads - configuration, environment, messages - can put one here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """In the order in which a run of the daemon first comes by."""

    LOADED = "loaded"
    """Keys, models and gallery are loaded; the outbox was not touched."""
    OUTBOX_TOUCHED = "outbox-touched"
    """The outbox's file exists."""
    OUTBOX_WRITTEN = "outbox-written"
    """Tables and chain are written, not committed; a new outbox only."""
    OUTBOX_CREATED = "outbox-created"
    """They are committed; a new outbox only."""
    START_BEGUN = "start-begun"
    """It is known how the last run ended."""
    POSITION_TAKEN = "position-taken"
    """An event's place in the chain was read in its transaction."""
    SIGNED = "signed"
    INSERTED = "inserted"
    """The event is in the table, the head not yet moved, nothing committed."""
    HEAD_MOVED = "head-moved"
    """Both are written, nothing committed."""
    COMMITTED = "committed"
    """The event is durable."""
    RUN_WRITTEN = "run-written"
    """How this run stands is written, not committed."""
    START_MARKED = "start-marked"
    """The start is durable, and so is that this run has not ended well."""
    CONNECTED = "connected"
    """The broker accepted the connection."""
    BIRTH_PUBLISHED = "birth-published"
    """The retained status was handed to the connection."""
    PRUNING = "pruning"
    """Old archive is deleted, not committed."""
    PRUNED = "pruned"
    ATTENDANCE_DECIDED = "attendance-decided"
    """Somebody was recognised; nothing of it is written."""
    ATTENDANCE_TOLD = "attendance-told"
    """The attendance is durable; the publisher and the log have been told."""
    EVENT_READ = "event-read"
    """An event was read from the outbox, to be sent."""
    HANDED_OVER = "handed-over"
    """It was given to the connection."""
    PUBACK_RECEIVED = "puback-received"
    """The broker's acknowledgement of success is known in memory."""
    ACKNOWLEDGING = "acknowledging"
    """The delivery is written, not committed."""
    ACKNOWLEDGED = "acknowledged"
    """The delivery is durable."""
    STOP_BEGUN = "stop-begun"
    ROAD_ENDED = "road-ended"
    """Capture and pipeline are over: no event will come any more."""
    DRAINED = "drained"
    """Nothing waits, or the time to wait is over."""
    OFFLINE_PUBLISHED = "offline-published"
    """The last status was handed to the connection."""
    OFFLINE_ACKNOWLEDGED = "offline-acknowledged"
    UPLINK_ENDED = "uplink-ended"
    """The connection is closed."""
    RUN_MARKED_CLEAN = "run-marked-clean"
    """It is durable that this run ended well."""
    STOPPED = "stopped"
    """The outbox is closed."""


class IdentityStep(StrEnum):
    """The points at which a board comes to an identity, or to the next one."""

    CLAIM_KEPT = "claim-kept"
    """The claim is durable on the board's own disk."""
    KEY_MADE = "key-made"
    """The signing key is durable; nobody knows it yet."""
    SEALING_KEY_MADE = "sealing-key-made"
    ASKING = "asking"
    """Connected to the claim listener; nothing sent."""
    ASKED = "asked"
    """The broker has the request."""
    ANSWERED = "answered"
    """The answer is verified, in memory only."""
    CERTIFICATE_WRITTEN = "certificate-written"
    STAGED = "staged"
    """Everything of the new identity is durable, and the old one still in use."""
    CONFIGURATION_WRITTEN = "configuration-written"
    ACTIVATED = "activated"
    """The new identity is the board's."""
    PROVEN = "proven"
    """The broker has a status whose head the new key signed."""
    CLAIM_FORGOTTEN = "claim-forgotten"
    """The claim's file is gone."""
    CLEANED = "cleaned"
    """Earlier identities are gone."""
    SUCCESSION_SIGNED = "succession-signed"
    """`key:1` is signed and its hash durable; nothing of it is in the chain."""
    SUCCESSION_COMMITTED = "succession-committed"
    """`key:1` is in the chain; the old identity is still the one in use."""
    KEYS_STORED = "keys-stored"
    """A newer keys document is durable; the authorities of the broker are still the old ones."""
    AUTHORITIES_STORED = "authorities-stored"
    COMMAND_NUMBERED = "command-numbered"
    """A command's number is durable; nothing was done."""
    COMMAND_DONE = "command-done"
    """It was done; that it was is not written."""
    COMMAND_ANSWERED = "command-answered"
    """The answer is durable; it was not sent."""


watcher: Callable[[StrEnum], object] | None = None
"""Called at each point. None on every board; torture sets it, in a process of its own."""


def reached(step: StrEnum) -> None:
    """Come by a named point of this program; the server has points of its own."""
    if watcher is not None:
        watcher(step)
