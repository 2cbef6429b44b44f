"""A certificate authority for tests, good and bad certificates, and a broker that wants them."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.config import BrokerConfig
from tests.brokers import Publish, mosquitto, publishing

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs for whoever asks. `now` moves validity: a day before to a year after it."""

    def __init__(self, folder: Path, name: str = "test ca", now: datetime | None = None) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._now = now or datetime.now(UTC)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        own = (
            self._builder(self._name, self._key.public_key(), self._now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / f"{name.replace(' ', '-')}.pem"
        self.certificate.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, host: str | None = None, now: datetime | None = None) -> Pair:
        """A certificate for this common name, and for this host or address where one is given."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key(), now or self._now)
        if host is not None:
            numeric = host.replace(".", "").isdigit()
            names = [x509.IPAddress(ip_address(host)) if numeric else x509.DNSName(host)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.certificate.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 365 * DAY)
        )


class TlsDoor:
    """A real Mosquitto that wants client certificates, and takes the client id from them."""

    def __init__(self, url: str, authority: Authority, board: Pair) -> None:
        self.url = url
        self.authority = authority
        self.board = board

    @property
    def section(self) -> str:
        """The board's [broker] section."""
        return (
            f'[broker]\nurl = "{self.url}"\nca_file = "{self.authority.certificate}"\n'
            f'cert_file = "{self.board.certificate}"\nprivate_key_file = "{self.board.key}"\n'
        )

    def publishing(self) -> AbstractContextManager[Publish]:
        """What publishes with the board's certificate."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        context.load_cert_chain(self.board.certificate, self.board.key)
        return publishing(self.url, self.board.certificate.stem, context=context)

    def config(self, **changes: object) -> BrokerConfig:
        files = {
            "url": self.url,
            "ca_file": self.authority.certificate,
            "cert_file": self.board.certificate,
            "private_key_file": self.board.key,
        }
        return BrokerConfig(**(files | changes))  # type: ignore[arg-type]


@contextmanager
def tls_door(
    *, host: str = "127.0.0.1", server_now: datetime | None = None, acl: str | None = None
) -> Iterator[TlsDoor]:
    """A door and its broker, which lets everybody do everything unless an access list is given."""
    with tempfile.TemporaryDirectory(prefix="hadir-tls-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        authority = Authority(folder)
        server = authority.issue("server", host=host, now=server_now)
        server.key.chmod(0o644)  # the broker's user is another where root runs the tests
        settings = (
            f"cafile {authority.certificate}\ncertfile {server.certificate}\nkeyfile {server.key}\n"
            "require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true\n"
        )
        if acl is not None:
            (folder / "acl").write_text(acl)
            settings += f"acl_file {folder / 'acl'}\n"
        with mosquitto(settings) as url:
            yield TlsDoor(url.replace("mqtt://", "mqtts://"), authority, authority.issue("door-01"))
