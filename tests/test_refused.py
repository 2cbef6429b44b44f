"""Whom the broker does not let in is told whose trouble that is: this board's, or every board's."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from central.consume import BrokerAddress, consuming
from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable
from edge.trust.refused import explain
from edge.uplink.client import Client, Login
from edge.uplink.connection import Closed, Connected, Connection, Will, try_login
from edge.uplink.reach import Dates, Tls, tls_context, try_handshake
from provisioning.authority import moment, pem
from provisioning.deploy import write_access
from provisioning.mosquitto import running
from tests.fleet_broker import FleetBroker, fleet_broker
from tests.quietly import wait_for

DAY_S = 24 * 3600
Files = tuple[Path, Path]
Ask = Callable[[BrokerConfig, Tls], object]


@pytest.fixture(scope="module")
def broker() -> Iterator[FleetBroker]:
    with fleet_broker(()) as started:
        yield started


def shake_hands(config: BrokerConfig, tls: Tls) -> None:
    """The check beside a running daemon."""
    try_handshake(config, timeout_s=5, tls=tls)


def log_in(config: BrokerConfig, tls: Tls) -> None:
    """The check where no daemon runs."""
    try_login(config, "door-01", keep_session=False, timeout_s=5, tls=tls)


def connect(config: BrokerConfig, tls: Tls) -> None:
    """The daemon; what it raises is what it writes into its log."""
    inbox: SimpleQueue[object] = SimpleQueue()
    connection = Connection(config, "door-01", Will("hadir/v1/door-01/up/status", b""), inbox, tls)  # type: ignore[arg-type]
    connection.open()
    try:
        answer = inbox.get(timeout=5)
        if isinstance(answer, Closed):
            raise BrokerUnavailable(answer.detail)
        assert isinstance(answer, Connected)
    finally:
        connection.close()


def converse(config: BrokerConfig, tls: Tls) -> None:
    """A claim's first status, and the administrator's commands."""
    with Client(config, Login("door-01"), tls_context(config, tls)):
        pass


WAYS: tuple[Ask, ...] = (shake_hands, log_in, connect, converse)


def board(broker: FleetBroker, files: Files) -> BrokerConfig:
    return BrokerConfig(
        url=broker.settings.url, ca_file=broker.ca_file, cert_file=files[0], private_key_file=files[1]
    )


def certified(broker: FleetBroker, now_s: float) -> Files:
    """A certificate of door-01, issued at some time."""
    key, authority = ec.generate_private_key(ec.SECP256R1()), broker.fleet.authority()
    certificate = authority.issue_device(key.public_key(), "door-01", moment(now_s))
    return broker._save(certificate, authority.chain, key)


def put_list(broker: FleetBroker, now_s: float, *revoked: Files) -> None:
    """Have the broker read a revocation list that was issued at some time."""
    serials = [
        (x509.load_pem_x509_certificate(files[0].read_bytes()).serial_number, moment(now_s))
        for files in revoked
    ]
    issued = broker.fleet.authority().revocation_list(serials, 100, moment(now_s))
    folder = Path(broker.settings.folder)
    (folder / "crl.pem").write_text(pem(issued))
    for one in running(folder / "mosquitto.conf"):
        one.reload()


def said(ask: Ask, config: BrokerConfig, tls: Tls | None = None) -> str:
    with pytest.raises(BrokerUnavailable) as refused:
        ask(config, tls or Tls())
    return str(refused.value)


def test_whoever_is_let_in_is_let_in_whichever_way_it_comes(broker: FleetBroker) -> None:
    put_list(broker, time.time())
    config = board(broker, certified(broker, time.time()))
    for way in WAYS:
        way(config, Tls())


@pytest.mark.parametrize("way", WAYS)
def test_a_revocation_list_that_has_ended_is_every_boards_trouble_and_the_administrators_to_mend(
    broker: FleetBroker, way: Ask
) -> None:
    put_list(broker, time.time() - 400 * DAY_S)
    told = said(way, board(broker, certified(broker, time.time())))
    assert (
        "the broker's revocation list has ended, which locks out every board, or the broker's clock" in told
    )
    assert "`hadir-provision broker FLEET`, see that the broker gets crl.pem" in told


def test_without_a_clock_a_board_does_not_say_which_of_the_two_it_is(broker: FleetBroker) -> None:
    put_list(broker, time.time() - 400 * DAY_S)
    unsure = Tls(dates=lambda: Dates(believed=False, floor_s=0.0, now_s=0.0))
    told = said(connect, board(broker, certified(broker, time.time())), unsure)
    assert "its clock does not tell whether that is over" in told
    assert "`hadir-provision renew FLEET door-01`, else the broker's revocation list has ended" in told


@pytest.mark.parametrize("way", WAYS)
def test_a_revoked_board_is_told_that_it_is(broker: FleetBroker, way: Ask) -> None:
    files = certified(broker, time.time())
    put_list(broker, time.time(), files)
    told = said(way, board(broker, files))
    assert "refused: the certificate of door-01 was revoked; whoever revoked door-01 knows why" in told
    assert "revocation list has ended" not in told


@pytest.mark.parametrize("way", WAYS)
def test_a_board_that_slept_past_its_certificate_is_told_to_renew(broker: FleetBroker, way: Ask) -> None:
    put_list(broker, time.time())
    told = said(way, board(broker, certified(broker, time.time() - 400 * DAY_S)))
    assert "refused: the certificate of door-01 ended on 20" in told
    assert "`hadir-provision renew FLEET door-01`" in told
    assert "revocation list" not in told


def certificate_of(broker: FleetBroker, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(broker.certificate(name)[0].read_bytes())


@pytest.mark.parametrize(
    ("name", "renewal"),
    [
        ("door-01", "`hadir-provision renew FLEET door-01`"),
        ("central-1", "`hadir-provision consumer renew FLEET central-1`"),
        ("provision", "`hadir-provision broker FLEET`"),
    ],
)
def test_whoever_it_is_is_told_how_to_come_by_another_certificate(
    broker: FleetBroker, name: str, renewal: str
) -> None:
    certificate = certificate_of(broker, name)
    told = explain("SSLV3_ALERT_CERTIFICATE_EXPIRED", certificate, time.time() + 800 * DAY_S)
    assert told is not None
    assert (name in told[0], renewal in told[1]) == (True, True)


def server(broker: FleetBroker, files: Files) -> BrokerAddress:
    files[1].chmod(0o600)
    return BrokerAddress(
        broker.settings.url,
        "central-1",
        ca_file=broker.ca_file,
        cert_file=files[0],
        private_key_file=files[1],
    )


def test_a_server_that_starts_is_told_the_same(broker: FleetBroker) -> None:
    address = server(broker, broker.certificate("central-1"))
    put_list(broker, time.time() - 400 * DAY_S)
    for url, told in (
        (address.url, "revocation list has ended, which locks out every board"),
        ("mqtts://127.0.0.1:1", "check that it runs, and its address"),
    ):
        with pytest.raises(BrokerUnavailable, match=told), consuming(replace(address, url=url)):
            raise AssertionError("it was let in")


def test_a_server_that_is_thrown_off_says_why_it_does_not_come_back_and_says_it_once(
    broker: FleetBroker, caplog: pytest.LogCaptureFixture
) -> None:
    files = broker.certificate("central-1")
    put_list(broker, time.time())
    with broker.fleet.change("test", "central-1", now_s=int(time.time())) as change:
        change.add_consumer("central-1")
    write_access(broker.fleet, int(time.time()))
    with caplog.at_level(logging.INFO), consuming(server(broker, files)):
        put_list(broker, time.time(), files)
        with broker.with_certificate(broker.certificate("central-1")) as other:  # takes the session over
            assert other.connected
        wait_for(lambda: "the certificate of central-1 was revoked" in caplog.text)
        tried = caplog.text.count("connection ended")
        put_list(broker, time.time())
        wait_for(lambda: "connected again" in caplog.text)
    assert tried == 1
    assert caplog.text.count("the certificate of central-1 was revoked") == 1


def test_a_refusal_of_another_kind_keeps_the_brokers_own_word(broker: FleetBroker) -> None:
    put_list(broker, time.time())
    told = said(connect, board(broker, certified(broker, time.time() + 400 * DAY_S)))
    assert "TLS failed (SSLV3_ALERT_BAD_CERTIFICATE)" in told
    held = certified(broker, time.time())[0].read_bytes()
    assert explain("TLSV1_ALERT_UNKNOWN_CA", x509.load_pem_x509_certificate(held), 0.0) is None
