"""Errors to build into the daemon, each of which the torture must find: else it would show nothing.

A mutation changes the modules of the process that calls it, before the daemon is built.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from edge.records import Attendance, SignedToken
from edge.trust.jws import SigningKey, encode_base64url, parse_object, sign
from edge.trust.tokens import EVENT_TYP
from edge.uplink import recorder
from edge.uplink.connection import Connection
from edge.uplink.drain import Drain
from edge.uplink.outbox import Outbox, StoredEvent
from edge.uplink.recorder import Recorder

PUBACK_S = 2.0


def publish_before_commit() -> None:
    """The token is at the broker before its transaction commits: the commit moved after the publish."""
    live: list[Connection] = []
    open_connection = Connection.open

    def opened(self: Connection) -> Connection:
        live[:] = [open_connection(self)]
        return self

    def sign_and_publish(claims: Mapping[str, Any], key: SigningKey, typ: str) -> SignedToken:
        token = sign(claims, key, typ)
        device = claims["iss"].rpartition(":")[2]
        if live:
            # The client's own call, because ours has no way to wait: none is needed on a board.
            sent = live[0]._client.publish(f"hadir/v1/{device}/up/event", token.compact, qos=1)
            sent.wait_for_publish(PUBACK_S)
        return token

    Connection.open = opened  # type: ignore[method-assign,assignment]
    recorder.sign = sign_and_publish  # type: ignore[attr-defined]


def delete_before_puback() -> None:
    """What is read to be sent counts as delivered at once."""
    waiting = Outbox.waiting

    def forgetful(self: Outbox, after_seq: int, limit: int) -> tuple[StoredEvent, ...]:
        events = waiting(self, after_seq, limit)
        if events:
            self.acknowledge([event.seq for event in events], at_real_ms=0)
        return events

    Outbox.waiting = forgetful  # type: ignore[method-assign]


def sign_again_to_send() -> None:
    """Each sending signs the claims anew, with another `jti`, instead of giving the stored bytes."""
    keys: list[SigningKey] = []
    waiting = Outbox.waiting

    def remembering(claims: Mapping[str, Any], key: SigningKey, typ: str) -> SignedToken:
        keys[:] = [key]
        return sign(claims, key, typ)

    def signed_again(self: Outbox, after_seq: int, limit: int) -> tuple[StoredEvent, ...]:
        return tuple(
            StoredEvent(event.seq, sign(_with_new_jti(event.token), keys[0], EVENT_TYP).compact)
            for event in waiting(self, after_seq, limit)
        )

    recorder.sign = remembering  # type: ignore[attr-defined]
    Outbox.waiting = signed_again  # type: ignore[method-assign]


def head_apart() -> None:
    """Nothing holds an event and its head together: each statement commits by itself."""

    @contextmanager
    def apart(self: Outbox, doing: str) -> Iterator[Callable[..., sqlite3.Cursor]]:
        with self._lock, self._durably(doing):
            yield self._database.execute

    Outbox._transaction = apart  # type: ignore[method-assign,assignment]


def tell_before_commit() -> None:
    """An attendance is called durable while another thread is still about to store it."""
    attendance = Recorder.attendance

    def later(self: Recorder, passed: Attendance) -> None:
        threading.Thread(target=attendance, args=(self, passed)).start()

    Recorder.attendance = later  # type: ignore[method-assign,assignment]


def puback_for_receipt() -> None:
    """A PUBACK counts as delivery although the server has signed nothing yet."""
    begin = Drain.__init__

    def trusting(self: Drain, *arguments: Any) -> None:
        begin(self, *arguments)
        self.window.outstanding_max = None

    Drain.__init__ = trusting  # type: ignore[method-assign,assignment]


MUTATIONS: Mapping[str, Callable[[], None]] = {
    "publish-before-commit": publish_before_commit,
    "delete-before-puback": delete_before_puback,
    "sign-again-to-send": sign_again_to_send,
    "head-apart": head_apart,
    "tell-before-commit": tell_before_commit,
}

WITH_RECEIPTS: Mapping[str, Callable[[], None]] = {"puback-for-receipt": puback_for_receipt}
"""Errors only where a receipt is delivery."""


def _with_new_jti(token: str) -> Mapping[str, Any]:
    claims = parse_object(token.split(".")[1].encode(), "payload")
    return claims | {"jti": encode_base64url(json.dumps([claims["jti"], time.time_ns()]).encode())}
