"""Central consumers: a folder each that `hadir-central run` starts from, here or copied to the server."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import InputError, KeyFileError
from edge.files import check_private, read_bounded, write_durably
from edge.toml import quoted
from provisioning.authority import Role, check_consumer_name, moment, pem
from provisioning.deploy import BrokerSettings
from provisioning.entries import Consumer
from provisioning.fleet import Fleet

CONFIG_FILE = "central.toml"
KEY_FILE = "consumer.key"
CERTIFICATE_FILE = "consumer.crt"
RECEIPT_FILE = "receipt.pem"

RECEIPT = "receipt"
DATABASE = "sqlite:///central.db"
"""Beside the configuration, so that a consumer runs where its folder is made."""

_DATABASE = re.compile(r"(sqlite:///|postgresql://)[ -~]{1,500}")
_MAX_FILE_BYTES = 16 * 1024


def check_database(url: str) -> str:
    """The URL itself. Raises InputError where a server could not use it; a password is refused and not repeated."""
    try:
        address = urlsplit(url)
        secret = address.password is not None or "password" in parse_qs(address.query, keep_blank_values=True)
    except ValueError as error:
        raise InputError(_NO_DATABASE) from error
    if secret:
        raise InputError(
            "--database: has a password in it, which everybody on this machine can read among the arguments; leave "
            "it out: PostgreSQL knows a user by the socket, by a certificate or by ~/.pgpass"
        )
    if not _DATABASE.fullmatch(url):
        raise InputError(_NO_DATABASE)
    return url


_NO_DATABASE = (
    "--database: write sqlite:////FOLDER/central.db (three slashes: beside central.toml) or "
    "postgresql://[USER@]HOST[:PORT]/NAME"
)


def add_consumer(fleet: Fleet, name: str, *, now_s: int, database: str = DATABASE) -> Path:
    """Register a consumer and make its folder; returns the configuration's path.

    Raises:
        InputError: the name cannot be a consumer's or is taken, the database's URL cannot be one, or the broker is
            not set up.
        KeyFileError: the fleet's keys cannot be used.
    """
    check_consumer_name(name)
    check_database(database)
    settings = BrokerSettings.of(fleet)
    receipt = fleet.store.elliptic(RECEIPT)
    key = ec.generate_private_key(ec.SECP256R1())
    folder = fleet.folder / "consumers" / name
    certificate = fleet.authority().issue_consumer(key.public_key(), name, moment(now_s))
    with fleet.change("consumer-add", name, now_s=now_s) as change:
        change.add_consumer(name)
        change.add_certificate(certificate, Role.CONSUMER, name)
        for one in (folder.parent, folder):
            one.mkdir(mode=0o700, exist_ok=True)
        write_durably(folder / KEY_FILE, _unencrypted(key))
        write_durably(folder / RECEIPT_FILE, _unencrypted(receipt))
        write_durably(folder / CERTIFICATE_FILE, (pem(certificate) + fleet.authority().chain).encode(), 0o644)
        write_durably(folder / CONFIG_FILE, _configuration(fleet, name, settings, database).encode(), 0o644)
    fleet.write_devices()
    return folder / CONFIG_FILE


def renew_consumer(fleet: Fleet, name: str, *, now_s: int) -> Path:
    """Issue another certificate for a consumer's key, and give it the receipt key of now; the folder.

    Raises InputError or KeyFileError.
    """
    active_consumer(fleet, name)
    folder = fleet.folder / "consumers" / name
    receipt = fleet.store.elliptic(RECEIPT)
    public = _public_key(folder / KEY_FILE)
    authority = fleet.authority()
    certificate = authority.issue_consumer(public, name, moment(now_s))
    with fleet.change("consumer-renew", name, now_s=now_s) as change:
        change.add_certificate(certificate, Role.CONSUMER, name)
    write_durably(folder / CERTIFICATE_FILE, (pem(certificate) + authority.chain).encode(), 0o644)
    write_durably(folder / RECEIPT_FILE, _unencrypted(receipt))
    return folder


def is_current(fleet: Fleet, name: str) -> bool:
    """Whether a consumer's folder has a certificate of the present authority, and the receipt key of now."""
    folder = fleet.folder / "consumers" / name
    try:
        certificate = x509.load_pem_x509_certificates(
            read_bounded(folder / CERTIFICATE_FILE, _MAX_FILE_BYTES)
        )[0]
        certificate.verify_directly_issued_by(fleet.certificate("issuing"))
        receipt = read_bounded(folder / RECEIPT_FILE, _MAX_FILE_BYTES)
    except (OSError, ValueError, InvalidSignature):
        return False
    return receipt == _unencrypted(fleet.store.elliptic(RECEIPT))


def active_consumer(fleet: Fleet, name: str) -> Consumer:
    """The consumer of this name. Raises InputError where there is none, or it is revoked."""
    for consumer in fleet.registry.consumers():
        if consumer.name == name and consumer.revoked_s is None:
            return consumer
    raise InputError(
        f"consumer {name!r}: not in this fleet, or revoked; `hadir-provision list` shows what is"
    )


def _configuration(fleet: Fleet, name: str, settings: BrokerSettings, database: str) -> str:
    return f"""\
# The consumer {name}. Paths are relative to this file, so the folder may be copied as a whole.

[broker]
url = {quoted(settings.url)}
name = {quoted(name)}
ca_file = "ca.crt"
cert_file = "{CERTIFICATE_FILE}"
private_key_file = "{KEY_FILE}"

[trust]
root_thumbprint = {quoted(fleet.root_thumbprint)}
devices_file = "devices.jwks"
keys_file = "keys.jws"
receipt_key_file = "{RECEIPT_FILE}"

[database]
url = {quoted(database)}
"""


def _unencrypted(private: ec.EllipticCurvePrivateKey) -> bytes:
    """A server starts without anybody who could type a passphrase; the file is its owner's alone."""
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_key(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        check_private(path, path.stat())
        private = serialization.load_pem_private_key(read_bounded(path, _MAX_FILE_BYTES), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyFileError(
            f"{path}: the consumer's private key cannot be read; revoke it and add another consumer"
        ) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"{path}: not a P-256 key; revoke this consumer and add another")
    return private.public_key()
