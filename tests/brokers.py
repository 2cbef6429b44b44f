"""Brokers for whole-system tests, on free loopback ports, and a plain client that publishes."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from demo.broker import embedded_broker
from demo.mosquitto import mosquitto as run_mosquitto
from demo.mosquitto import program

Publish = Callable[[str, bytes | str], None]
"""Topic and payload, at QoS 1; returns once the broker has acknowledged."""

ACKNOWLEDGED_S = 20.0


@contextmanager
def mosquitto(settings: str = "allow_anonymous true") -> Iterator[str]:
    """A real Mosquitto with these settings for its one listener; yields its URL, or skips where there is none."""
    path = program()
    if path is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    with run_mosquitto(path, settings) as url:
        yield url


BROKERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "iotcore": embedded_broker,
    "mosquitto": mosquitto,
}
"""The brokers on which everything that is not about one of them is tested."""


@contextmanager
def publishing(
    url: str, client_id: str = "door-01", *, waits: bool = True, context: ssl.SSLContext | None = None
) -> Iterator[Publish]:
    """A connected client; yields what publishes, and waits for each acknowledgement unless told not to."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
    if context is not None:
        client.tls_set_context(context)
    client.connect(address.hostname, address.port, clean_start=True)
    client.loop_start()

    def publish(topic: str, payload: bytes | str) -> None:
        handed_over = client.publish(topic, payload, qos=1)
        if waits:
            handed_over.wait_for_publish(ACKNOWLEDGED_S)

    try:
        yield publish
    finally:
        client.disconnect()
        client.loop_stop()
