"""Who may do what at the broker, on a real Mosquitto: shown by what arrives and by what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from edge.trust.admission import Purpose
from provisioning.broker import password_hash
from provisioning.deploy import write_access
from provisioning.mosquitto import running
from tests.fleet_broker import FleetBroker, Peer, fleet_broker

NOT_AUTHORIZED = 0x87
NO_SUBSCRIBERS = 0x10
T = "hadir/v1"

CLAIM, OTHER_CLAIM = "k7m2p9x4wq", "a2b3c4d5e6"
PASSWORD, OTHER_PASSWORD = "password one", "password two"
PASSWORDS = {CLAIM: PASSWORD, OTHER_CLAIM: OTHER_PASSWORD}

ALL = (
    f"{T}/door-01/up/event",
    f"{T}/door-02/up/event",
    f"{T}/door-01/up/status",
    f"{T}/door-02/up/status",
    f"{T}/door-02/up/health",
    f"{T}/door-02/up/reply",
    f"{T}/door-02/up/gallery",
    f"{T}/door-02/up/enrol/x/1",
    f"{T}/door-01/down/receipt",
    f"{T}/door-02/down/receipt",
    f"{T}/door-02/down/gallery",
    f"{T}/door-02/down/gallery/x/1",
    f"{T}/door-02/down/keys",
    f"{T}/door-02/down/crl",
    f"{T}/door-02/down/command",
    f"{T}/claim/{CLAIM}/request",
    f"{T}/claim/{CLAIM}/response",
    f"{T}/claim/{OTHER_CLAIM}/request",
    f"{T}/claim/{OTHER_CLAIM}/response",
    f"{T}/central-1/up/event",
    f"{T}/central-1/down/receipt",
    f"{T}/provision/up/status",
    "somewhere/else",
    "hadir/v2/door-01/up/event",
)
"""A topic of each kind, and some that nobody has a right to."""


@pytest.fixture(scope="module")
def broker() -> Iterator[FleetBroker]:
    with fleet_broker() as started:
        now_s = int(time.time())
        with started.fleet.change("test", "rights", now_s=now_s) as change:
            change.add_consumer("central-1")
            for claim, password in PASSWORDS.items():
                change.add_claim(
                    claim,
                    "door-02",
                    Purpose.FIRST,
                    secret=b"",
                    password=password_hash(password),
                    expires_s=now_s + 3600,
                )
        write_access(started.fleet, now_s)
        (process,) = running(started.fleet.folder / "broker" / "mosquitto.conf")
        process.reload()
        _wait_for_claims(started)
        yield started


def _wait_for_claims(broker: FleetBroker) -> None:
    """The reload has no answer of its own; a claim that is let in is one."""
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        with broker.with_claim(CLAIM, PASSWORD) as peer:
            if peer.connected:
                return
    raise AssertionError("mosquitto did not read its files again")


def writable(broker: FleetBroker, name: str) -> set[str]:
    with broker.client(name) as peer:
        assert peer.connected, peer.refused
        return {topic for topic in ALL if peer.publish(topic) != NOT_AUTHORIZED}


def expected(*topics: str) -> set[str]:
    return {f"{T}/{topic}" for topic in topics}


def test_a_board_writes_under_its_own_up_and_nowhere_else(broker: FleetBroker) -> None:
    assert writable(broker, "door-01") == expected("door-01/up/event", "door-01/up/status")


def test_a_consumer_writes_receipts_and_cannot_command(broker: FleetBroker) -> None:
    assert writable(broker, "central-1") == expected("door-01/down/receipt", "door-02/down/receipt")


def test_provisioning_writes_what_is_provisionings(broker: FleetBroker) -> None:
    assert writable(broker, "provision") == expected(
        "central-1/down/receipt",  # which nobody may read
        "door-02/down/gallery",
        "door-02/down/gallery/x/1",
        "door-02/down/keys",
        "door-02/down/crl",
        "door-02/down/command",
        *(f"claim/{claim}/{end}" for claim in (CLAIM, OTHER_CLAIM) for end in ("request", "response")),
        *(
            f"{device}/{topic}"
            for device in ("door-01", "door-02")
            for topic in ("up/status", "down/receipt")
        ),
    )


def test_a_claim_writes_its_request_and_nothing_else(broker: FleetBroker) -> None:
    with broker.with_claim(CLAIM, PASSWORD) as peer:
        assert peer.connected, peer.refused
        allowed = {topic for topic in ALL if peer.publish(topic) != NOT_AUTHORIZED}
    assert allowed == expected(f"claim/{CLAIM}/request")


READS = {
    "door-01": expected("door-01/down/receipt"),
    "central-1": expected(
        *(f"{device}/up/{topic}" for device in ("door-01", "door-02") for topic in ("event", "status")),
        "door-02/up/health",
    ),
    "provision": expected(
        "door-01/up/status",
        "door-02/up/status",
        "door-02/up/reply",
        "door-02/up/gallery",
        "door-02/up/enrol/x/1",
        f"claim/{CLAIM}/request",
        f"claim/{OTHER_CLAIM}/request",
    ),
    CLAIM: expected(f"claim/{CLAIM}/response"),
}
"""What arrives at whoever subscribes to everything while each topic is written by somebody who may."""


def as_whoever(broker: FleetBroker, name: str) -> Peer:
    return broker.with_claim(name, PASSWORDS[name]) if name in PASSWORDS else broker.client(name)


@pytest.mark.parametrize("name", READS)
def test_of_everything_only_what_is_ones_own_arrives(broker: FleetBroker, name: str) -> None:
    """The broker grants any subscription, so only what arrives tells."""
    with as_whoever(broker, name) as peer:
        assert peer.connected, peer.refused
        peer.subscribe("#", f"{T}/+/up/#", f"{T}/+/down/#", f"{T}/claim/+/+", *ALL, "$share/central/#")
        mine = READS[name]
        for writer in sorted({"door-01", "door-02", "central-1", "provision", OTHER_CLAIM, CLAIM} - {name}):
            with as_whoever(broker, writer) as writing:
                for topic in ALL:
                    writing.publish(topic)
        if name == "door-01":  # the consumer's receipt comes among the first; the marker comes last
            with broker.client("central-1") as writing:
                writing.publish(f"{T}/door-01/down/receipt", b"last")
        for topic in mine:
            assert peer.received(topic), topic
        assert set(peer.topics()) == mine


def test_a_retained_message_of_others_does_not_arrive_either(broker: FleetBroker) -> None:
    with broker.client("door-02") as writing:
        assert writing.publish(f"{T}/door-02/up/status", retain=True) in (0, NO_SUBSCRIBERS)
    with broker.client("central-1") as consumer:
        consumer.subscribe(f"{T}/+/up/status")
        assert consumer.received(f"{T}/door-02/up/status")
    with broker.client("door-01") as peer, broker.client("central-1") as consumer:
        peer.subscribe("#", f"{T}/door-02/up/status", f"{T}/door-01/down/#")
        consumer.publish(f"{T}/door-01/down/receipt")
        assert peer.received(f"{T}/door-01/down/receipt")
        assert set(peer.topics()) == {f"{T}/door-01/down/receipt"}


def test_a_will_in_anothers_name_is_not_published(broker: FleetBroker) -> None:
    with broker.client("central-1") as consumer:
        consumer.subscribe(f"{T}/+/up/status")
        thief = broker.client("door-01", will=(f"{T}/door-02/up/status", b"forged"))
        with thief:
            if thief.connected:
                thief._client.socket().close()  # type: ignore[union-attr]
        with broker.client("door-02") as true:
            true.publish(f"{T}/door-02/up/status", b"true")
        assert consumer.received(f"{T}/door-02/up/status")
        assert (f"{T}/door-02/up/status", b"forged") not in consumer.messages


@pytest.mark.parametrize("client_id", ["door-02", "central-1", "provision"])
def test_one_board_cannot_evict_another_by_taking_its_client_id(broker: FleetBroker, client_id: str) -> None:
    with broker.client(client_id) as other:
        assert other.connected
        with broker.client("door-01", client_id=client_id) as thief:
            assert thief.connected, "it is let in as what its certificate says"
            assert other.connected
            assert other.publish(f"{T}/{client_id}/up/x") in (0, NO_SUBSCRIBERS, NOT_AUTHORIZED)
        with broker.with_claim(CLAIM, PASSWORD, client_id=client_id) as claimed:
            assert claimed.connected
            assert other.publish(f"{T}/{client_id}/up/x") in (0, NO_SUBSCRIBERS, NOT_AUTHORIZED)
            assert other.connected


@pytest.mark.parametrize(
    ("claim", "password"),
    [(CLAIM, OTHER_PASSWORD), (CLAIM, ""), ("nobody", PASSWORD), ("door-01", PASSWORD), ("provision", "")],
)
def test_without_a_claims_password_nobody_is_let_in(broker: FleetBroker, claim: str, password: str) -> None:
    with broker.with_claim(claim, password) as peer:
        assert not peer.connected


def test_a_board_is_not_let_in_without_a_certificate_or_with_a_claims_password(broker: FleetBroker) -> None:
    peer = broker.with_claim(CLAIM, PASSWORD)
    peer._port = broker.settings.port
    with peer:
        assert not peer.connected


def test_a_certificate_of_another_authority_is_not_let_in(broker: FleetBroker) -> None:
    with fleet_broker() as foreign, broker.with_certificate(foreign.certificate("door-01")) as peer:
        assert not peer.connected


def test_a_claim_that_is_over_is_let_in_no_more(broker: FleetBroker) -> None:
    with broker.with_claim(CLAIM, PASSWORD) as peer:
        assert peer.connected
    write_access(broker.fleet, int(time.time()) + 7200)
    (process,) = running(broker.fleet.folder / "broker" / "mosquitto.conf")
    process.reload()
    deadline_s = time.monotonic() + 10
    let_in = True
    while let_in and time.monotonic() < deadline_s:
        with broker.with_claim(CLAIM, PASSWORD) as peer:
            let_in = peer.connected
    write_access(broker.fleet, int(time.time()))
    process.reload()
    assert not let_in
