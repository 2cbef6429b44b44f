"""A real Mosquitto as `hadir-provision broker` sets it up, and clients with certificates of its fleet."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from demo.boards import make_fleet
from demo.mosquitto import PORT_TRIES, free_ports, program, ready
from provisioning.authority import PROVISION, Role, moment
from provisioning.authority import pem as in_pem
from provisioning.deploy import BrokerSettings, write_broker
from provisioning.fleet import Fleet

WAIT_S = 10.0
HOSTS = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class FleetBroker:
    """A fleet whose broker runs."""

    fleet: Fleet
    settings: BrokerSettings
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def ca_file(self) -> Path:
        return self.fleet.folder / "ca" / "root.crt"

    def client(self, name: str, **options: Any) -> Peer:
        """A client with a new certificate for this name, of the role that the name says."""
        return self.with_certificate(self.certificate(name), **options)

    def certificate(self, name: str) -> tuple[Path, Path]:
        """Certificate and key, registered like any that provisioning issues."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority, now = self.fleet.authority(), moment(time.time())
        if name == PROVISION:
            certificate, role = authority.issue_provision(key.public_key(), now), Role.PROVISION
        elif name.startswith("central"):
            certificate, role = authority.issue_consumer(key.public_key(), name, now), Role.CONSUMER
        else:
            certificate, role = authority.issue_device(key.public_key(), name, now), Role.DEVICE
        with self.fleet.change("certificate", name, now_s=int(now.timestamp())) as change:
            change.add_certificate(certificate, role, name)
        return self._save(certificate, authority.chain, key)

    def with_certificate(self, files: tuple[Path, Path], **options: Any) -> Peer:
        """A client that shows this certificate."""
        context = ssl.create_default_context(cafile=self.ca_file)
        context.load_cert_chain(*files)
        return Peer(self.settings.port, context, **options)

    def with_claim(self, claim: str, password: str, **options: Any) -> Peer:
        """A client at the claim listener."""
        context = ssl.create_default_context(cafile=self.ca_file)
        return Peer(self.settings.claim_port, context, user=(claim, password), **options)

    def _save(
        self, certificate: x509.Certificate, chain: str, key: ec.EllipticCurvePrivateKey
    ) -> tuple[Path, Path]:
        name = self.folder / f"{certificate.serial_number:x}"
        certificate_file, key_file = name.with_suffix(".crt"), name.with_suffix(".key")
        certificate_file.write_text(in_pem(certificate) + chain)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate_file, key_file


class Peer:
    """A plain client that keeps what arrives and what the broker answers."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        *,
        client_id: str = "whatever",
        user: tuple[str, str] | None = None,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.refused: str | None = None
        self._answers: dict[int, int] = {}
        self._connected = False
        self._over = False
        self._changed = threading.Condition()
        self._port = port
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.tls_set_context(context)
        if user is not None:
            self._client.username_pw_set(*user)
        if will is not None:
            self._client.will_set(*will, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_answer
        self._client.on_subscribe = self._on_granted
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        """Try to connect; `connected` tells whether the broker let it in."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0
        try:
            self._client.connect("127.0.0.1", self._port, clean_start=True, properties=properties)
        except (OSError, ssl.SSLError) as error:
            self.refused = str(error)
            return self
        self._client.loop_start()
        self._wait(lambda: self._connected or self._over)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()  # paho leaves its pair of sockets open where connecting failed

    @property
    def connected(self) -> bool:
        return self._connected and not self._over

    def ended(self, timeout_s: float) -> bool:
        """Whether the broker has ended this connection, now or in time."""
        return self._wait(lambda: self._over, timeout_s)

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int:
        """The reason code of the PUBACK; -1 where the connection ended instead."""
        mid = self._client.publish(topic, payload, qos=1, retain=retain).mid
        self._wait(lambda: mid in self._answers or self._over)
        return self._answers.get(mid, -1)

    def subscribe(self, *topics: str) -> None:
        """Ask for topics; whether the broker will serve them shows only in what arrives."""
        _, mid = self._client.subscribe([(topic, 1) for topic in topics])
        assert mid is not None
        assert self._wait(lambda: mid in self._answers or self._over)

    def received(self, topic: str) -> bool:
        """Whether a message of this topic has arrived, now or in time."""
        return self._wait(lambda: any(topic == arrived for arrived, _ in self.messages))

    def topics(self) -> list[str]:
        """Of everything that has arrived so far."""
        return [topic for topic, _ in self.messages]

    def _wait(self, condition: Any, timeout_s: float = WAIT_S) -> bool:
        with self._changed:
            return bool(self._changed.wait_for(condition, timeout_s))

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._connected = not reason.is_failure
        self.refused = str(reason) if reason.is_failure else None
        self._over = reason.is_failure
        self._tell()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._over = True
        self.refused = self.refused or str(reason)
        self._tell()

    def _on_answer(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        self._answers[mid] = reason.value
        self._tell()

    def _on_granted(self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        self._answers[mid] = reasons[0].value
        self._tell()

    def _on_message(self, client: Any, userdata: Any, message: mqtt.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))
        self._tell()


@contextmanager
def fleet_broker(devices: tuple[str, ...] = ("door-01", "door-02")) -> Iterator[FleetBroker]:
    """A fleet with these boards, and its broker on loopback; skips where there is no Mosquitto."""
    path = program()
    if path is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    folder = Path(tempfile.mkdtemp(prefix="hadir-fleet-"))
    folder.chmod(0o755)  # its user is another where root runs it
    try:
        fleet = make_fleet(folder / "fleet", devices=devices)
        for attempt in range(1, PORT_TRIES + 1):
            port, claim_port = free_ports(2)
            folder_of_broker = str(fleet.folder / "broker")
            settings = BrokerSettings(HOSTS, port, claim_port, "127.0.0.1", folder_of_broker)
            configuration = write_broker(fleet, settings, int(time.time()))
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen((path, "-c", str(configuration)), stderr=log)
            try:
                if ready(process, settings.port):
                    yield FleetBroker(fleet, settings, process, folder)
                    return
                assert attempt < PORT_TRIES, (folder / "log").read_text()
            finally:
                process.terminate()
                process.wait(WAIT_S)
    finally:
        shutil.rmtree(folder)
