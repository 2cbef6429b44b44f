"""The way to the broker: its address, TLS, and what it means when one of them fails.

Every failure is told with the broker's name, the reason (its own, where it gave one) and
what helps, since whoever reads it stands at a door.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cryptography import x509

from edge.config import BrokerConfig
from edge.errors import BrokerUnavailable, ConfigError
from edge.trust.claim import pin_of
from edge.trust.refused import explain
from edge.trust.tls import REFUSED_CERTIFICATE_S, SPEAKS_FIRST, Judged, Stranger, TlsSocket

SESSION_TAKEN_OVER = 0x8E
"""DISCONNECT's reason when another client uses the same id (MQTT 5, section 3.14.2.1)."""

_PORTS = {"mqtt": 1883, "mqtts": 8883}


def try_handshake(broker: BrokerConfig, *, timeout_s: float, tls: Tls | None = None) -> None:
    """Go as far as TLS and hang up before a word of MQTT, so that no session of anybody is touched.

    Raises:
        ConfigError: the files for TLS cannot be used.
        BrokerUnavailable: unreachable, or TLS failed.
    """
    tls = tls or Tls()
    host, port = address_of(broker)
    context = tls_context(broker, tls)
    try:
        with (
            socket.create_connection((host, port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as channel,
        ):
            channel.settimeout(REFUSED_CERTIFICATE_S)
            try:
                if channel.recv(1):
                    raise Stranger(SPEAKS_FIRST)
            except TimeoutError:  # the broker waits for our first word, as it should
                return
    except (OSError, ValueError) as error:
        raise unavailable(broker, error, tls.dates) from error
    raise BrokerUnavailable(f"broker {broker.url}: hung up right after TLS; the broker's log tells why")


def address_of(broker: BrokerConfig) -> tuple[str, int]:
    """Host and port of its URL."""
    address = urlsplit(broker.url)
    return address.hostname or "", address.port or _PORTS[address.scheme]


def unavailable(
    broker: BrokerConfig, error: Exception, dates: Callable[[], Dates] | None = None
) -> BrokerUnavailable:
    """What kept us from reaching the broker, and what helps; `dates` tells the time, by itself the system's clock."""
    host, port = address_of(broker)
    match error:
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not accepted ({error.verify_message})"
            remedy = (
                f"it must be valid today by this board's clock, for the name {host}, and signed under "
                "broker.ca_file; somebody else may be answering in the broker's place"
            )
        case Stranger():
            why = str(error.args[0])
            remedy = "somebody else may be answering in the broker's place, or it has another key now"
        case ssl.SSLError():
            why, remedy = _tls_failed(broker, error, (dates or believe_dates)())
        case socket.gaierror():
            why = f"the name {host} cannot be resolved ({error.strerror})"
            remedy = "check broker.url and the network's DNS, or write the address"
        case ConnectionRefusedError():
            why = f"nobody listens at port {port} of {host}"
            remedy = "check that the broker runs, its port, and its firewall"
        case ConnectionResetError() | BrokenPipeError():
            why = f"port {port} of {host} hung up"
            remedy = (
                "check that it is the broker's, and that it speaks TLS just where broker.url says mqtts://"
            )
        case TimeoutError():
            why = f"{host} does not answer at port {port}"
            remedy = "check the network, the address, and that the broker is not stuck"
        case _:
            why = str(error)
            remedy = "check the network, and that the broker runs"
    return BrokerUnavailable(f"broker {broker.url}: {why}; {remedy}")


def _tls_failed(broker: BrokerConfig, error: ssl.SSLError, dates: Dates) -> tuple[str, str]:
    certificate = _own_certificate(broker)
    now_s = dates.now_s if dates.believed else None
    explained = None if certificate is None else explain(error.reason or "", certificate, now_s)
    return explained or (
        f"TLS failed ({error.reason or error})",
        "check that this port speaks TLS, and that broker.cert_file is signed by the broker's CA and neither expired "
        "nor revoked",
    )


def _own_certificate(broker: BrokerConfig) -> x509.Certificate | None:
    if broker.cert_file is None:
        return None
    try:
        return x509.load_pem_x509_certificate(broker.cert_file.read_bytes())
    except (OSError, ValueError):
        return None  # it was good a moment ago; what the broker said is told all the same


def refusal(broker: BrokerConfig, reason: int, words: str) -> str:
    """The broker's own reason for refusing the connection, and what helps."""
    remedy = _REMEDIES.get(reason, "the broker's log tells more")
    return f"broker {broker.url}: refused: {words} (0x{reason:02x}); {remedy}"


def hang_up(broker: BrokerConfig, words: str) -> str:
    """What an end of the connection before any answer means."""
    return (
        f"broker {broker.url}: hung up without an answer ({words}); does it speak MQTT 5, and TLS at this "
        "port only for mqtts://? Its log tells more"
    )


def ended(broker: BrokerConfig, reason: int, words: str) -> str:
    """Why a connection that had been accepted is over."""
    said = f"broker {broker.url}: the connection ended ({words})"
    if reason == SESSION_TAKEN_OVER:
        said += "; another client logged in as this board: look for a second board with the same key"
    return said


def silence(broker: BrokerConfig, timeout_s: float) -> str:
    """What a broker means that takes the connection and then says nothing."""
    return (
        f"broker {broker.url}: accepted the connection and then said nothing for {timeout_s:.0f} s; check "
        "that it is an MQTT broker, that it is not stuck, and whether this port wants TLS (mqtts://)"
    )


def pinned_context(pin: str) -> ssl.SSLContext:
    """TLS with nobody but the holder of this key, whatever its certificate says: for a board whose clock is wrong.

    The key is looked at right after the handshake, before a word of MQTT, so that no password
    reaches anybody else.
    """

    class Pinned(TlsSocket):
        def look(self) -> None:
            certificate = x509.load_der_x509_certificate(self.getpeercert(binary_form=True) or b"")
            if pin_of(certificate.public_key()) != pin:
                raise Stranger("its key is not the one that the claim names")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = Pinned
    return context


_REMEDIES = {
    0x84: "it speaks no MQTT 5; Mosquitto does from 1.6 on, and older protocols cannot say that an event was refused",
    0x85: "it does not take this client id; allow device.id as client id",
    0x86: "it wants another user name or password; use the client certificate that was made for this board",
    0x87: "it does not let this board in; check its access list, and whether the board's certificate was revoked",
    0x88: "it is not ready; try again later",
    0x89: "it is busy; try again later",
    0x8A: "it has banned this board; the administrator of the broker knows why",
    0x97: "a quota of the broker is used up; its log tells which",
    0x9F: "too many connections come in; try again later",
}
"""What helps against CONNACK's reasons (MQTT 5, section 3.2.2.2)."""


@dataclass(frozen=True, slots=True)
class Dates:
    """How far a board may judge the dates of certificates by its clock."""

    believed: bool
    """False while the clock was never set in this boot: then only the floor below is held against them."""
    floor_s: float
    """No earlier time can be the present: seconds since 1970."""
    now_s: float
    """The present by this clock, whether believed or not."""


def believe_dates() -> Dates:
    """By a clock that is right."""
    return Dates(believed=True, floor_s=0.0, now_s=time.time())


@dataclass(frozen=True, slots=True)
class Tls:
    """What TLS needs beside the configuration: how to open the private key, and what time it is."""

    passphrase: bytes | None = field(default=None, repr=False)
    """Of `broker.private_key_file`; None where that is not encrypted."""
    dates: Callable[[], Dates] = believe_dates


def tls_context(broker: BrokerConfig, tls: Tls | None = None) -> ssl.SSLContext:
    """What TLS needs to know. Raises ConfigError where a file of it cannot be used."""
    tls = tls or Tls()
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _socket_class(context, tls.dates())
        if broker.cert_file is not None and broker.private_key_file is not None:
            context.load_cert_chain(
                broker.cert_file, broker.private_key_file, password=lambda: tls.passphrase or b""
            )
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"[broker] ca_file = {broker.ca_file}, cert_file = {broker.cert_file}, private_key_file = "
            f"{broker.private_key_file}: cannot be used for TLS: {error}"
        ) from error
    return context


def _socket_class(context: ssl.SSLContext, dates: Dates) -> type[Judged]:
    """Without a clock the chain and the host name count all the same, and what ended before the floor is refused."""
    if dates.believed:
        return Judged
    context.verify_flags |= NO_CHECK_TIME

    class Undated(Judged):
        def look(self) -> None:
            certificate = x509.load_der_x509_certificate(self.getpeercert(binary_form=True) or b"")
            if certificate.not_valid_after_utc.timestamp() < dates.floor_s:
                raise Stranger("its certificate had ended before this board last knew the time")
            super().look()

    return Undated


NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, for which Python has no name."""
