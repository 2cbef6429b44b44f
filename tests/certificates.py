"""Certificates of the product's own authority, good and bad ones, and a broker that wants them."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from edge.config import BrokerConfig
from edge.trust.identity import write_private_key
from provisioning import authority
from tests.brokers import Publish, mosquitto, publishing

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, in PEM."""

    certificate: Path
    key: Path


def new_authority(name: str, now: datetime) -> authority.Authority:
    """A fleet's: a root, and the issuing one below it, which is called `name`."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = authority.make_root(root_key, f"{name} root", now)
    issuing = authority.make_issuing(root_key, root, key.public_key(), name, now)
    return authority.Authority(root, issuing, key)


class Authority:
    """A fleet's authority that writes what it issues into files, beside its root's certificate."""

    def __init__(self, folder: Path, name: str = "test ca") -> None:
        self._folder = folder
        self._issuer = new_authority(name, datetime.now(UTC))
        self.certificate = folder / f"{name.replace(' ', '-')}.pem"
        self.certificate.write_text(authority.pem(self._issuer.root))

    def issue(self, name: str, *, host: str | None = None, now: datetime | None = None) -> Pair:
        """A broker's for this host or address where one is given, else a consumer's or board's, as the name says."""
        key = ec.generate_private_key(ec.SECP256R1())
        public, now = key.public_key(), now or datetime.now(UTC)
        if host is not None:
            certificate = self._issuer.issue_broker(public, [host], now)
        elif name.startswith("central"):
            certificate = self._issuer.issue_consumer(public, name, now)
        else:
            certificate = self._issuer.issue_device(public, name, now)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.certificate.write_text(authority.pem(certificate) + self._issuer.chain)
        write_private_key(pair.key, key)
        return pair


class TlsDoor:
    """A real Mosquitto that wants client certificates, and takes the client id from them."""

    def __init__(self, url: str, issuer: Authority, board: Pair) -> None:
        self.url = url
        self.authority = issuer
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
        issuer = Authority(folder)
        server = issuer.issue("server", host=host, now=server_now)
        server.key.chmod(0o644)  # the broker's user is another where root runs the tests
        settings = (
            f"cafile {issuer.certificate}\ncertfile {server.certificate}\nkeyfile {server.key}\n"
            "require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true\n"
        )
        if acl is not None:
            (folder / "acl").write_text(acl)
            settings += f"acl_file {folder / 'acl'}\n"
        with mosquitto(settings) as url:
            yield TlsDoor(url.replace("mqtt://", "mqtts://"), issuer, issuer.issue("door-01"))
