"""The board's side of a claim on the network: ask at the claim listener, and wait for the answer.

A board may wait for days, through reboots, without a network and with a wrong clock. What it
asks is the same each time, and so is what it gets; nothing here changes anything on disk.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable, TokenRefused
from edge.steps import IdentityStep, reached
from edge.trust.admission import Admission
from edge.trust.claim import Claim
from edge.uplink.client import Client, Login
from edge.uplink.reach import pinned_context

log = logging.getLogger(__name__)

REQUEST_EXPIRY_S = 30 * 24 * 3600
"""How long the broker keeps a request that nobody answers; no claim lives longer."""

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0

REMIND_S = 600.0
"""How often a waiting board says in its log that it waits."""

Open = Callable[[bytes], Admission]
"""Opens an answer. Raises TokenRefused where it is not for this board."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long to wait between tries, and what to look at meanwhile."""

    stop: threading.Event
    retry_min_s: float = RETRY_MIN_S
    retry_max_s: float = RETRY_MAX_S

    def pause(self, failures: int) -> None:
        """After so many failures in a row, with jitter: three hundred boards may wait for one broker."""
        pause_s = min(self.retry_max_s, self.retry_min_s * 2 ** min(failures, 16))
        self.stop.wait(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret


def ask(claim: Claim, request: bytes, open_answer: Open, waiting: Waiting) -> Admission | None:
    """Ask until there is an answer; None once asked to stop."""
    failures = 0
    while not waiting.stop.is_set():
        try:
            admission = _ask_once(claim, request, open_answer, waiting.stop)
        except BrokerUnavailable as error:
            log.warning("claim %s: %s. Trying again", claim.id, error)
        else:
            if admission is not None:
                return admission
        waiting.pause(failures)
        failures += 1
    return None


def _ask_once(claim: Claim, request: bytes, open_answer: Open, stop: threading.Event) -> Admission | None:
    """One connection. Raises BrokerUnavailable when it ends."""
    broker = BrokerConfig(url=f"mqtts://{claim.broker}")
    login = Login(client_id=claim.id, username=claim.id, password=claim.password)
    with Client(broker, login, pinned_context(claim.server)) as client:
        reached(IdentityStep.ASKING)
        client.subscribe([f"{topic(claim.id)}/response"])
        client.publish(f"{topic(claim.id)}/request", request, retain=True, expiry_s=REQUEST_EXPIRY_S)
        reached(IdentityStep.ASKED)
        log.info("claim %s: asked at %s; waiting to be approved", claim.id, claim.broker)
        remind_at_s = time.monotonic() + REMIND_S
        while not stop.is_set():
            message = client.receive(0.5)
            if message is not None and message.payload:
                admission = believed(claim, message.payload, open_answer)
                if admission is not None:
                    return admission
            if time.monotonic() >= remind_at_s:
                log.info("claim %s: still waiting to be approved", claim.id)
                remind_at_s += REMIND_S
    return None


def believed(claim: Claim, answer: bytes, open_answer: Open) -> Admission | None:
    """What an answer says, where it is one; else None, and the log says why."""
    try:
        return open_answer(answer)
    except TokenRefused as refused:
        log.warning("claim %s: an answer is not believed, and changed nothing: %s", claim.id, refused)
    return None


def topic(claim: str) -> str:
    """Above `request` and `response`."""
    return f"hadir/v1/claim/{claim}"
