"""Connects to the broker and keeps at it: what is sent, and what becomes of answers, is a `Session`'s."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from edge.board.clock import realtime_ms
from edge.config import BrokerConfig, EventsConfig
from edge.errors import BrokerUnavailable, DiskFull
from edge.steps import Step, reached
from edge.uplink.connection import (
    CONNECT_TIMEOUT_S,
    Closed,
    Connected,
    Connection,
    Message,
    Published,
    Wake,
    Will,
)
from edge.uplink.downlink import Downlink, Outgoing, Receiver
from edge.uplink.drain import Drain
from edge.uplink.patience import Patience
from edge.uplink.reach import SESSION_TAKEN_OVER, Tls, silence
from edge.uplink.receipts import ReceiptKeys, ReceiptReader, Receipts
from edge.uplink.recorder import Recorder
from edge.uplink.session import HealthReport, Session, State, StatusReport, Uplink
from edge.uplink.suspects import Suspects
from edge.uplink.troubles import Trouble, Troubles
from edge.uplink.upkeep import Upkeep

log = logging.getLogger(__name__)

GOODBYE_S = 2.0
"""How long the broker's answer to the goodbye is waited for."""


class Publisher:
    """Owns the connection to the broker; `run` is the body of one thread.

    Args:
        recorder: signs what the uplink itself has to tell, and holds the outbox.
        status, health: make the payloads of `up/status` and `up/health`.
        receipt_keys: the fleet's receipt keys, asked for each receipt; used with `delivery = "receipt"`.
        make_room: called when the disk is full, so that what was delivered can be noted all the same.
        server_says: told when each receipt was issued.
        receivers: others who are sent something by the server; see `edge.uplink.downlink`.
    """

    def __init__(
        self,
        recorder: Recorder,
        broker: BrokerConfig,
        events: EventsConfig,
        status: StatusReport,
        health: HealthReport,
        receipt_keys: ReceiptKeys,
        *,
        receivers: Sequence[Receiver] = (),
        troubles: Troubles | None = None,
        server_says: Callable[[int], None] = lambda issued_s: None,
        make_room: Callable[[], None] = lambda: None,
        monotonic_s: Callable[[], float] = time.monotonic,
        real_ms: Callable[[], int] = realtime_ms,
        tls: Tls | None = None,
    ) -> None:
        device = recorder.identity.device
        receipts = (
            Receipts(ReceiptReader(device, receipt_keys), server_says)
            if events.delivery == "receipt"
            else None
        )
        self.troubles = troubles or Troubles()
        self.troubles.changed = self.announce
        self._uplink = Uplink(
            device=device,
            broker=broker,
            recorder=recorder,
            status=status,
            health=health,
            downlink=Downlink([*([] if receipts is None else [receipts]), *receivers]),
            receipts=receipts,
            troubles=self.troubles,
            send=self.send,
            turned=self._tick,
        )
        self._outbox = recorder.outbox
        self._broker = broker
        self._tls = tls
        self._make_room = make_room
        self._events = events
        self._monotonic_s = monotonic_s
        self._real_ms = real_ms
        self._upkeep = Upkeep(self._outbox, events, self.troubles, real_ms)
        self._suspects = Suspects()
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._next_message: Message | None = None
        self._birth_due = threading.Event()
        self._stop_at_s: float | None = None
        self._turned: Callable[[], None] = lambda: None

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._inbox.put(Wake())

    def send(self, outgoing: Outgoing) -> None:
        """Queue a message of a receiver; see `edge.uplink.downlink.Send`."""
        self._uplink.downlink.queue(outgoing)
        self.wake()

    def announce(self) -> None:
        """What the status tells of (gallery, embedder, keys, troubles) has changed: say it again now."""
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
            try:
                closed, accepted_s = self._connect_and_serve()
            except BrokerUnavailable as error:
                closed, accepted_s = Closed(0, str(error)), None
            except DiskFull as error:
                self._make_room()
                closed, accepted_s = Closed(0, str(error)), None
            if self._stop_at_s is not None:
                break
            now_s = self._monotonic_s()
            lasted_s = 0.0 if accepted_s is None else max(now_s - accepted_s, 1e-3)
            closed, pause_s = patience.after(closed, lasted_s)
            self.troubles.note(Trouble.TAKEN_OVER, present=closed.reason == SESSION_TAKEN_OVER)
            again_at_s = now_s + pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            log.warning("%s. Events wait in the outbox; next try in about %.0f s", closed.detail, pause_s)
            self._pause_until(again_at_s)

    def _finished(self) -> bool:
        return self._stop_at_s is not None and self._monotonic_s() >= self._stop_at_s

    def _pause_until(self, at_s: float) -> None:
        while self._stop_at_s is None and (left_s := at_s - self._monotonic_s()) > 0:
            self._upkeep.look(self._monotonic_s())
            self._next(min(1.0, left_s))

    def _tick(self) -> None:
        self._turned()

    def _next(self, timeout_s: float) -> Message | None:
        self._tick()
        if self._next_message is not None:
            message, self._next_message = self._next_message, None
            return message
        try:
            return self._inbox.get(timeout=timeout_s)
        except Empty:
            return None

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

    def _connect_and_serve(self) -> tuple[Closed, float | None]:
        """How a connection ended, and when the broker had accepted it, if it did."""
        conn = self._outbox.next_conn()
        deadline_s = self._monotonic_s() + CONNECT_TIMEOUT_S
        # An inbox of its own keeps the last connection's stragglers out of this one.
        self._inbox, self._next_message = SimpleQueue(), None
        will = Will(self._uplink.topic("status"), self._uplink.status(State.LOST, conn))
        connection = Connection(self._broker, self._uplink.device, will, self._inbox, self._tls).open()
        try:
            answer = self._await_acceptance(deadline_s)
            if isinstance(answer, Closed):
                return answer, None
            log.info("broker: connected to %s", self._broker.url)
            accepted_s = self._monotonic_s()
            reached(Step.CONNECTED)
            drain = Drain(self._uplink.recorder, self._events, self._broker, self._suspects, self._real_ms)
            drain.accepted(answer.receive_maximum, answer.packet_max_bytes)
            session = Session(self._uplink, connection, drain, conn, accepted_s)
            closed = self._serve(session)
            self._blame(session, closed)
            return closed, accepted_s
        finally:
            connection.close()

    def _await_acceptance(self, deadline_s: float) -> Connected | Closed:
        while self._monotonic_s() < deadline_s:
            match self._next(0.5):
                case (Connected() | Closed()) as answer:
                    return answer
        return Closed(0, silence(self._broker, CONNECT_TIMEOUT_S))

    def _serve(self, session: Session) -> Closed:
        session.open()
        while True:
            now_s = self._monotonic_s()
            if self._birth_due.is_set():
                self._birth_due.clear()
                session.birth_due = True
            self._upkeep.look(now_s)
            if self._drained(session):
                reached(Step.DRAINED)
                return self._say_goodbye(session)
            closed = session.turn(now_s)
            if closed is None:
                message = self._next(0.0 if session.busy(now_s) else 0.5)
                closed = session.take(message, self._take_published, now_s)
            if closed is not None:
                return closed

    def _drained(self, session: Session) -> bool:
        if self._stop_at_s is None:
            return False
        return self._finished() or session.drain.drained()

    def _blame(self, session: Session, closed: Closed) -> None:
        """What was in flight at the end may have brought it about."""
        guilty = self._suspects.ended(session.drain.window.in_flight.values(), closed.reason)
        if guilty is not None:
            session.drain.set_aside(guilty, "breaks-connection")

    def _say_goodbye(self, session: Session) -> Closed:
        """Leave `offline` as the retained status, and wait briefly until it has arrived."""
        mid = session.say(State.OFFLINE)
        reached(Step.OFFLINE_PUBLISHED)
        deadline_s = self._monotonic_s() + GOODBYE_S
        while mid is not None and self._monotonic_s() < deadline_s:
            match self._next(0.1):
                case Published(acknowledged, _) if acknowledged == mid:
                    reached(Step.OFFLINE_ACKNOWLEDGED)
                    break
                case Closed() as closed:
                    return closed
        return Closed(0, "stopped")
