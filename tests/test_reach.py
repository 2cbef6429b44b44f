"""What keeps a board from its broker is told so that whoever stands at the door knows what to do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable
from edge.trust.claim import pin_of
from edge.uplink.reach import Dates, Tls, address_of, pinned_context, try_handshake, unavailable
from tests.certificates import DAY, Authority, tls_door


@contextmanager
def tls_peer(folder: Path, first_words: bytes) -> Iterator[BrokerConfig]:
    """Takes one TLS connection, says this, if anything, and hangs up."""
    authority = Authority(folder)
    server = authority.issue("server", host="127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as channel:
                if first_words:
                    channel.sendall(first_words)
                channel.shutdown(socket.SHUT_WR)
                channel.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"mqtts://127.0.0.1:{listener.getsockname()[1]}"
        yield BrokerConfig(url=url, ca_file=authority.certificate)
        thread.join(20)


def test_a_broker_that_hangs_up_right_after_tls_is_told(tmp_path: Path) -> None:
    """TLS was good, so its own log knows why."""
    with (
        tls_peer(tmp_path, b"") as broker,
        pytest.raises(
            BrokerUnavailable, match=f"broker {broker.url}: hung up right after TLS; the broker's log"
        ),
    ):
        try_handshake(broker, timeout_s=10)


def test_a_peer_that_speaks_first_is_no_broker(tmp_path: Path) -> None:
    with (
        tls_peer(tmp_path, b"220 ready") as broker,
        pytest.raises(BrokerUnavailable, match="it speaks first, as no MQTT broker does; somebody else may"),
    ):
        try_handshake(broker, timeout_s=10)


def test_a_failure_of_another_kind_is_told_in_its_own_words() -> None:
    error = OSError(101, "Network is unreachable")
    told = str(unavailable(BrokerConfig(url="mqtt://10.0.0.1"), error))
    assert told == (
        "broker mqtt://10.0.0.1: [Errno 101] Network is unreachable; check the network, and that the broker runs"
    )


def test_without_a_clock_dates_do_not_count_but_chain_and_name_do(tmp_path: Path) -> None:
    """A board without a battery starts in 1970, or when it was last switched off."""
    long_ago = datetime.now(UTC) - 1000 * DAY
    floor_s = (long_ago - 2 * DAY).timestamp()
    with tls_door(server_now=long_ago) as door:
        with pytest.raises(BrokerUnavailable, match="certificate has expired"):
            try_handshake(door.config(), timeout_s=5)
        unsure = Tls(dates=lambda: Dates(believed=False, floor_s=floor_s, now_s=0.0))
        try_handshake(door.config(), timeout_s=5, tls=unsure)
        with pytest.raises(BrokerUnavailable, match="certificate"):
            try_handshake(door.config(ca_file=Authority(tmp_path).certificate), timeout_s=5, tls=unsure)
    with tls_door(host="elsewhere.example") as door, pytest.raises(BrokerUnavailable, match="not valid for"):
        try_handshake(door.config(), timeout_s=5, tls=unsure)


def test_without_a_clock_what_ended_before_the_floor_is_refused() -> None:
    long_ago = datetime.now(UTC) - 1000 * DAY
    after = Tls(dates=lambda: Dates(believed=False, floor_s=datetime.now(UTC).timestamp(), now_s=0.0))
    ended = "had ended before this board last knew the time; somebody else may be answering"
    with tls_door(server_now=long_ago) as door, pytest.raises(BrokerUnavailable, match=ended):
        try_handshake(door.config(), timeout_s=5, tls=after)


def test_a_pinned_broker_is_known_by_its_key_and_by_nothing_else() -> None:
    long_ago = datetime.now(UTC) - 1000 * DAY
    with tls_door(host="elsewhere.example", server_now=long_ago) as door:
        host, port = address_of(door.config())
        for pin, right in ((pin_of(server_key(host, port)), True), ("P" * 22, False)):
            context = pinned_context(pin)
            with socket.create_connection((host, port), 5) as plain:
                if right:
                    context.wrap_socket(plain, server_hostname=host).close()
                else:
                    with pytest.raises(ssl.SSLError, match="not the one that the claim names"):
                        context.wrap_socket(plain, server_hostname=host)


def server_key(host: str, port: int) -> PublicKeyTypes:
    pem = ssl.get_server_certificate((host, port), timeout=5)
    return x509.load_pem_x509_certificate(pem.encode()).public_key()
