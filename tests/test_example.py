"""The example consumer of docs/events: thirty lines that run, and that the vectors cannot deceive."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.trust.jws import decode_base64url
from tests.brokers import BROKERS, publishing
from tests.schemas import FOLDER, fits
from tests.test_vectors import VECTORS

EXAMPLE = FOLDER / "consumer.py"
KEYS = {key["kid"]: key for key in VECTORS["devices"]["keys"]}

NEEDS_CODE_OF_ITS_OWN = {
    "more than 4096 bytes",
    "a claim given twice",
    "nested more than 16 deep",
    "a number that is infinite",
    "padded base64url",
    "low above seq",
    "was in its own chain",
    "the old key for the new one",
}
"""What thirty lines and a schema let pass: rules of docs/events.md that need code of their own."""


def test_it_is_as_short_as_the_document_says() -> None:
    _, *lines = [line for line in EXAMPLE.read_text().splitlines() if line.strip()]
    assert len(lines) <= 32


def refusal(topic: str, token: str) -> Exception | None:
    """What the example says against a token; None where it believes it."""
    example = runpy.run_path(str(EXAMPLE))
    expected = (example["jwt"].PyJWTError, AttributeError, LookupError, TypeError, ValueError)
    try:
        example["verified"](topic, token.encode(), KEYS)
    except expected as error:
        assert isinstance(error, Exception)
        return error
    return None


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in VECTORS["events"]])
def test_with_the_schema_it_believes_what_the_vectors_believe(vector: dict[str, Any]) -> None:
    let_pass = vector["refused"] is None or vector["name"] in NEEDS_CODE_OF_ITS_OWN
    why = refusal(vector["topic"], vector["token"])
    assert (why is None and fits("event", leniently(vector["token"]))) == let_pass, why


def leniently(token: str) -> Any:
    """As most JSON parsers read it."""
    return json.loads(decode_base64url(token.split(".")[1].encode()))


@contextmanager
def example(broker: str, devices: Path) -> Iterator[subprocess.Popen[str]]:
    address = urlsplit(broker)
    with (
        devices.open() as registry,
        subprocess.Popen(
            [sys.executable, EXAMPLE, str(address.hostname), str(address.port)],
            stdin=registry,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def retained(url: str) -> Iterator[None]:
    """A message that whoever subscribes gets at once."""
    address = urlsplit(url)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect(str(address.hostname), address.port or 0)
    client.loop_start()
    client.publish("hadir/v1/door-02/up/event", b"junk", qos=1, retain=True).wait_for_publish(20)
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("broker", BROKERS)
def test_it_prints_what_a_real_broker_brings_and_survives_what_is_no_event(
    broker: str, tmp_path: Path
) -> None:
    running: AbstractContextManager[str] = BROKERS[broker]()
    devices = tmp_path / "devices.jwks"
    devices.write_text(json.dumps(VECTORS["devices"]))
    tokens = {vector["name"]: vector for vector in VECTORS["events"]}
    with running as url, publishing(url) as publish, retained(url), example(url, devices) as consumer:
        assert consumer.stdout is not None
        topic = "hadir/v1/door-01/up/event"
        assert consumer.stdout.readline().startswith("refused hadir/v1/door-02/up/event"), "it is subscribed"
        for junk in (b"", b"..", b"\xff" * 50, tokens["alg none"]["token"].encode()):
            publish(topic, junk)
            assert consumer.stdout.readline().startswith("refused hadir/v1/door-01/up/event")
        publish(topic, tokens["an attendance"]["token"])
        assert consumer.stdout.readline().split()[:4] == [
            "door-01",
            "chain-of-test-vectors0",
            "7",
            "urn:hadir:event:attendance:1",
        ]
