"""What keeps a board from its broker is told so that whoever stands at the door knows what to do."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable
from edge.uplink.reach import try_handshake, unavailable
from tests.certificates import Authority


def test_a_broker_that_hangs_up_right_after_tls_is_told(tmp_path: Path) -> None:
    """TLS was good, so its own log knows why."""
    authority = Authority(tmp_path)
    server = authority.issue("server", host="127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as channel:
                channel.shutdown(socket.SHUT_WR)
                channel.recv(1)

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"mqtts://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            BrokerUnavailable, match=f"broker {url}: hung up right after TLS; the broker's log"
        ):
            try_handshake(BrokerConfig(url=url, ca_file=authority.certificate), timeout_s=10)
        thread.join(20)


def test_a_failure_of_another_kind_is_told_in_its_own_words() -> None:
    error = OSError(101, "Network is unreachable")
    told = str(unavailable(BrokerConfig(url="mqtt://10.0.0.1"), error))
    assert told == (
        "broker mqtt://10.0.0.1: [Errno 101] Network is unreachable; check the network, and that the broker runs"
    )
