"""What comes down from the server, handed to whoever asked for it, and what they send up in answer.

A `Receiver` is plugged into the publisher, which owns the connection and its thread. So
the fleet's keys, commands or the gallery need no connection of their own, and the
publisher's loop need not know of them.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.errors import TokenRefused

log = logging.getLogger(__name__)

MAX_UNSENT = 256
"""Messages of receivers that wait for a connection, of which the oldest give way; a gallery asks for 64 slices."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the server."""

    topic: str
    """Below `hadir/v1/<device>/down/`: "keys", "command"."""
    payload: bytes
    """At most `edge.uplink.connection.MAX_INCOMING_BYTES`; nothing of it is verified yet."""
    retained: bool
    """It waited in the broker, rather than being sent just now."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to the server, at QoS 1."""

    topic: str
    """Below `hadir/v1/<device>/up/`: "reply", "gallery". Never "event", which only the outbox sends."""
    payload: bytes
    retain: bool = False
    content_type: str = ""


Send = Callable[[Outgoing], None]
"""Queues a message, from any thread and at any time, with or without a connection.

It is kept in memory and sent again on the next connection until the broker acknowledged it,
whatever the reason code. What must survive a power cut, its receiver stores first and sends
again from `connected`.
"""


class Receiver(Protocol):
    """A part of the board that the server talks to.

    Both methods are called in the publisher's thread, so they return within milliseconds:
    longer work has a thread of its own, and uses `send` when it has something to say.
    """

    @property
    def topics(self) -> Sequence[str]:
        """What to subscribe to below `down/`; `+` stands for one level (MQTT 5, section 4.7.1)."""
        ...

    def connected(self, send: Send) -> None:
        """A connection stands, and the broker granted the topics; their retained messages are on the way."""
        ...

    def receive(self, incoming: Incoming, send: Send) -> None:
        """Take a message of one of the topics.

        It is acknowledged when this returns, and comes again after a crash until then: commit
        first what must not be lost. What came twice is for the receiver to know.

        Raises:
            TokenRefused: it is not to be believed; counted, told in the log, and forgotten.
        """
        ...


class Downlink:
    """The receivers of one board: which messages are whose, and what they have to say.

    `queue` may be called from any thread; everything else belongs to the publisher's.
    """

    def __init__(self, receivers: Sequence[Receiver]) -> None:
        self._receivers = tuple(receivers)
        self._unsent: deque[Outgoing] = deque(maxlen=MAX_UNSENT)
        self._sent: dict[int, Outgoing] = {}
        self._told: set[tuple[str, str]] = set()
        self.refused: Counter[str] = Counter()
        """Messages that were not believed, by reason; "unasked" for topics that nobody takes."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Every receiver's, in order."""
        return tuple(topic for receiver in self._receivers for topic in receiver.topics)

    def connected(self, send: Send) -> None:
        """A connection stands: what the last one left unacknowledged is sent again, before anything else."""
        self._unsent.extendleft(reversed(self._sent.values()))
        self._sent.clear()
        for receiver in self._receivers:
            receiver.connected(send)

    def queue(self, outgoing: Outgoing) -> None:
        """Keep a message until a connection takes it."""
        if len(self._unsent) == MAX_UNSENT:
            log.warning("broker: %d answers wait for a connection; the oldest is given up", MAX_UNSENT)
        self._unsent.append(outgoing)

    def send(self, publish: Callable[[Outgoing], int | None]) -> None:
        """Give everything that waits to a connection; `publish` returns a message id, or None if it is gone."""
        while self._unsent:
            outgoing = self._unsent.popleft()
            mid = publish(outgoing)
            if mid is None:
                self._unsent.appendleft(outgoing)
                return
            self._sent[mid] = outgoing

    def acknowledged(self, mid: int) -> None:
        """The broker answered for a message; other ids are passed over."""
        self._sent.pop(mid, None)

    def deliver(self, incoming: Incoming, send: Send) -> None:
        """Give a message to its receiver. Never raises for what is in the message."""
        receiver = self._receiver_of(incoming.topic)
        if receiver is None:
            self._refuse("unasked", "", f"nobody takes down/{incoming.topic[:64]}")
            return
        try:
            receiver.receive(incoming, send)
        except TokenRefused as refused:
            about = incoming.topic.partition("/")[0]
            self._refuse(refused.reason, about, f"down/{incoming.topic[:64]}: {refused}")

    def _receiver_of(self, topic: str) -> Receiver | None:
        for receiver in self._receivers:
            if any(matches(each, topic) for each in receiver.topics):
                return receiver
        return None

    def _refuse(self, reason: str, about: str, why: str) -> None:
        """Told once for each reason and receiver, and counted: whoever can publish must not fill the journal."""
        self.refused[reason] += 1
        if (about, reason) not in self._told:
            self._told.add((about, reason))
            log.warning("broker: a message is not believed, and changed nothing: %s", why)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic falls under a filter with `+` for any one level; `#` is not taken."""
    wanted, found = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(found) and all(
        want in ("+", level) for want, level in zip(wanted, found, strict=True)
    )
