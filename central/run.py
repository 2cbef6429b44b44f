"""`hadir-central run`: everything is opened and checked, in this order, before the first message is taken."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from central.config import load_central
from central.consume import consuming
from central.keyring import Keyring, newest_taken
from central.listen import stopping_on_signals
from central.receipts import load_receipt_key
from central.server import Server, Signer
from central.store.database import migrate, open_database, reading, shown
from edge.board.systemd import Notifier

PULSE_S = 5.0

log = logging.getLogger(__name__)


class Pulse:
    """Tells the service manager that the loop turns, and how far it is; every few seconds, however fast it turns."""

    def __init__(self, notifier: Notifier, status: Callable[[], str]) -> None:
        self._notifier = notifier
        self._status = status
        self._told_s = -math.inf

    def __call__(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= PULSE_S:
            self._told_s = now_s
            self._notifier.alive(self._status())


def run(path: Path) -> None:
    """Consume until SIGTERM or SIGINT.

    Raises:
        FixSetup: configuration, keys or schema cannot be used.
        RetryLater: database or broker cannot be reached.
    """
    config = load_central(path)
    trust = config.trust
    keyring = Keyring(trust.devices_file)
    key = load_receipt_key(trust.receipt_key_file, trust.keys_file, trust.root_thumbprint)
    engine = open_database(config.database.url, path.parent)
    before, schema = migrate(engine)
    log.info("database %s: schema %s%s", shown(engine), schema, "" if before == schema else f", was {before}")
    with reading(engine) as connection:
        keyring.require(newest_taken(connection, config.broker.name))
    notifier = Notifier()
    server = Server(engine, keyring, Signer(config.broker.name, key))
    server.turned = Pulse(notifier, server.summary)
    stop = stopping_on_signals()
    try:
        with consuming(config.address) as consumer:
            notifier.ready("consuming")
            log.info("consuming from %s as %s", config.broker.url, config.broker.name)
            server.run(consumer, stop)
            notifier.stopping()
    finally:
        engine.dispose()
