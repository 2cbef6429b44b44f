"""When the server knows another chain than this outbox: the old file is kept, and a new chain begun."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edge.errors import CannotRecord
from edge.files import sync_folder
from edge.records import TamperKind
from edge.steps import Step, reached
from edge.trust.receipts import Receipt
from edge.uplink.outbox import Outbox
from edge.uplink.recorder import Recorder

log = logging.getLogger(__name__)

FORMER_AT_ONCE = 100
"""So many events are signed anew in one transaction: a few milliseconds, in which no attendance waits long."""


def give_up_chain(recorder: Recorder, receipt: Receipt, turned: Callable[[], None]) -> None:
    """Freeze the outbox as it is, and begin a new chain that says why.

    A power cut in between is harmless: the same receipt leads here again, and one more copy is kept.
    `turned` is called while the file is copied.
    """
    outbox = recorder.outbox
    head = outbox.head()
    reached(Step.FORK_SEEN)
    why = (
        f"the server holds seq {receipt.seq} of chain {head.chain} with hash {receipt.hash}; "
        f"here it ends at seq {head.seq}"
    )
    frozen = freeze(outbox, turned)
    chain = recorder.new_chain(TamperKind.FORK, f"{why}; kept as {frozen.name}")
    log.error(
        "outbox: %s. This card was restored from a copy, or cloned. The old outbox is kept as %s; the new chain "
        "is %s, and what the server has not acknowledged is signed again for it",
        why,
        frozen,
        chain,
    )


def freeze(outbox: Outbox, turned: Callable[[], None]) -> Path:
    """Keep a durable copy of the outbox under its chain's name; it is never deleted by this program."""
    folder, name = outbox.path.parent, f"outbox-{outbox.head().chain}"
    number = 1
    while (frozen := folder / (f"{name}.db" if number == 1 else f"{name}-{number}.db")).exists():
        number += 1
    part = frozen.with_suffix(".part")
    try:
        part.unlink(missing_ok=True)
        outbox.copy_to(part, turned)
        part.rename(frozen)
        sync_folder(folder)
    except OSError as error:
        raise CannotRecord(
            f"{frozen}: the old outbox cannot be kept there ({error.strerror}); check the disk (df, dmesg)"
        ) from error
    reached(Step.FORK_FROZEN)
    return frozen
