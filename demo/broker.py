"""The embedded broker of demo, tests and benchmarks: rumqttd inside the `iotcore` wheel, MQTT 5, loopback only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iotcore import Broker

from demo.mosquitto import free_port

CONFIGURATION = """\
id = 0

[router]
id = 0
max_connections = 1024
max_outgoing_packet_count = 1000
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "hadir"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 10000
max_payload_size = 65536
max_inflight_count = 2048
dynamic_filters = true
"""
"""65,536 bytes hold any event (4 KiB) and any status; 2,048 is the design's limit of unreceipted events."""


@contextmanager
def embedded_broker(port: int = 0) -> Iterator[str]:
    """A running broker; yields its URL. Port 0 takes one that is free."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="hadir-broker-") as folder:
        path = Path(folder) / "rumqttd.toml"
        path.write_text(CONFIGURATION.format(port=port), encoding="utf-8")
        with Broker(config_path=str(path)):
            yield f"mqtt://127.0.0.1:{port}"
