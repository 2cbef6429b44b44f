"""The server's loop: take a batch, verify, store, acknowledge, publish receipts; and look around now and then.

All state is in the database: a consumer that dies at any point, or is one of many, loses
and doubles nothing. What was not committed was not acknowledged, and the broker or the
board sends it again; what was committed and not receipted comes again and is receipted then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from central import heads
from central.consume import Consumer, Message
from central.evidence import Refused, refused
from central.keyring import Keyring, handover_of, note_taken
from central.ledger import Key, begin_chains, place_of, store
from central.receipts import Pending, signed
from central.rounds import look_around, note_revocations
from central.steps import Step
from central.store.database import reading, writing
from central.verify import Received, verify_event
from central.words import take_up
from edge.errors import DatabaseUnavailable, Refusal, TokenRefused
from edge.steps import reached
from edge.trust.jws import SigningKey

BATCH = 256
"""Messages in one transaction at most: larger ones gain little, and receipts would wait for their end."""

TAKE_S = 0.05
"""How long a look at an empty queue lasts; receipts that are due wait no longer."""

RETRY_MIN_S, RETRY_MAX_S = 0.5, 30.0

LOOK_S = 5.0
"""Between two rounds: the registry, gaps, key handovers of other consumers."""

log = logging.getLogger(__name__)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Signer:
    """Under which name and key this consumer receipts."""

    consumer: str
    key: SigningKey


class Server:
    """One consumer."""

    def __init__(
        self,
        engine: Engine,
        keyring: Keyring,
        signer: Signer,
        now: Clock = time.time,
    ) -> None:
        self._engine = engine
        self._keyring = keyring
        self._signer = signer
        self.turned: Callable[[], object] = lambda: None
        """Called whenever the loop shows progress, for the watchdog."""
        self._now = now
        self._ids: dict[Key, int] = {}
        self._pending = Pending()
        self._looked_s = float("-inf")
        self._noted: set[str] = set()
        self._known: set[str] = set()
        """Keys at the last look around: with others, what was refused may hold."""
        self._asked = False
        """Whether handovers were looked up for this batch: once, however many keys are unknown."""
        self.counts: Counter[str] = Counter()

    def run(self, consumer: Consumer, stop: threading.Event) -> None:
        """Until asked to stop; what is here by then is stored and receipted still."""
        while not stop.is_set():
            self.turn(consumer, consumer.take_batch(BATCH, TAKE_S), stop)
        left = list(consumer.left())
        for start in range(0, len(left), BATCH):
            if not self.turn(consumer, left[start : start + BATCH], stop):
                break  # the database is away, and would be for each of them
        self._publish(consumer, idle=True)
        log.info("stopped: %s", self.summary())

    def turn(self, consumer: Consumer, batch: Sequence[Message], stop: threading.Event) -> bool:
        """Deal with one batch, which may be empty; whether that was possible."""
        self.turned()
        if self._now() - self._looked_s >= LOOK_S and not stop.is_set():
            self._looked_s = self._now()
            self._patiently(self._look_around, stop)
        if batch:
            reached(Step.BATCH_TAKEN)
            if not self._patiently(lambda: self._take(batch), stop):
                return False  # not acknowledged: all of it comes again
            for message in batch:
                message.acknowledge()
            reached(Step.BATCH_ACKNOWLEDGED)
        self._publish(consumer, idle=consumer.idle)
        return True

    def summary(self) -> str:
        """What was done so far, in one line."""
        return " ".join(f"{name}={count}" for name, count in sorted(self.counts.items())) or "nothing came"

    def _patiently(self, act: Callable[[], object], stop: threading.Event) -> bool:
        """Do it, again and again while the database is away; False where a stop was asked for meanwhile."""
        pause_s = RETRY_MIN_S
        while True:
            try:
                act()
            except DatabaseUnavailable as error:
                self.counts["database_retries"] += 1
                log.error("%s; again in %g s", error, pause_s)
                if stop.wait(pause_s):
                    return False
                self.turned()
                pause_s = min(2 * pause_s, RETRY_MAX_S)
            else:
                return True

    def _take(self, batch: Sequence[Message]) -> None:
        """Store a batch, whole or not at all."""
        now_s = self._now()
        now_ms = round(now_s * 1000)
        events = [message for message in batch if message.topic.endswith("/event")]
        self._asked = False
        received, turned_away = self._verify(events, now_s)
        # Nothing at all is what clearing a retained status looks like, as provisioning does when it revokes.
        others = [one for one in batch if one.payload and not one.topic.endswith("/event")]
        said, unread = self._read(others, now_ms)
        reached(Step.BATCH_VERIFIED)
        ids = self._chain_ids(received, turned_away, now_ms)
        with writing(self._engine) as connection:
            outcome = store(connection, ids, received, [*turned_away, *unread], now_ms)
            heads.note(connection, said, now_ms)
        reached(Step.BATCH_COMMITTED)
        self._ids |= ids
        self._pending.add(outcome.due, time.monotonic())
        self.counts["messages"] += len(batch)
        self.counts["refused"] += outcome.refused
        for verdict, count in outcome.verdicts.items():
            self.counts[verdict.value] += count

    def _verify(self, events: Sequence[Message], now_s: float) -> tuple[list[Received], list[Refused]]:
        received: list[Received] = []
        turned_away: list[Refused] = []
        for message in events:
            try:
                one = self._verified(message, now_s)
            except TokenRefused as error:
                turned_away.append(refused(message.topic, message.payload, error, round(now_s * 1000)))
                continue
            received.append(one)
            handover = handover_of(one)
            if handover is not None:
                self._keyring.hand_over([handover])
        return received, turned_away

    def _verified(self, message: Message, now_s: float) -> Received:
        try:
            return verify_event(message.topic, message.payload, self._keyring.registry, now_s)
        except TokenRefused as error:
            # Another consumer may have stored the handover of this key a moment ago.
            if error.reason is not Refusal.UNKNOWN_KEY or self._asked or not self._learn():
                self._asked = self._asked or error.reason is Refusal.UNKNOWN_KEY
                raise
        return verify_event(message.topic, message.payload, self._keyring.registry, now_s)

    def _read(self, messages: Sequence[Message], now_ms: int) -> tuple[list[heads.Said], list[Refused]]:
        """What boards said of themselves, and what cannot be read or has a head that is not to be believed."""
        said: list[heads.Said] = []
        turned_away: list[Refused] = []
        for message in messages:
            try:
                said.append(heads.read(message, self._keyring.registry))
            except TokenRefused as error:
                turned_away.append(refused(message.topic, message.payload, error, now_ms))
        return said, turned_away

    def _chain_ids(
        self, received: Sequence[Received], turned_away: Sequence[Refused], now_ms: int
    ) -> dict[Key, int]:
        wanted = {(one.device, one.event.chain) for one in received}
        wanted |= {key for one in turned_away if (key := place_of(one)) is not None}
        new = wanted - self._ids.keys()
        if not new:
            return self._ids
        with writing(self._engine) as connection:
            return self._ids | begin_chains(connection, new, now_ms)

    def _learn(self) -> bool:
        with reading(self._engine) as connection:
            return self._keyring.learn(connection)

    def _look_around(self) -> None:
        now_ms = round(self._now() * 1000)
        self._keyring.reload_if_changed()
        self._learn()
        revoked = {kid: device for kid, device in self._keyring.revoked.items() if kid not in self._noted}
        with writing(self._engine) as connection:
            note_taken(connection, self._signer.consumer, self._keyring.version, now_ms)
            note_revocations(connection, revoked, now_ms)
            look_around(connection, now_ms)
            if self._known != set(self._keyring.registry.registrations):
                self.counts["taken_up"] += take_up(connection, self._keyring.registry, now_ms)
        self._noted |= revoked.keys()
        self._known = set(self._keyring.registry.registrations)

    def _publish(self, consumer: Consumer, *, idle: bool) -> None:
        for due in self._pending.take(time.monotonic(), idle=idle):
            receipt = signed(due, self._signer.consumer, self._signer.key, int(self._now()))
            reached(Step.RECEIPT_SIGNED)
            consumer.publish_retained(receipt.topic, receipt.token)
            self.counts["receipts"] += 1
            reached(Step.RECEIPT_PUBLISHED)
