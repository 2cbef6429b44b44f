"""Whoever sits at the desk is sent rubbish and worse, and goes on: refused with a reason, logged, nothing changed."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from demo.boards import PASSPHRASE
from edge.board.clock import Clock
from edge.errors import RetryLater
from edge.records import TimeReading
from edge.trust.admission import Purpose
from edge.trust.claim import REQUEST_TYP, Claim, claim_urn, csr_of, fleet_urn
from edge.trust.commands import Command, Status, reply_claims
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, encode_base64url, sign, sign_shared
from edge.trust.receipts import head_claims
from edge.trust.seal import sealing_key_text
from edge.trust.tokens import HEAD_TYP, REPLY_TYP
from edge.uplink.client import Client, Incoming
from provisioning import schema
from provisioning.claims import add_claim, add_device
from provisioning.commands import give
from provisioning.entries import ClaimState
from provisioning.fleet import REGISTRY_FILE, open_fleet
from provisioning.link import connect, listener_of, spread
from provisioning.revoke import revoke
from provisioning.serve import Desk, at_the_desk
from tests.claiming import Board
from tests.fleet_broker import FleetBroker, Peer, fleet_broker
from tests.quietly import DEADLINE_S, claimed, desk, edge, new_claim, wait_for

STRANGER = SigningKey.generate()
JTI = "A" * 22


@pytest.fixture
def broker() -> Iterator[FleetBroker]:
    with fleet_broker(()) as running:
        yield running


def now() -> TimeReading:
    return Clock().read()


def request(claim: Claim, **changes: Any) -> bytes:
    """Authenticated by the claim's secret."""
    claims = {
        "iss": claim_urn(claim.id),
        "aud": fleet_urn(claim.fleet),
        "iat": int(time.time()),
        "csr": encode_base64url(csr_of(STRANGER, "door-99")),
        "sealing_key": sealing_key_text(X25519PrivateKey.generate().public_key()),
        "version": "1",
        "key_protection": "tpm2",
        "board": "PC",
    }
    return sign_shared(claims | changes, claim.request_key, REQUEST_TYP).compact.encode()


def test_hostile_requests_change_nothing_and_the_board_that_comes_after_them_is_let_in(
    broker: FleetBroker, caplog: pytest.LogCaptureFixture
) -> None:
    claim, board = new_claim(broker), Board.blank(broker.folder / "board")
    foreign = csr_of(SigningKey.generate(), "x")
    hostile = [
        b"rubbish",
        b"a.b.c",
        b"\x00" * 5000,
        json.dumps({"csr": "x"}).encode(),
        sign({}, STRANGER, REQUEST_TYP).compact.encode(),
        request(claim)[:-5] + b"AAAAA",
        # Authenticated by the claim's own secret, and wrong in meaning:
        request(claim, aud=fleet_urn("X" * 43)),
        request(claim, iss=claim_urn("zzzzzzzzzz")),
        request(claim, csr="AAAA"),
        request(claim, csr=encode_base64url(foreign[:-9] + b"\x00" * 9)),
        request(claim, sealing_key="AAAA"),
        request(claim, key_protection="unbreakable"),
        request(claim, board="two\nlines"),
        request(claim, admin=True),
    ]
    before = len(list(broker.fleet.registry.audit()))
    with caplog.at_level(logging.WARNING), desk(broker, auto=True):
        with broker.with_claim(claim.id, claim.password) as thief:
            for content in hostile:
                assert thief.publish(f"hadir/v1/claim/{claim.id}/request", content, retain=True) == 0
        wait_for(lambda: len({r.message for r in caplog.records if "not believed" in r.message}) >= 5)
        known = broker.fleet.registry.claim(claim.id)
        assert known is not None
        assert known.state is ClaimState.OPEN
        assert len(list(broker.fleet.registry.audit())) == before
        path = board.places.config.with_name("hadir-claim.json")
        path.write_text(claim.file)
        assert edge("claim", "--config", board.places.config, "--claim", path).returncode == 0
    assert claim.secret not in caplog.text


def test_what_a_board_asks_while_the_registry_cannot_be_written_is_taken_later(
    broker: FleetBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the request was dropped with a line in the log, and its board waited until somebody restarted it."""
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.1)
    claim = new_claim(broker)
    with broker.with_claim(claim.id, claim.password) as asking:
        assert asking.publish(f"hadir/v1/claim/{claim.id}/request", request(claim), retain=True) in (0, 0x10)
    fleet = open_fleet(broker.fleet.folder)
    busy = sqlite3.connect(fleet.folder / REGISTRY_FILE)
    busy.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryLater, match="nothing was changed"), connect(fleet) as client:
        Desk(fleet, client, listener_of(fleet), auto=True, tell=print).run(lambda: False)
    busy.close()
    fleet.registry.close()
    with desk(broker, auto=True):
        wait_for(lambda: [c.state for c in broker.fleet.registry.claims("door-01")] == [ClaimState.ISSUED])


def test_the_board_that_replaces_a_revoked_one_is_answered_when_the_broker_lets_it_in(
    broker: FleetBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it had its certificate before the broker had read that the door has a board again."""
    claimed(broker)
    fleet, now_s = broker.fleet, int(time.time())
    revoke(fleet, "door-01", now_s=now_s)
    spread(fleet, now_s)
    claim = add_claim(fleet, "door-01", Purpose.REPLACE, listener=listener_of(fleet), now_s=now_s)
    denied_at_the_answer: list[bool] = []

    def publish(client: Client, topic: str, *_: object, **__: object) -> None:
        if topic.endswith("/response"):
            access = (fleet.folder / "broker" / "devices.acl").read_text()
            denied_at_the_answer.append("user door-01\ntopic deny #" in access)

    monkeypatch.setattr(Client, "publish", publish)
    with connect(fleet) as client:
        asked = Incoming(f"hadir/v1/claim/{claim.id}/request", request(claim), False)
        Desk(fleet, client, listener_of(fleet), auto=True, tell=print).take(asked)
    assert denied_at_the_answer == [False]


def test_a_board_whose_claim_has_expired_is_told_so(
    broker: FleetBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the broker went on to let it in, and it waited for an approval that could not come."""
    fleet, now_s = broker.fleet, int(time.time())
    claim = add_device(fleet, "door-01", listener=listener_of(fleet), now_s=now_s - 3540, lifetime_s=3600)
    spread(fleet, now_s)
    passwords = fleet.folder / "broker" / "claims.passwd"
    assert claim.id in passwords.read_text()
    monkeypatch.setattr(Client, "publish", lambda *_, **__: None)
    with connect(fleet) as client:
        later = Desk(
            fleet, client, listener_of(fleet), auto=True, tell=print, now_s=lambda: float(now_s + 61)
        )
        later.take(Incoming(f"hadir/v1/claim/{claim.id}/request", request(claim), False))
        later.spread()
    assert claim.id not in passwords.read_text()


def test_a_board_that_counts_versions_up_does_not_fill_the_audit(broker: FleetBroker) -> None:
    """Regression: each higher number that it said was an entry."""
    key, fleet = claimed(broker).current.signing_key(), broker.fleet
    with desk(broker), broker.client("door-01") as thief:
        for version in (2**40, 7, 2, 1):
            status = {"state": "online", "head": head("door-01", key), "keys": version}
            _publish(thief, "up/status", json.dumps(status).encode())
        wait_for(lambda: fleet.registry.setting("keys-of:door-01") is not None)
    assert fleet.registry.setting("keys-of:door-01") == 1


def head(device: str, key: SigningKey) -> str:
    identity = DeviceIdentity(device, "hq", key)
    return sign(head_claims(identity, "C" * 22, 0, None, now()), key, HEAD_TYP).compact


def reply(device: str, key: SigningKey, jti: str, **changes: Any) -> bytes:
    identity = DeviceIdentity(device, "hq", key)
    command = Command(jti, 1, "ping", {}, 0, 0, None)
    claims = reply_claims(identity, command, now(), Status.DONE) | changes
    return sign(claims, key, REPLY_TYP).compact.encode()


def test_hostile_statuses_and_answers_settle_nothing(
    broker: FleetBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A board that was taken over signs whatever it likes, under its own name."""
    boards = {device: claimed(broker, device) for device in ("door-01", "door-02")}
    key, other = (boards[device].current.signing_key() for device in ("door-01", "door-02"))
    fleet = broker.fleet
    mine = give(fleet, "door-01", "ping", {}, now_s=int(time.time()))
    others = give(fleet, "door-02", "ping", {}, now_s=int(time.time()))
    statuses: list[Any] = [
        [],
        {"head": 7},
        {"head": "a.b.c"},
        {"head": head("door-01", STRANGER)},
        {"head": head("door-02", other)},
        {"head": sign({"chain": "x"}, key, HEAD_TYP).compact},
        {"head": sign({}, key, REPLY_TYP).compact},
        {"head": head("door-01", key), "keys": "all"},
        {"head": head("door-01", key), "keys": True},
    ]
    replies = [
        b"rubbish",
        reply("door-01", STRANGER, mine.jti),
        reply("door-02", other, others.jti),
        # Signed by this board's own key, and wrong in meaning:
        reply("door-01", key, others.jti),
        reply("door-01", key, JTI),
        reply("door-02", key, mine.jti),
        reply("door-01", key, mine.jti, status="excellent"),
        reply("door-01", key, mine.jti, result=[]),
        reply("door-01", key, mine.jti, reason="two\nlines"),
        reply("door-01", key, mine.jti, n=0),
    ]
    with caplog.at_level(logging.WARNING), desk(broker):
        with broker.client("door-01") as thief:
            for status in statuses:
                _publish(thief, "up/status", json.dumps(status).encode(), retain=True)
            for content in replies:
                _publish(thief, "up/reply", content)
            _publish(thief, "up/reply", reply("door-01", key, mine.jti))
        wait_for(lambda: (given := fleet.registry.command(mine.jti)) is not None and given.status == "done")
    untouched = fleet.registry.command(others.jti)
    assert untouched is not None
    assert untouched.status is None
    assert fleet.registry.setting("keys-of:door-01") is None
    assert len({r.message for r in caplog.records if "not believed" in r.message}) >= 5


def _publish(peer: Peer, topic: str, content: bytes, *, retain: bool = False) -> None:
    assert peer.publish(f"hadir/v1/door-01/{topic}", content, retain=retain) == 0


@pytest.mark.parametrize("csr", ["AAAA", "!", "", "A" * 9000])
def test_a_certificate_request_of_a_rotation_that_makes_no_sense_gets_no_certificate(
    broker: FleetBroker, csr: str, caplog: pytest.LogCaptureFixture
) -> None:
    board, fleet = claimed(broker), broker.fleet
    key = board.current.signing_key()
    given = give(fleet, "door-01", "rotate", {}, now_s=int(time.time()))
    with desk(broker), broker.client("door-01") as thief:
        _publish(thief, "up/reply", reply("door-01", key, given.jti, result={"kid": "x", "csr": csr}))
        wait_for(lambda: (one := fleet.registry.command(given.jti)) is not None and one.status == "done")
    assert [known.kid for known in fleet.registry.device_keys("door-01")] == [key.kid]
    last = fleet.registry.last_command("door-01", "rotate")
    assert last is not None
    assert last.jti == given.jti


def test_whoever_sits_down_writes_what_whoever_died_there_had_not_written(broker: FleetBroker) -> None:
    """Regression: the broker went on letting in a claim that was used up, until something else changed."""
    fleet, claim = broker.fleet, new_claim(broker)
    passwords = Path(broker.settings.folder) / "claims.passwd"
    with fleet.change("test", "door-01", now_s=int(time.time())) as change:
        change.update_claim(claim.id, ClaimState.USED)
    assert claim.id in passwords.read_text()
    with connect(fleet) as client:
        Desk(fleet, client, listener_of(fleet), auto=False, tell=print).run(lambda: True)
        assert claim.id in passwords.read_text(), "a command's short visit owes nothing"
        Desk(fleet, client, listener_of(fleet), auto=False, tell=print, owing=True).run(lambda: True)
    assert claim.id not in passwords.read_text()


def served(broker: FleetBroker) -> subprocess.Popen[str]:
    """`hadir-provision serve` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "provisioning.cli", "serve", str(broker.fleet.folder)],
        env=os.environ | {"HADIR_PASSPHRASE": PASSPHRASE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_serve_waits_until_a_command_has_left_the_desk_and_not_for_another_serve(broker: FleetBroker) -> None:
    """Regression: begun while `rotate-fleet` had the desk, it ended, and nobody was there when that was through."""
    with at_the_desk(broker.fleet) as empty, served(broker) as waiting:
        assert empty
        assert waiting.stdout is not None
        assert waiting.stdout.readline().startswith("another command is at the desk; waiting")
        waiting.terminate()
        assert waiting.wait(DEADLINE_S) == 0
    with served(broker) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline().startswith("answering claims at ")
        with served(broker) as second:
            said = second.communicate(timeout=DEADLINE_S)[1]
        assert "another `hadir-provision serve` is at its desk; stop it first" in said
        serving.terminate()
