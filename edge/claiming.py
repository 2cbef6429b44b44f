"""How a board comes to an identity: from a claim to files that the daemon can start with.

In this order, each step durable before the next: the claim is kept, the keys are made, the
fleet is asked, the answer is written beside whatever identity there was, the configuration
is written, the link to the identity is changed, the claim is forgotten. Wherever it is cut
off, running it again goes on from there, and until the link changes the board is what it was.
"""

from __future__ import annotations

import logging
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from edge import __version__
from edge.board.clock import RELEASED_REAL_MS, Clock
from edge.board.health import read_model
from edge.config import CameraConfig, load_config, parse_config
from edge.errors import CannotRecord, ConfigError, InputError, Refusal, TokenRefused
from edge.files import read_bounded, remove_durably, sync_folder, unwritable, write_durably
from edge.steps import IdentityStep, reached
from edge.toml import write_sections
from edge.trust.admission import Admission, Purpose, Settings, open_admission
from edge.trust.claim import MAX_CLAIM_BYTES, Claim, sign_request
from edge.trust.floor import TimeFloor
from edge.trust.identity import DeviceIdentity
from edge.trust.seal import KeyEncryptionKey
from edge.trust.store import (
    AUTHORITIES_FILE,
    CERTIFICATE_FILE,
    CLAIMED,
    KEY_FILE,
    KEYS_FILE,
    Identity,
    IdentityStore,
)
from edge.uplink.client import Client, Login
from edge.uplink.outbox import Outbox
from edge.uplink.reach import Tls, tls_context
from edge.uplink.session import State
from edge.uplink.status import Loaded, status_payload
from edge.uplink.succession import succeed

log = logging.getLogger(__name__)

CLAIM_FILE = "claim"
"""In the state folder: the claim that is being worked on, wherever it came from."""

BOOT_FILES = (Path("/boot/firmware/hadir-claim.json"), Path("/boot/hadir-claim.json"))
"""Where an administrator puts a claim on a card: Raspberry Pi OS from Bookworm on, and before."""

OUTBOX_FILE = "outbox.db"

NO_EMBEDDER = "0" * 16
"""What the status says before the daemon has loaded one."""

CONFIGURATION_FILE = "edge.toml"
"""In the identity's folder: the configuration that comes with it, before it is put in place."""

ADMISSIBLE: Mapping[str, frozenset[str]] = {
    "device": frozenset({"direction"}),
    "broker": frozenset({"url", "keepalive_s", "retry_min_s", "retry_max_s"}),
    "events": frozenset({"delivery"}),
    "camera": frozenset(get_type_hints(CameraConfig)) - {"pipeline"},
}
"""What the fleet may set at first, by section. Nothing that names a program or the board's own folders."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie on this board."""

    config: Path
    state_dir: Path

    @property
    def claim(self) -> Path:
        return self.state_dir / CLAIM_FILE


Answer = Callable[[Claim, bytes, Callable[[bytes], Admission]], Admission | None]
"""Gets an answer for a claim's request, and opens it; None where there is none yet."""


def keep_claim(places: Places, content: bytes) -> Claim:
    """Make a claim the one to be worked on. Raises InputError where it is none, CannotRecord."""
    claim = Claim.parse(content)
    try:
        places.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(places.claim, claim.file.encode())
    except OSError as error:
        raise unwritable(f"{places.claim}: the claim", error) from error
    reached(IdentityStep.CLAIM_KEPT)
    return claim


def kept_claim(places: Places) -> Claim | None:
    """The claim that is being worked on; None where there is none."""
    return read_claim(places.claim) if places.claim.exists() else None


def read_claim(path: Path) -> Claim:
    """A claim from a file that a person put there. Raises InputError."""
    try:
        return Claim.parse(read_bounded(path, MAX_CLAIM_BYTES))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: the claim cannot be read ({why}); put it there again") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def claim_identity(places: Places, claim: Claim, kek: KeyEncryptionKey, answer: Answer) -> Identity | None:
    """The identity that this claim leads to, complete and not yet in use; None where there is no answer yet.

    Raises:
        CannotRecord: something cannot be written.
    """
    store = IdentityStore(places.state_dir, kek)
    identity = store.begin(f"{CLAIMED}{claim.id}")
    if staged(identity):
        return identity
    key, sealing_key = identity.signing_key(), identity.sealing_key()
    request = sign_request(
        claim,
        key,
        sealing_key.public_key(),
        protection=kek.protection,
        version=__version__,
        board=read_model(),
        now_s=int(time.time()),
    )

    def opened(content: bytes) -> Admission:
        admission = open_admission(content, claim.id, claim.fleet, key, sealing_key)
        configuration(places, identity, admission, claim.fleet)  # refused before anything is written
        return admission

    log.info("claim %s: this board's key is %s", claim.id, key.kid)
    admission = answer(claim, request.compact.encode(), opened)
    if admission is None:
        return None
    reached(IdentityStep.ANSWERED)
    TimeFloor(places.state_dir, RELEASED_REAL_MS // 1000).raise_to(admission.issued_s)
    stage(places, store, identity, admission, claim.fleet)
    return identity


def staged(identity: Identity) -> bool:
    """Whether everything that the answer brought is durable."""
    return identity.complete and (identity.folder / CONFIGURATION_FILE).exists()


def stage(
    places: Places, store: IdentityStore, identity: Identity, admission: Admission, root_thumbprint: str
) -> None:
    """Write what the answer brought into the identity's folder; the configuration comes last."""
    text = configuration(places, identity, admission, root_thumbprint)
    try:
        identity.put_certificate(admission.certificates)
        identity.put_keys(admission.trail, admission.keys.authorities)
        predecessor = store.current()
        same = _had(places.config).get("device", {}).get("id") == admission.device
        if admission.purpose is Purpose.RENEW and predecessor is not None and same:
            identity.follow(predecessor)
        write_durably(identity.folder / CONFIGURATION_FILE, text.encode())
    except OSError as error:
        raise unwritable(f"{identity.folder}: the certificate", error) from error
    reached(IdentityStep.STAGED)


def configuration(places: Places, identity: Identity, admission: Admission, root_thumbprint: str) -> str:
    """The board's configuration: what it had, what the fleet says, and where its identity lies.

    Raises:
        TokenRefused: a daemon would not start with what the fleet says.
    """
    had = _had(places.config)
    link = identity.folder.parent / "current"
    own = {
        "device": {
            "id": admission.device,
            "site": admission.site,
            "root_thumbprint": root_thumbprint,
            "key_file": str(link / KEY_FILE),
            "keys_file": str(link / KEYS_FILE),
            "gallery_file": str(places.state_dir / "gallery.hadir"),
            "state_dir": str(places.state_dir),
        },
        "broker": {
            "ca_file": str(link / AUTHORITIES_FILE),
            "cert_file": str(link / CERTIFICATE_FILE),
            "private_key_file": str(link / KEY_FILE),
        },
    }
    said = _admissible(admission.settings)
    try:
        return _checked(_merged(had, said, own), places.config)
    except ConfigError as error:
        log.warning(
            "%s: what stands there does not go together with the fleet's settings: %s", places.config, error
        )
    try:
        return _checked(_merged(said, own), places.config)
    except ConfigError as error:
        raise TokenRefused(Refusal.BAD_CLAIMS, f"settings: {error}") from error


def install_configuration(places: Places, identity: Identity) -> None:
    """Put the identity's configuration in place; what was there before is kept beside it."""
    content = (identity.folder / CONFIGURATION_FILE).read_bytes()
    try:
        places.config.parent.mkdir(parents=True, exist_ok=True)
        if places.config.exists() and places.config.read_bytes() != content:
            write_durably(places.config.with_name(f"{places.config.name}.before"), places.config.read_bytes())
        write_durably(places.config, content)
    except OSError as error:
        raise CannotRecord(
            f"{places.config}: the configuration cannot be written ({error.strerror}); the folder must belong to "
            "the daemon's user"
        ) from error
    reached(IdentityStep.CONFIGURATION_WRITTEN)


def forget_claim(places: Places, *others: Path) -> None:
    """The claim was used: remove it wherever it lies."""
    for path in (*others, places.claim):
        remove_claim(path)
    reached(IdentityStep.CLAIM_FORGOTTEN)


def remove_claim(path: Path) -> None:
    """From where somebody put it: it was used, or is kept where only the daemon can read it."""
    try:
        remove_durably(path)
    except OSError as error:
        log.warning("%s: the claim cannot be removed (%s); remove it by hand", path, error.strerror)


def _had(path: Path) -> Settings:
    """The sections of a configuration that is there already, such as the camera's in a prepared image."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s: cannot be read, so nothing of it is kept: %s", path, error)
        return {}
    return {name: members for name, members in document.items() if isinstance(members, dict)}


def _admissible(settings: Settings) -> Settings:
    for section, members in settings.items():
        allowed = ADMISSIBLE.get(section, frozenset())
        for key in members:
            if key not in allowed:
                raise TokenRefused(Refusal.BAD_CLAIMS, f"settings: {section}.{key} is not the fleet's to set")
    return settings


def _merged(*layers: Settings) -> dict[str, dict[str, Any]]:
    """Later layers win, key by key."""
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, members in layer.items():
            merged[section] = merged.get(section, {}) | dict(members)
    return merged


def _checked(sections: dict[str, dict[str, Any]], path: Path) -> str:
    """As text, once a daemon would take it. Raises ConfigError."""
    try:
        text = write_sections(sections)
    except InputError as error:
        raise ConfigError(str(error)) from error
    parse_config(tomllib.loads(text), path)
    return text


def take_up(places: Places, store: IdentityStore, identity: Identity, clock: Clock) -> None:
    """Make a complete identity the board's, once and for all; goes on where an earlier try was cut off.

    Only while no daemon runs on this state. Raises CannotRecord, KeyFileError.
    """
    current = store.current()
    if current is not None and current.name == identity.name:
        store.clean()
        return
    install_configuration(places, identity)
    if current is not None and identity.follows(current):
        outbox = Outbox(places.state_dir / OUTBOX_FILE)
        try:
            succeed(store, identity, outbox, _identity_of(places, current), clock)
        finally:
            outbox.close()
        return
    set_aside_outbox(places)
    store.activate(identity)
    store.clean()


def set_aside_outbox(places: Places) -> None:
    """An outbox of an earlier board: its chain is not ours, and what it holds must not be lost."""
    path = places.state_dir / OUTBOX_FILE
    if not path.exists():
        return
    outbox = Outbox(path)
    try:
        chain, waiting = outbox.head().chain, outbox.waiting_count()
    finally:
        outbox.close()  # which empties the write-ahead log, so that the one file is all
    aside = path.with_name(f"outbox-{chain}.db")
    path.rename(aside)
    sync_folder(places.state_dir)
    log.warning(
        "%s: an earlier board's outbox with %d unsent event(s) is kept as %s", path, waiting, aside.name
    )


def prove(places: Places, identity: Identity, kek: KeyEncryptionKey, clock: Clock) -> None:
    """Log in with the new certificate and leave a status whose head the new key signed.

    Raises:
        BrokerUnavailable: not now; the daemon's own first status will do as well.
    """
    config = load_config(places.config)
    outbox = Outbox(places.state_dir / OUTBOX_FILE)
    try:
        conn, end = outbox.next_conn(), outbox.head()
    finally:
        outbox.close()
    keys = identity.keys(config.device.root_thumbprint)
    payload = status_payload(
        _identity_of(places, identity),
        clock.read(),
        end,
        State.OFFLINE,
        conn,
        Loaded(0, NO_EMBEDDER, keys.version, kek.protection, liveness=False),
    )
    device, tls = config.device.id, Tls(kek.passphrase())
    context = tls_context(config.broker, tls) if config.broker.url.startswith("mqtts://") else None
    with Client(config.broker, Login(device), context) as client:
        client.publish(f"hadir/v1/{device}/up/status", payload, retain=True)
    reached(IdentityStep.PROVEN)


def _identity_of(places: Places, identity: Identity) -> DeviceIdentity:
    device = load_config(places.config).device
    return DeviceIdentity(device.id, device.site, identity.signing_key())
