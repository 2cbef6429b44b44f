"""Drains the outbox over one connection: in order, many in flight, nothing given up.

With `delivery = "broker"` a PUBACK of success is delivery. With "receipt" it only says
that the broker has the event: delivered is what a receipt of the server covers, and
without progress everything outstanding is sent again. What is sent, and sent again, are
the stored bytes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from edge.config import BrokerConfig, EventsConfig
from edge.records import TamperKind
from edge.steps import Step, reached
from edge.trust.jws import encode_base64url, token_hash
from edge.trust.receipts import Receipt
from edge.trust.tokens import HASH_PATTERN, MAX_EVENT_BYTES
from edge.uplink.connection import Published
from edge.uplink.forks import FORMER_AT_ONCE
from edge.uplink.outbox import Outbox, Resend, StoredEvent
from edge.uplink.receipts import Meaning, meaning
from edge.uplink.recorder import Recorder
from edge.uplink.suspects import Suspects
from edge.uplink.window import NOT_AUTHORIZED, Window

log = logging.getLogger(__name__)

SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10

REFUSED_PAUSE_S = 600.0
"""After "not authorized" only an administrator can help; ask again every ten minutes."""

HISTORICAL_MS = 60_000
"""An event that is sent later than this after it was made says so."""

RESEND_CHECK_S = 1.0
"""How often to look whether somebody wants something sent again."""

PACKET_OVERHEAD_BYTES = 128
"""A PUBLISH beside topic and payload: header, message id, content type and user property have 69."""

SKIP_PACKET_BYTES = 1024
"""Holds a skip:1 with its topic. A broker that takes no packet of that size takes no event at all."""

UNKNOWN_HASH = encode_base64url(bytes(32))
"""Told of an event of which neither its row nor the next one says what its hash was."""

Publish = Callable[[StoredEvent, bool], int | None]
"""Hands an event to the connection, and whether it is historical; its message id, None if the connection is gone."""


class Drain:
    """What one connection does with the outbox. Belongs to the publisher's thread."""

    def __init__(
        self,
        recorder: Recorder,
        events: EventsConfig,
        broker: BrokerConfig,
        suspects: Suspects,
        real_ms: Callable[[], int],
    ) -> None:
        receipts = events.delivery == "receipt"
        self.window = Window(events.window, outstanding_max=events.window if receipts else None)
        self._recorder = recorder
        self._broker = broker
        self._suspects = suspects
        self._real_ms = real_ms
        self._packet_max: int | None = None
        self._resend: Resend | None = None
        self._next_resend_check_s = 0.0
        self._former = True
        self._last_missing: int | None = None
        self._told: set[int] = set()
        """Reasons for which events were refused since the broker last took one."""
        self.window.start_at(self._outbox.head().acked_seq)

    @property
    def _outbox(self) -> Outbox:
        return self._recorder.outbox

    def accepted(self, receive_maximum: int, packet_max: int | None) -> None:
        """What the broker said that it takes."""
        self.window.in_flight_max = min(self.window.in_flight_max, receive_maximum)
        self._packet_max = packet_max

    def drained(self) -> bool:
        """Whether nothing waits any more."""
        return not self.window.in_flight and self._resend is None and self._outbox.waiting_count() == 0

    def can_send(self, now_s: float) -> bool:
        """Whether it makes sense to call `send` again at once."""
        return self._former or self.window.room(now_s) > 0

    def send(self, publish: Publish, now_s: float) -> bool:
        """Fill the window from the outbox; whether anything went out."""
        self._former = self._former and self._recorder.sign_former(FORMER_AT_ONCE) > 0
        self._look_for_resend(now_s)
        if self.window.rewind_when_due(now_s):
            self._tell_stalled()
        room = self.window.room(now_s)
        if not room:
            return False
        if self._suspects.alone is not None:
            return not self.window.in_flight and self._send_alone(publish, self._suspects.alone, now_s)
        batch = self._next(room)
        self.window.more = len(batch) > 0
        for event in batch:
            if event.seq > self.window.cursor + 1 and self._tells_missing(event.seq):
                return True
            if not self.window.is_sending(event.seq) and not self._send(publish, event, now_s):
                return True
            self.window.cursor = event.seq
        return bool(batch) or self._tells_missing(None)

    def settle(self, published: Iterable[Published], now_s: float) -> list[int]:
        """Take PUBACKs, and commit what they deliver at once; ids of messages that were no events."""
        delivered: list[int] = []
        refused: Counter[int] = Counter()
        others: list[int] = []
        for answer in published:
            seq = self.window.answered(answer.mid)
            if seq is None:
                others.append(answer.mid)
                continue
            self._suspects.cleared(seq)
            if answer.reason == SUCCESS:
                delivered.append(seq)
            else:
                self.window.refused(seq, answer.reason, now_s + self._pause_s(answer.reason))
                refused[answer.reason] += 1
        self._tell_refused(refused)
        if delivered:
            self._told.clear()
            reached(Step.PUBACK_RECEIVED)
            if self.window.outstanding_max is None:
                self._outbox.acknowledge(delivered, self._real_ms())
        return others

    def take_receipt(self, receipt: Receipt, now_s: float) -> Meaning:
        """Archive what a verified receipt covers; on FORK nothing is done yet."""
        head = self._outbox.head()
        found = meaning(receipt, head, self._outbox.hash_at(receipt.seq))
        if found is Meaning.PROGRESS:
            reached(Step.RECEIPT_VERIFIED)
            self._outbox.take_receipt(receipt.chain, receipt.seq, receipt.hash, self._real_ms())
        if found in (Meaning.PROGRESS, Meaning.OLD):
            self.window.covered(receipt.seq, now_s)
            for refused in receipt.refused:
                if refused.seq > head.acked_seq:
                    log.warning(
                        "server: seq %d is stored there, and not believed (%s)", refused.seq, refused.reason
                    )
        return found

    def set_aside(self, seq: int, reason: str) -> None:
        """Send in the place of this event what tells of it."""
        known = self._outbox.hash_by_successor(seq) or self._outbox.hash_at(seq) or ""
        expected = known if HASH_PATTERN.fullmatch(known) else UNKNOWN_HASH
        self._recorder.skip(seq, expected, reason)
        self._suspects.cleared(seq)
        self.window.more = True
        log.error("outbox: seq %d cannot be sent (%s); it is kept, and the server is told", seq, reason)

    def _send_alone(self, publish: Publish, seq: int, now_s: float) -> bool:
        """What may have broken the connection goes with no other beside it; its turn comes again afterwards."""
        found = self._outbox.held(seq - 1, 1)
        if not found or found[0].seq != seq:  # receipted and pruned meanwhile
            self._suspects.cleared(seq)
            return True
        return self._send(publish, found[0], now_s)

    def _tells_missing(self, before_seq: int | None) -> bool:
        """Set aside the first row that is gone before this one, or the head, so that the server does not wait for it.

        Of several that are gone together, one `tamper:1` tells.
        """
        missing = self._outbox.first_missing(self.window.cursor, before_seq)
        if missing is None:
            return False
        if missing - 1 != self._last_missing:
            self._recorder.tamper(TamperKind.DATABASE, f"seq {missing} of the outbox is missing")
        self._last_missing = missing
        self.set_aside(missing, "missing")
        return True

    def _next(self, room: int) -> tuple[StoredEvent, ...]:
        if self._resend is not None:
            return self._outbox.held(self.window.cursor, room)
        return self._outbox.waiting(self.window.cursor, room)

    def _send(self, publish: Publish, event: StoredEvent, now_s: float) -> bool:
        """Hand one event over; False where it, and so what follows, cannot go out now."""
        reached(Step.EVENT_READ)
        if event.fault and not self._repaired(event):
            self._recorder.tamper(TamperKind.DATABASE, f"seq {event.seq} of the outbox is {event.fault}")
            self.set_aside(event.seq, event.fault)
            return False
        if not self._fits(event, now_s):
            return False
        late = self._real_ms() - event.made_real_ms > HISTORICAL_MS
        mid = publish(event, late)
        if mid is None:  # the connection broke; its Closed is on the way
            self.window.more = False
            return False
        self.window.sent(mid, event.seq, now_s)
        reached(Step.HANDED_OVER)
        return True

    def _repaired(self, event: StoredEvent) -> bool:
        """Whether only the row's hash was altered: the chain says which of the two is right."""
        right = self._outbox.hash_by_successor(event.seq)
        if right is None or not event.token or token_hash(event.token) != right:
            return False
        self._recorder.tamper(TamperKind.DATABASE, f"the hash of seq {event.seq} in the outbox was altered")
        self._outbox.repair_hash(event.seq, right)
        return True

    def _fits(self, event: StoredEvent, now_s: float) -> bool:
        """Whether the broker takes a packet of this size; if not, it is set aside."""
        packet_bytes = len(event.token) + PACKET_OVERHEAD_BYTES
        if self._packet_max is None or packet_bytes <= self._packet_max:
            return True
        if self._packet_max < SKIP_PACKET_BYTES:
            self.window.paused_until_s = now_s + REFUSED_PAUSE_S
            log.error(
                "broker %s: takes packets of at most %d bytes, so no event; events are kept. Let it take %d",
                self._broker.url,
                self._packet_max,
                MAX_EVENT_BYTES + PACKET_OVERHEAD_BYTES,
            )
        else:
            self.set_aside(event.seq, "too-large")
        return False

    def _look_for_resend(self, now_s: float) -> None:
        if self._resend is not None and self._is_resent(self._resend):
            self._outbox.resent(self._resend)
            log.info("outbox: seq %d to %d were sent again", self._resend.from_seq, self._resend.to_seq)
            self._resend = None
        if now_s < self._next_resend_check_s:
            return
        self._next_resend_check_s = now_s + RESEND_CHECK_S
        wanted = self._outbox.resend()
        if wanted is not None and wanted != self._resend:
            log.info("outbox: sending seq %d to %d again, as asked", wanted.from_seq, wanted.to_seq)
            self._resend = wanted
            self.window.start_at(wanted.from_seq - 1)

    def _is_resent(self, resend: Resend) -> bool:
        """All of it went out; and where receipts count, one came afterwards that covers it."""
        if self.window.cursor < resend.to_seq or self.window.in_flight:
            return False
        return self.window.outstanding_max is None or self.window.covered_seq >= resend.to_seq

    def _pause_s(self, reason: int) -> float:
        if reason == NOT_AUTHORIZED:
            return REFUSED_PAUSE_S
        return self._broker.retry_max_s if reason == NO_MATCHING_SUBSCRIBERS else self._broker.retry_min_s

    def _tell_refused(self, refused: Mapping[int, int]) -> None:
        """A line a reason, not one an event or a try: a backlog that nobody wants must not fill the journal."""
        for reason, count in refused.items():
            if reason == NOT_AUTHORIZED:
                log.error(
                    "broker: %s may not publish its events (0x87); they are kept. Check the broker's access "
                    "list for this device; next try in %.0f s or on reconnect",
                    self._recorder.identity.device,
                    REFUSED_PAUSE_S,
                )
            elif reason not in self._told:
                self._told.add(reason)
                log.warning(
                    "broker: %d event(s) kept, PUBACK reason 0x%02x; sent again until it takes them",
                    count,
                    reason,
                )

    def _tell_stalled(self) -> None:
        log.warning(
            "server: no receipt since seq %d; sending what follows again. Is hadir-central running, and may this "
            "board read its receipts?",
            self.window.covered_seq,
        )
