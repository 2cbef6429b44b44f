"""The named points of the server, between any two steps that are durable or that others can see.

As `edge.steps`, whose `reached` they are told through, so that a test can end the process there.
"""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """In the order in which a batch comes by."""

    BATCH_TAKEN = "batch-taken"
    """Messages are here; nothing of them is written or acknowledged."""
    BATCH_VERIFIED = "batch-verified"
    EVENTS_INSERTED = "events-inserted"
    """They are in their table, the heads not yet moved, nothing committed."""
    HEADS_MOVED = "heads-moved"
    """All is written, nothing committed."""
    BATCH_COMMITTED = "batch-committed"
    """The batch is durable; the broker does not know it yet."""
    BATCH_ACKNOWLEDGED = "batch-acknowledged"
    """The broker was told; no receipt is out yet."""
    RECEIPT_SIGNED = "receipt-signed"
    RECEIPT_PUBLISHED = "receipt-published"
    """One receipt was handed to the connection."""
