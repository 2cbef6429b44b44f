"""Drains the outbox to the broker: in order, many in flight, nothing given up.

A PUBACK of success is delivery (`delivery = "broker"`); every other answer keeps the
event. What was in flight when a connection breaks is sent again on the next one, from
the stored bytes.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from queue import Empty, SimpleQueue
from typing import Protocol

from edge.board.clock import RELEASED_REAL_MS, realtime_ms
from edge.config import BrokerConfig, EventsConfig
from edge.errors import BrokerUnavailable
from edge.steps import Step, reached
from edge.uplink.connection import (
    CONNECT_TIMEOUT_S,
    MAX_INCOMING_BYTES,
    REFUSED_SUBSCRIPTION,
    Closed,
    Connected,
    Connection,
    Message,
    Published,
    Received,
    Subscribed,
    Wake,
    Will,
)
from edge.uplink.downlink import Downlink, Incoming, Outgoing, Receiver
from edge.uplink.outbox import Outbox
from edge.uplink.patience import Patience
from edge.uplink.reach import Tls, silence

log = logging.getLogger(__name__)

EVENT_CONTENT_TYPE = "application/secevent+jwt"
"""RFC 8417, section 7.2."""

BIRTH_INTERVAL_S = 300.0
"""How often the retained status is repeated: the design's five minutes."""

SILENCE_S = 30.0
"""A connected broker that acknowledges nothing for so long is taken for dead."""

REFUSED_PAUSE_S = 600.0
"""After "not authorized" only an administrator can help; ask again every ten minutes."""

SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87

ARCHIVE_CHECK_S = 3600.0
_DAY_MS = 24 * 3600 * 1000


class State(StrEnum):
    """What the retained status says of this board."""

    ONLINE = "online"
    OFFLINE = "offline"
    LOST = "lost"


class StatusReport(Protocol):
    """Makes the status payload for a state and the number of this connection within the boot."""

    def __call__(self, state: State, conn: int) -> bytes: ...


class Publisher:
    """Owns the connection to the broker; `run` is the body of one thread."""

    def __init__(
        self,
        outbox: Outbox,
        device: str,
        broker: BrokerConfig,
        events: EventsConfig,
        status: StatusReport,
        receivers: Sequence[Receiver] = (),
        monotonic_s: Callable[[], float] = time.monotonic,
        real_ms: Callable[[], int] = realtime_ms,
        tls: Tls | None = None,
    ) -> None:
        self._tls = tls
        self._outbox = outbox
        self._topic = f"hadir/v1/{device}/up"
        self._down = f"hadir/v1/{device}/down/"
        self._downlink = Downlink(receivers)
        self._device = device
        self._broker = broker
        self._events = events
        self._status = status
        self._monotonic_s = monotonic_s
        self._real_ms = real_ms
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._next_message: Message | None = None
        self._birth_due = threading.Event()
        self._stop_at_s: float | None = None
        self._conn = 0
        self._next_prune_s = 0.0
        self._turned: Callable[[], None] = lambda: None

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._inbox.put(Wake())

    def send(self, outgoing: Outgoing) -> None:
        """Queue a message of a receiver; see `edge.uplink.downlink.Send`."""
        self._downlink.queue(outgoing)
        self.wake()

    def announce(self) -> None:
        """What the status tells of (gallery, embedder, keys) has changed: say it again now."""
        self._birth_due.set()
        self.wake()

    def stop(self) -> None:
        """Send what still goes within `drain_s`, say goodbye and return from `run`."""
        self._stop_at_s = self._monotonic_s() + self._events.drain_s
        self.wake()

    def run(self, turned: Callable[[], None]) -> None:
        """Connect, drain, and begin again until stopped; `turned` is called while all is well."""
        self._turned = turned
        patience = Patience(self._broker.retry_min_s, self._broker.retry_max_s)
        while not self._finished():
            self._conn = self._outbox.next_conn()
            session = _Session(self._events.window)
            try:
                closed = self._connect_and_serve(session)
            except BrokerUnavailable as error:
                closed = Closed(0, str(error))
            if self._stop_at_s is not None:
                break
            closed, pause_s = patience.after(closed, session.lasted_s(self._monotonic_s()))
            again_at_s = self._monotonic_s() + pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            log.warning("%s. Events wait in the outbox; next try in about %.0f s", closed.detail, pause_s)
            self._pause_until(again_at_s)

    def _finished(self) -> bool:
        return self._stop_at_s is not None and self._monotonic_s() >= self._stop_at_s

    def _pause_until(self, at_s: float) -> None:
        while self._stop_at_s is None and (left_s := at_s - self._monotonic_s()) > 0:
            self._next(min(1.0, left_s))

    def _next(self, timeout_s: float) -> Message | None:
        self._turned()
        if self._next_message is not None:
            message, self._next_message = self._next_message, None
            return message
        try:
            return self._inbox.get(timeout=timeout_s)
        except Empty:
            return None

    def _connect_and_serve(self, session: _Session) -> Closed:
        deadline_s = self._monotonic_s() + CONNECT_TIMEOUT_S
        # An inbox of its own keeps the last connection's stragglers out of this one.
        self._inbox, self._next_message = SimpleQueue(), None
        will = Will(f"{self._topic}/status", self._status(State.LOST, self._conn))
        connection = Connection(self._broker, self._device, will, self._inbox, self._tls).open()
        try:
            closed = self._await_acceptance(session, deadline_s)
            if closed is None:
                log.info("broker: connected to %s", self._broker.url)
                session.accepted_s = self._monotonic_s()
                reached(Step.CONNECTED)
                closed = self._serve(connection, session)
            return closed
        finally:
            connection.close()

    def _await_acceptance(self, session: _Session, deadline_s: float) -> Closed | None:
        while self._monotonic_s() < deadline_s:
            match self._next(0.5):
                case Connected(receive_maximum):
                    session.window = min(session.window, receive_maximum)
                    return None
                case Closed() as closed:
                    return closed
        return Closed(0, silence(self._broker, CONNECT_TIMEOUT_S))

    def _serve(self, connection: Connection, session: _Session) -> Closed:
        next_birth_s = last_news_s = self._monotonic_s()
        if self._downlink.topics:
            connection.subscribe([self._down + topic for topic in self._downlink.topics])
        while True:
            now_s = self._monotonic_s()
            if now_s >= next_birth_s or self._birth_due.is_set():
                self._birth_due.clear()
                connection.publish(
                    f"{self._topic}/status", self._status(State.ONLINE, self._conn), retain=True
                )
                reached(Step.BIRTH_PUBLISHED)
                next_birth_s = now_s + BIRTH_INTERVAL_S
            self._downlink.send(partial(self._publish_for_receiver, connection))
            self._prune(now_s)
            if self._drained(session):
                reached(Step.DRAINED)
                return self._say_goodbye(connection)
            if self._send(connection, session, now_s):
                last_news_s = now_s
            message = self._next(0.0 if session.can_send and session.more else 0.5)
            if isinstance(message, Published):
                last_news_s = now_s
                self._settle(session, message, now_s)
            elif isinstance(message, Closed):
                return message
            elif isinstance(message, Subscribed):
                self._subscribed(message)
            elif isinstance(message, Received):
                self._receive(connection, message)
            elif isinstance(message, Wake):
                session.more = True
            if session.in_flight and now_s - last_news_s > SILENCE_S:
                return Closed(0, f"broker {self._broker.url}: acknowledged nothing for {SILENCE_S:.0f} s")

    def _publish_for_receiver(self, connection: Connection, outgoing: Outgoing) -> int | None:
        return connection.publish(
            f"{self._topic}/{outgoing.topic}",
            outgoing.payload,
            retain=outgoing.retain,
            content_type=outgoing.content_type,
        )

    def _subscribed(self, answer: Subscribed) -> None:
        for topic, reason in zip(self._downlink.topics, answer.reasons, strict=False):
            if reason >= REFUSED_SUBSCRIPTION:
                log.error(
                    "broker: %s may not read %s%s (0x%02x). Check the broker's access list for this device",
                    self._device,
                    self._down,
                    topic,
                    reason,
                )
        self._downlink.connected(self.send)

    def _receive(self, connection: Connection, received: Received) -> None:
        """Hand it on, and only then acknowledge it."""
        topic = received.topic.removeprefix(self._down)
        if len(received.payload) <= MAX_INCOMING_BYTES:
            self._downlink.deliver(Incoming(topic, received.payload, received.retained), self.send)
        connection.acknowledge(received)

    def _drained(self, session: _Session) -> bool:
        if self._stop_at_s is None:
            return False
        return self._finished() or (not session.in_flight and self._outbox.waiting_count() == 0)

    def _send(self, connection: Connection, session: _Session, now_s: float) -> bool:
        """Fill the window from the outbox; whether anything went out."""
        session.retry_when_due(now_s)
        if not session.can_send or not session.more or now_s < session.paused_until_s:
            return False
        batch = self._outbox.waiting(session.cursor, session.window - len(session.in_flight))
        session.more = len(batch) > 0
        for event in batch:
            session.cursor = event.seq
            if event.seq in session.sending:
                continue
            reached(Step.EVENT_READ)
            mid = connection.publish(f"{self._topic}/event", event.token, content_type=EVENT_CONTENT_TYPE)
            if mid is None:  # the connection broke; its Closed is on the way
                session.more = False
                return True
            session.sent(mid, event.seq)
            reached(Step.HANDED_OVER)
        return bool(batch)

    def _settle(self, session: _Session, first: Published, now_s: float) -> None:
        """Take every PUBACK that is there, and commit their events as delivered at once."""
        delivered: list[int] = []
        refused: Counter[int] = Counter()
        published: Message | None = first
        while isinstance(published, Published):
            seq = session.answered(published.mid)
            if seq is not None and published.reason == SUCCESS:
                delivered.append(seq)
            elif seq is None:
                self._downlink.acknowledged(published.mid)
            else:
                session.refused(seq, published.reason, now_s + self._refusal_pause_s(published.reason))
                refused[published.reason] += 1
            published = self._take_published()
        self._tell_refused(refused)
        if delivered:
            reached(Step.PUBACK_RECEIVED)
            self._outbox.acknowledge(delivered, self._real_ms())

    def _take_published(self) -> Published | None:
        """The next message of the inbox if it is a PUBACK; another is the next to be taken."""
        try:
            message = self._inbox.get_nowait()
        except Empty:
            return None
        if isinstance(message, Published):
            return message
        self._next_message = message
        return None

    def _refusal_pause_s(self, reason: int) -> float:
        if reason == NOT_AUTHORIZED:
            return REFUSED_PAUSE_S
        return self._broker.retry_max_s if reason == NO_MATCHING_SUBSCRIBERS else self._broker.retry_min_s

    def _tell_refused(self, refused: Mapping[int, int]) -> None:
        """A line a reason, not one an event: a backlog that nobody wants must not fill the journal."""
        for reason, count in refused.items():
            if reason == NOT_AUTHORIZED:
                log.error(
                    "broker: %s may not publish under %s (0x87); events are kept. Check the broker's access "
                    "list for this device; next try in %.0f s or on reconnect",
                    self._device,
                    self._topic,
                    REFUSED_PAUSE_S,
                )
            else:
                log.warning("broker: %d event(s) kept, PUBACK reason 0x%02x; sending again", count, reason)

    def _say_goodbye(self, connection: Connection) -> Closed:
        """Leave `offline` as the retained status, and wait briefly until it has arrived."""
        mid = connection.publish(
            f"{self._topic}/status", self._status(State.OFFLINE, self._conn), retain=True
        )
        reached(Step.OFFLINE_PUBLISHED)
        deadline_s = self._monotonic_s() + 2.0
        while mid is not None and self._monotonic_s() < deadline_s:
            match self._next(0.1):
                case Published(acknowledged, _) if acknowledged == mid:
                    reached(Step.OFFLINE_ACKNOWLEDGED)
                    break
                case Closed() as closed:
                    return closed
        return Closed(0, "stopped")

    def _prune(self, now_s: float) -> None:
        if now_s >= self._next_prune_s:
            now_ms = self._real_ms()
            if now_ms >= RELEASED_REAL_MS:
                self._outbox.redate_archive(RELEASED_REAL_MS, now_ms)
            self._outbox.prune_archive(now_ms - self._events.archive_days * _DAY_MS)
            self._next_prune_s = now_s + ARCHIVE_CHECK_S


@dataclass(slots=True)
class _Session:
    """What is known about one connection."""

    window: int
    in_flight: dict[int, int] = field(default_factory=dict)
    """Message id to seq."""
    sending: set[int] = field(default_factory=set)
    """The seqs of `in_flight`."""
    cursor: int = 0
    """Everything waiting up to here was handed to this connection."""
    more: bool = True
    """Whether the outbox may hold something beyond the cursor."""
    retries: dict[int, float] = field(default_factory=dict)
    """Seq to the time from which it may be sent again."""
    paused_until_s: float = 0.0
    accepted_s: float | None = None
    """When the broker accepted it."""

    def lasted_s(self, now_s: float) -> float:
        """How long it stood; 0 if it was never accepted."""
        return 0.0 if self.accepted_s is None else max(now_s - self.accepted_s, 1e-3)

    @property
    def can_send(self) -> bool:
        return len(self.in_flight) < self.window

    def sent(self, mid: int, seq: int) -> None:
        """An event went out under this message id."""
        self.in_flight[mid] = seq
        self.sending.add(seq)

    def answered(self, mid: int) -> int | None:
        """The event whose PUBACK came; None for other messages."""
        seq = self.in_flight.pop(mid, None)
        if seq is not None:
            self.sending.discard(seq)
        return seq

    def refused(self, seq: int, reason: int, again_at_s: float) -> None:
        """Keep an event that the broker did not take, and send it again later."""
        self.retries[seq] = again_at_s
        if reason == NOT_AUTHORIZED:
            self.paused_until_s = again_at_s

    def retry_when_due(self, now_s: float) -> None:
        """Move the cursor back before the events whose time has come."""
        due = [seq for seq, again_at_s in self.retries.items() if now_s >= again_at_s]
        if not due:
            return
        for seq in due:
            del self.retries[seq]
        self.cursor = min(self.cursor, min(due) - 1)
        self.more = True
