"""What keeps a board from its broker is told so that whoever stands at the door knows what to do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable
from edge.uplink.reach import try_handshake, unavailable
from tests.certificates import Authority


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


def test_a_peer_that_speaks_first_has_let_the_board_in(tmp_path: Path) -> None:
    """Whether it speaks MQTT is for a login to find out."""
    with tls_peer(tmp_path, b"220 ready") as broker:
        try_handshake(broker, timeout_s=10)


def test_a_failure_of_another_kind_is_told_in_its_own_words() -> None:
    error = OSError(101, "Network is unreachable")
    told = str(unavailable(BrokerConfig(url="mqtt://10.0.0.1"), error))
    assert told == (
        "broker mqtt://10.0.0.1: [Errno 101] Network is unreachable; check the network, and that the broker runs"
    )
