"""One connection that the broker accepted, from birth to goodbye: what it owns, and what becomes of each message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from edge.config import BrokerConfig
from edge.steps import Step, reached
from edge.uplink.connection import (
    CONNECT_TIMEOUT_S,
    MAX_INCOMING_BYTES,
    REFUSED_SUBSCRIPTION,
    Closed,
    Connection,
    Message,
    Published,
    Received,
    Subscribed,
    Wake,
)
from edge.uplink.downlink import Downlink, Incoming, Outgoing
from edge.uplink.drain import Drain
from edge.uplink.forks import give_up_chain
from edge.uplink.outbox import StoredEvent
from edge.uplink.receipts import Meaning, Receipts
from edge.uplink.recorder import Recorder
from edge.uplink.troubles import Trouble, Troubles

log = logging.getLogger(__name__)

EVENT_CONTENT_TYPE = "application/secevent+jwt"
"""RFC 8417, section 7.2."""

BIRTH_INTERVAL_S = 300.0
"""How often the retained status is repeated: the design's five minutes."""

HEALTH_INTERVAL_S = 60.0

RECEIPT_WAIT_S = 2.0
"""How long after the subscription the retained receipt is waited for before anything is sent."""

SILENCE_S = 30.0
"""A connected broker that acknowledges nothing for so long is taken for dead."""

LONG_REPEATED = 2
"""So often sent again for want of receipts, half a minute or so, before it is called a trouble."""


class State(StrEnum):
    """What the retained status says of this board."""

    ONLINE = "online"
    OFFLINE = "offline"
    LOST = "lost"


class StatusReport(Protocol):
    """Makes the status payload for a state and the number of this connection within the boot."""

    def __call__(self, state: State, conn: int) -> bytes: ...


HealthReport = Callable[[], bytes]
"""Makes the health payload."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """What every connection of a board shares."""

    device: str
    broker: BrokerConfig
    recorder: Recorder
    status: StatusReport
    health: HealthReport
    downlink: Downlink
    receipts: Receipts | None
    """None where PUBACKs count as delivery."""
    troubles: Troubles
    send: Callable[[Outgoing], None]
    turned: Callable[[], None]

    def topic(self, below: str) -> str:
        """A topic under this board's `up/`."""
        return f"hadir/v1/{self.device}/up/{below}"

    @property
    def down(self) -> str:
        return f"hadir/v1/{self.device}/down/"


@dataclass(slots=True)
class Session:
    """Belongs to the publisher's thread."""

    uplink: Uplink
    connection: Connection
    drain: Drain
    conn: int
    began_s: float
    birth_due: bool = True
    _next_birth_s: float = 0.0
    _next_health_s: float = field(init=False)
    _ready_at_s: float = field(init=False)
    _last_news_s: float = field(init=False)

    def __post_init__(self) -> None:
        waits = self.uplink.receipts is not None
        self._ready_at_s = self.began_s + (CONNECT_TIMEOUT_S if waits else 0.0)
        self._last_news_s = self.began_s
        self._next_health_s = self.began_s

    def open(self) -> None:
        """Subscribe to everything that comes down."""
        topics = self.uplink.downlink.topics
        if topics:
            self.connection.subscribe([self.uplink.down + topic for topic in topics])

    def busy(self, now_s: float) -> bool:
        """Whether there is something to do without any message."""
        return now_s >= self._ready_at_s and self.drain.can_send(now_s)

    def turn(self, now_s: float) -> Closed | None:
        """Say what is due, and send what may be sent; the end, if this connection is of no use."""
        if self.birth_due or now_s >= self._next_birth_s:
            self.birth_due, self._next_birth_s = False, now_s + BIRTH_INTERVAL_S
            self.say(State.ONLINE)
            reached(Step.BIRTH_PUBLISHED)
        if now_s >= self._next_health_s:
            self._next_health_s = now_s + HEALTH_INTERVAL_S
            self.connection.publish(self.uplink.topic("health"), self.uplink.health(), qos=0)
        self.uplink.downlink.send(self._publish_for_receiver)
        if now_s >= self._ready_at_s and self.drain.send(self._publish_event, now_s):
            self._last_news_s = now_s
        self._note_troubles(now_s)
        if self.drain.window.in_flight and now_s - self._last_news_s > SILENCE_S:
            return Closed(0, f"broker {self.uplink.broker.url}: acknowledged nothing for {SILENCE_S:.0f} s")
        return None

    def take(
        self, message: Message | None, more: Callable[[], Published | None], now_s: float
    ) -> Closed | None:
        """Deal with a message; `more` gives the PUBACKs that follow it at once. The end, if there is one."""
        match message:
            case Published():
                self._last_news_s = now_s
                for mid in self.drain.settle(_and_more(message, more), now_s):
                    self.uplink.downlink.acknowledged(mid)
            case Subscribed():
                self._subscribed(message, now_s)
            case Received():
                return self._receive(message, now_s)
            case Closed():
                return message
            case Wake():
                self.drain.window.more = True
        return None

    def say(self, state: State) -> int | None:
        """Publish the retained status; its message id."""
        return self.connection.publish(
            self.uplink.topic("status"), self.uplink.status(state, self.conn), retain=True
        )

    def _subscribed(self, answer: Subscribed, now_s: float) -> None:
        if self.uplink.receipts is not None:
            self._ready_at_s = min(self._ready_at_s, now_s + RECEIPT_WAIT_S)
        for topic, reason in zip(self.uplink.downlink.topics, answer.reasons, strict=False):
            if reason >= REFUSED_SUBSCRIPTION:
                log.error(
                    "broker: %s may not read %s%s (0x%02x). Check the broker's access list for this device",
                    self.uplink.device,
                    self.uplink.down,
                    topic,
                    reason,
                )
        self.uplink.downlink.connected(self.uplink.send)

    def _receive(self, received: Received, now_s: float) -> Closed | None:
        """Hand it on, and only then acknowledge it."""
        topic = received.topic.removeprefix(self.uplink.down)
        closed = None
        if len(received.payload) <= MAX_INCOMING_BYTES:
            incoming = Incoming(topic, received.payload, received.retained)
            self.uplink.downlink.deliver(incoming, self.uplink.send)
            closed = self._take_receipt(received.retained, now_s)
        self.connection.acknowledge(received)
        return closed

    def _take_receipt(self, retained: bool, now_s: float) -> Closed | None:
        """A retained one is the latest; others may have waited in the session, and newer ones follow."""
        receipt = None if self.uplink.receipts is None else self.uplink.receipts.take()
        if receipt is None:
            return None
        if retained:
            self._ready_at_s = min(self._ready_at_s, now_s)
        if self.drain.take_receipt(receipt, now_s) is not Meaning.FORK:
            return None
        give_up_chain(self.uplink.recorder, receipt, self.uplink.turned)
        return Closed(0, "the outbox begins a new chain")

    def _note_troubles(self, now_s: float) -> None:
        window, troubles = self.drain.window, self.uplink.troubles
        troubles.note(Trouble.NOT_AUTHORIZED, present=now_s < window.paused_until_s)
        troubles.note(Trouble.NO_RECEIPTS, present=window.repeated >= LONG_REPEATED)

    def _publish_event(self, event: StoredEvent, historical: bool) -> int | None:
        return self.connection.publish(
            self.uplink.topic("event"), event.token, content_type=EVENT_CONTENT_TYPE, historical=historical
        )

    def _publish_for_receiver(self, outgoing: Outgoing) -> int | None:
        return self.connection.publish(
            self.uplink.topic(outgoing.topic),
            outgoing.payload,
            retain=outgoing.retain,
            content_type=outgoing.content_type,
        )


def _and_more(first: Published, more: Callable[[], Published | None]) -> list[Published]:
    published = [first]
    while (following := more()) is not None:
        published.append(following)
    return published
