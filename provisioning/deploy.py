"""The broker's folder: its key and certificate, and `provisioning.broker`'s files, where Mosquitto can read them."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import InputError, KeyFileError
from edge.files import check_private, create_durably, read_bounded, write_durably
from edge.trust.claim import pin_of
from provisioning.authority import BACKDATED, PROVISION, Role, check_host, moment, pem
from provisioning.broker import NAMES, claim_access, claim_passwords, configuration, device_access
from provisioning.fleet import PROVISION_TLS, Fleet

SETTING = "broker"
DEFAULT_PORT = 8883
DEFAULT_CLAIM_PORT = 8884
USERS = ("mosquitto", "nobody")
"""What Mosquitto becomes where root starts it: the first of them that there is."""

_MAX_FILE_BYTES = 64 * 1024
_PORTS = range(1, 65536)


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the broker is reached, and where its files lie."""

    hosts: tuple[str, ...]
    """Names and addresses of the certificate; boards and servers are told the first."""
    port: int = DEFAULT_PORT
    claim_port: int = DEFAULT_CLAIM_PORT
    bind: str | None = None
    """The one address to listen on; None is all."""
    folder: str = ""
    """On the machine on which the broker runs."""

    @property
    def url(self) -> str:
        """For boards, consumers and provisioning."""
        return f"mqtts://{self._host}:{self.port}"

    @property
    def claim_address(self) -> str:
        """Host and port of the claim listener."""
        return f"{self._host}:{self.claim_port}"

    @property
    def _host(self) -> str:
        first = self.hosts[0]
        return f"[{first}]" if ":" in first else first

    @classmethod
    def of(cls, fleet: Fleet) -> Self:
        """As they were set last. Raises InputError where they never were."""
        stored = fleet.registry.setting(SETTING)
        if stored is None:
            raise InputError(
                f"{fleet.folder}: the broker is not set up; run `hadir-provision broker {fleet.folder} --host HOST`"
            )
        folder = stored["folder"] or default_folder(fleet)
        return cls(**(stored | {"hosts": tuple(stored["hosts"]), "folder": folder}))


def default_folder(fleet: Fleet) -> str:
    """Where the broker's files lie unless somebody names another place."""
    return str((fleet.folder / "broker").absolute())


def check_settings(settings: BrokerSettings) -> None:
    """Raise InputError where these cannot be a broker's."""
    if not settings.hosts:
        raise InputError("broker: name the host that boards will connect to with --host")
    for host in settings.hosts:
        check_host(host)
    for port in (settings.port, settings.claim_port):
        if port not in _PORTS:
            raise InputError(f"broker: port {port} is not from 1 to 65535")
    if settings.port == settings.claim_port:
        raise InputError(f"broker: the two listeners need two ports, not both {settings.port}")
    if any(character.isspace() for character in settings.folder):
        # Mosquitto takes everything up to the line's end, but an access list's rule ends at a space.
        raise InputError(
            f"broker: folder {settings.folder!r} has a space in it; choose another with --folder"
        )


def write_broker(fleet: Fleet, settings: BrokerSettings, now_s: int) -> Path:
    """Write everything that Mosquitto needs, anew; its configuration's path.

    The revocation list is issued anew each time. The broker's key stays: boards that claim
    know it by its pin.

    Raises:
        InputError: the settings cannot be used, or Mosquitto's user could not read its files.
        KeyFileError: a private key cannot be read or written.
    """
    check_settings(settings)
    fleet.authority()  # with another passphrase nothing is changed
    folder = Path(settings.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    with fleet.change("broker", settings.url, now_s=now_s, hosts=list(settings.hosts)) as change:
        # In the fleet's own folder it goes where that goes: a copy must not write over another one's broker.
        own = settings.folder == default_folder(fleet)
        change.set(SETTING, asdict(settings) | {"folder": "" if own else settings.folder})
    _ensure_certificate(fleet, folder, settings.hosts, moment(now_s))
    _ensure_provision(fleet, moment(now_s))
    fleet.write_revocation_list(now_s)
    text = configuration(folder, port=settings.port, claim_port=settings.claim_port, bind=settings.bind)
    write_durably(folder / "mosquitto.conf", text.encode(), 0o644)
    write_access(fleet, now_s)
    return folder / "mosquitto.conf"


def write_access(fleet: Fleet, now_s: int) -> None:
    """Write what changes with boards, claims and consumers: access lists, passwords, revocation list, authorities."""
    folder = Path(BrokerSettings.of(fleet).folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: the broker's folder is not there; make it anew with `hadir-provision broker {fleet.folder}`"
        )
    with fleet.writing():
        contents = _access(fleet, now_s)
        for name, content in contents.items():
            write_durably(folder / name, content.encode(), owner=_mosquitto())
    _let_mosquitto_read(folder, fleet.folder)


def outdated(fleet: Fleet, folder: Path) -> tuple[str, ...]:
    """Of the broker's files that say who is let in, those that are not as the registry has it now.

    None of those that cannot be read here: another user's, or where the broker's own machine has them alone.
    """
    return tuple(name for name, content in _let_in(fleet).items() if _differs(folder / name, content))


def _differs(path: Path, content: str) -> bool:
    try:
        return path.read_bytes() != content.encode()
    except OSError:
        return False


def _access(fleet: Fleet, now_s: int) -> dict[str, str]:
    return {
        **_let_in(fleet),
        "claims.acl": claim_access(),
        "claims.passwd": claim_passwords(fleet.registry.claims(), now_s),
        "crl.pem": (fleet.folder / "ca" / "crl.pem").read_text("ascii"),
    }


def _let_in(fleet: Fleet) -> dict[str, str]:
    """What the registry alone decides."""
    registry = fleet.registry
    revoked = [device.device for device in registry.devices() if device.revoked_s is not None]
    revoked += [consumer.name for consumer in registry.consumers() if consumer.revoked_s is not None]
    consumers = [consumer.name for consumer in registry.consumers() if consumer.revoked_s is None]
    authorities = [
        issued.pem
        for issued in registry.certificates()
        if issued.role is Role.AUTHORITY and issued.revoked_s is None
    ]
    return {
        "devices.acl": device_access(consumers, revoked),
        "ca.crt": "".join(authorities),
    }


def server_pin(fleet: Fleet) -> str:
    """What a claim knows the broker by; see `edge.trust.claim.pin_of`."""
    return pin_of(_broker_key(Path(BrokerSettings.of(fleet).folder) / "server.key").public_key())


def broker_user() -> pwd.struct_passwd | None:
    """Whom Mosquitto becomes; None where we are not root, and it stays who we are."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name: user for user in pwd.getpwall()}
    return next(known[name] for name in USERS if name in known)


def _mosquitto() -> tuple[int, int] | None:
    """Whom its files belong to."""
    user = broker_user()
    return None if user is None else (user.pw_uid, user.pw_gid)


def _ensure_certificate(fleet: Fleet, folder: Path, hosts: Sequence[str], now: datetime) -> None:
    """Keep the broker's certificate, or issue another where hosts or authority changed or two thirds are over."""
    key_path, path = folder / "server.key", folder / "server.crt"
    if not key_path.exists():
        _write_broker_key(key_path)
    public = _broker_key(key_path).public_key()
    held = _held(path, public, fleet.certificate("issuing"), now)
    if held is None or _names(held) != list(hosts):
        authority = fleet.authority()
        _register(fleet, path, authority.issue_broker(public, hosts, now), Role.BROKER, hosts[0])


def _ensure_provision(fleet: Fleet, now: datetime) -> None:
    """The same for provisioning's own certificate."""
    path = fleet.folder / "ca" / f"{PROVISION}.crt"
    public = fleet.store.elliptic(PROVISION_TLS).public_key()
    if _held(path, public, fleet.certificate("issuing"), now) is None:
        _register(fleet, path, fleet.authority().issue_provision(public, now), Role.PROVISION, PROVISION)


def _register(fleet: Fleet, path: Path, certificate: x509.Certificate, role: Role, name: str) -> None:
    now_s = int((certificate.not_valid_before_utc + BACKDATED).timestamp())
    with fleet.change("certificate", name, now_s=now_s, role=role) as change:
        change.add_certificate(certificate, role, name)
    write_durably(path, (pem(certificate) + fleet.authority().chain).encode(), 0o644)


def _held(
    path: Path, public: ec.EllipticCurvePublicKey, issuing: x509.Certificate, now: datetime
) -> x509.Certificate | None:
    """The certificate of a file, where it is still good: for this key, of today's authority, not yet to be renewed."""
    try:
        certificate = x509.load_pem_x509_certificates(read_bounded(path, _MAX_FILE_BYTES))[0]
        certificate.verify_directly_issued_by(issuing)
    except (OSError, ValueError, InvalidSignature):
        return None
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    fresh = now < certificate.not_valid_before_utc + lifetime * 2 / 3
    return certificate if fresh and certificate.public_key() == public else None


def _names(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def _write_broker_key(path: Path) -> None:
    """Unencrypted: Mosquitto starts without anybody who could type a passphrase."""
    private = ec.generate_private_key(ec.SECP256R1())
    create_durably(
        path,
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def _broker_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        status = path.stat()
        user = broker_user()
        if user is None or status.st_uid != user.pw_uid:
            check_private(path, status)
        private = serialization.load_pem_private_key(read_bounded(path, _MAX_FILE_BYTES), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyFileError(
            f"{path}: the broker's private key cannot be read ({error}); restore it, or remove it and claim "
            "boards anew that have not claimed yet"
        ) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"{path}: not a P-256 key; restore it from a backup")
    return private


def _let_mosquitto_read(folder: Path, fleet_folder: Path) -> None:
    """Where root runs this, Mosquitto becomes another user, whom these files must belong to and who must get there."""
    user = broker_user()
    if user is None:
        return
    # The folder itself stays ours: in one of its own, Mosquitto's user could lead us elsewhere by a link.
    os.chown(folder, os.geteuid(), user.pw_gid)
    folder.chmod(0o750)
    for name in (*NAMES, "state"):
        if (folder / name).exists():  # of a fleet that was restored, not all is there before `broker` runs
            os.chown(folder / name, user.pw_uid, user.pw_gid, follow_symlinks=False)
    if folder.is_relative_to(fleet_folder.absolute()):
        # May be passed through, not listed; keys, registry and the rest are closed themselves.
        fleet_folder.chmod(0o711)
    for parent in folder.parents:
        if not stat.S_IMODE(parent.stat().st_mode) & 0o001 and parent.stat().st_uid != user.pw_uid:
            raise InputError(
                f"{parent}: is closed to user {user.pw_name}, which Mosquitto becomes; name a place that it can reach "
                "with --folder, such as /var/lib/hadir-broker"
            )
