"""Three consumers on one PostgreSQL and one Mosquitto, killed at random: the chains and the receipts hold."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import func, select

from central.keyring import Keyring
from central.prove import prove
from central.store import tables
from central.store.database import reading
from demo.central import Consuming, consuming
from demo.postgresql import Cluster
from provisioning.fleet import Fleet
from tests.brokers import mosquitto, publishing
from tests.databases import opened
from tests.office import Chain, register
from tests.test_server import Receipts, configured, receipts

BOARDS = 4
EVENTS = 150
RESEND_S = 2.0
"""A board waits ten seconds; here nobody has so much time."""
DEADLINE_S = 90.0
KILLS = 3
"""At random moments of the first second, in which most of the work is done."""
SETTINGS = "allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 2048"


class Sender:
    """One board: sends its chain, and again from the last receipt on while that does not move."""

    def __init__(self, chain: Chain, read: Receipts, publish: Callable[[str, bytes], object]) -> None:
        self.chain = chain
        self.read = read
        self._publish = publish
        self.acked = 0
        self._moved_s = 0.0

    @property
    def done(self) -> bool:
        return self.acked == len(self.chain.tokens)

    def turn(self, now_s: float) -> None:
        with self.read.changed:
            acked = max((one.seq for one in self.read.taken), default=0)
        if acked > self.acked:
            self.acked, self._moved_s = acked, now_s
        if not self.done and now_s - self._moved_s > RESEND_S:
            self._moved_s = now_s
            for seq in range(self.acked + 1, len(self.chain.tokens) + 1):
                message = self.chain.message(seq)
                self._publish(message.topic, message.payload)


def grown(device: str) -> Chain:
    chain = Chain(device)
    chain.start()
    for number in range(EVENTS - 1):
        chain.later(1)
        chain.attend(f"E{number}")
    return chain


def test_whoever_dies_and_in_whatever_order_events_come_each_is_stored_once_in_a_whole_chain(
    fleet: Fleet, postgresql: Cluster, tmp_path: Path
) -> None:
    url = postgresql.new_database()
    chains = [grown(f"door-{number:02}") for number in range(BOARDS)]
    devices = register(tmp_path / "devices.jwks", *chains)
    chance = random.Random()  # noqa: S311 - which one dies when
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(SETTINGS))
        publish = stack.enter_context(publishing(broker, "all-doors", waits=False))
        senders = [
            Sender(chain, stack.enter_context(receipts(broker, fleet, chain.device)), publish)
            for chain in chains
        ]
        configs = [
            configured(fleet, tmp_path, broker, url, f"central-{number}", devices) for number in (1, 2, 3)
        ]
        running: list[Consuming] = [stack.enter_context(consuming(config)) for config in configs]
        begin_s = time.monotonic()
        deaths_s = sorted(begin_s + chance.random() for _ in range(KILLS))
        while deaths_s or not all(sender.done for sender in senders):
            now_s = time.monotonic()
            assert now_s - begin_s < DEADLINE_S, [sender.acked for sender in senders]
            for sender in senders:
                sender.turn(now_s)
            if deaths_s and now_s >= deaths_s[0]:
                del deaths_s[0]
                victim = chance.randrange(len(running))
                running[victim].kill()
                running[victim] = stack.enter_context(consuming(configs[victim]))
            senders[0].read.wait(0.02)
        assert all(consumer.stop() == 0 for consumer in running)
    with opened(url, tmp_path) as engine, reading(engine) as connection:
        stored = connection.execute(
            select(tables.chain.c.device, func.count(), func.max(tables.event.c.seq))
            .join(tables.event, tables.event.c.chain_id == tables.chain.c.id)
            .group_by(tables.chain.c.device)
        )
        assert sorted(map(tuple, stored)) == [(chain.device, EVENTS, EVENTS) for chain in chains]
        proofs = list(prove(connection, Keyring(devices).registry))
        assert [(proof.device, proof.problems) for proof in proofs] == [
            (chain.device, []) for chain in chains
        ]
        alert = tables.alert.c
        assert (
            connection.execute(select(alert.kind, alert.detail).where(alert.closed_ms.is_(None))).all() == []
        )
    for sender, chain in zip(senders, chains, strict=True):
        last = max(sender.read.taken, key=lambda one: one.seq)
        assert (last.hash, last.refused) == (chain.tokens[-1].hash, ())
        assert {one.issuer.rpartition(":")[2] for one in sender.read.taken} <= {
            "central-1",
            "central-2",
            "central-3",
        }
