"""From one set of fleet keys to the next: root, authority and all others, without a visit to any door.

In three steps, of which each waits for every active board:

1. `announce`: a document of the old root names the next root and lists the next keys and the
   next authority beside the present ones. Nothing signs with them yet.
2. `switch`, once every active board reports that document: the next keys become the present
   ones; a document of the new root follows. Boards rotate to certificates of the new authority.
3. `finish`, once every active board has such a certificate: a last document without the old ones.

Each step is decided upon in the registry, with its version and its time, before anything is
written; so whoever is cut off runs it again and writes the very same document.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.errors import AlreadyRunning, InputError
from edge.files import read_bounded, sync_folder, write_durably
from edge.trust.fleetkeys import (
    ENROL,
    MAX_TRAIL,
    MAX_TRAIL_BYTES,
    USES,
    ListedKey,
    listed_jwk,
    sealing_jwk,
    sign_document,
)
from edge.trust.jws import VerificationKey, jwk_of, parse_object
from provisioning.authority import PROVISION, Role, make_issuing, make_root, moment, pem
from provisioning.consumers import is_current, renew_consumer
from provisioning.deploy import BrokerSettings, write_broker
from provisioning.entries import ClaimState
from provisioning.fleet import (
    CA,
    CA_ROOT,
    FLEET_FILE,
    KEYS_FILE,
    KEYS_VERSION,
    NEXT,
    OLD,
    PROVISION_TLS,
    ROOT,
    Fleet,
)
from provisioning.steps import FleetStep, reached

SETTING = "handover"
LOCK_FILE = "handover.lock"
SIGNING = tuple(use for use in USES if use not in (ROOT, ENROL))
KEPT = frozenset({"gallery"})
"""Uses whose old keys stay listed to the end: galleries that boards have on their disks are signed by them."""


class Stage(StrEnum):
    """How far a handover is. The words that end in -ing are decided upon and not wholly written yet."""

    NONE = "none"
    ANNOUNCING = "announcing"
    ANNOUNCED = "announced"
    SWITCHING = "switching"
    SWITCHED = "switched"
    FINISHING = "finishing"


@dataclass(frozen=True, slots=True)
class Handover:
    """The step that was decided upon last."""

    stage: Stage
    version: int
    """Of the document that it writes, or wrote."""
    at_s: int

    @classmethod
    def of(cls, fleet: Fleet) -> Handover:
        """As the registry has it."""
        stored = fleet.registry.setting(SETTING)
        if stored is None:
            return cls(Stage.NONE, 0, 0)
        return cls(Stage(stored["stage"]), stored["version"], stored["at_s"])


@contextmanager
def alone(fleet: Fleet) -> Iterator[None]:
    """For one command at a time: two that begin together would each announce keys, and list them twice.

    Raises AlreadyRunning.
    """
    with (fleet.folder / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                f"{fleet.folder}: another `hadir-provision rotate-fleet` is at work; let it end first"
            ) from error
        yield


def announce(fleet: Fleet, now_s: int) -> Handover:
    """Make the next keys and tell boards of them. Needs the root key. Raises KeyFileError."""
    handover = Handover.of(fleet)
    fleet.store.unlock()
    if handover.stage is Stage.NONE:
        handover = _decide(fleet, Stage.ANNOUNCING, now_s)
    if handover.stage is not Stage.ANNOUNCING:
        return handover
    _make_next(fleet, handover)
    reached(FleetStep.NEXT_MADE)
    present = fleet.keys
    if present.version < handover.version:
        lines = [_line(key) for key in present.listed] + _next_lines(fleet, handover.at_s)
        document = sign_document(
            fleet.signing_key(ROOT),
            lines,
            version=handover.version,
            now_s=handover.at_s,
            authorities=[*present.authorities, pem(fleet.certificate(f"{NEXT}root"))],
            next_root=fleet.store.signing_key(f"{NEXT}{ROOT}", offline=True).kid,
        )
        _publish(fleet, document)
    reached(FleetStep.ANNOUNCED)
    return _done(fleet, Stage.ANNOUNCED, handover, now_s)


def switch(fleet: Fleet, reported: Mapping[str, int], now_s: int) -> tuple[Fleet, Handover]:
    """Let the next keys be the present ones. Needs both root keys.

    Raises:
        InputError: nothing was announced, or a board has not reported what was.
    """
    handover = Handover.of(fleet)
    if handover.stage is Stage.ANNOUNCED:
        _require(missing(fleet, reported, handover.version), "has not taken the announced keys")
        handover = _decide(fleet, Stage.SWITCHING, now_s)
    if handover.stage is not Stage.SWITCHING:
        raise InputError(f"{fleet.folder}: no next keys are announced; nothing to switch to")
    if fleet.keys.version < handover.version:
        _publish(fleet, _switching_document(fleet, handover))
    reached(FleetStep.SWITCH_PUBLISHED)
    _take_next(fleet)
    reached(FleetStep.NEXT_TAKEN)
    root = fleet.store.signing_key(ROOT, offline=True).kid
    path = fleet.folder / FLEET_FILE
    description = json.loads(path.read_text(encoding="utf-8")) | {"root_thumbprint": root}
    write_durably(path, json.dumps(description).encode() + b"\n")
    reached(FleetStep.ROOT_NAMED)
    switched = fleet.refreshed()
    _certify_provision(switched, now_s)
    _cancel_claims(switched, now_s)
    return switched, _done(switched, Stage.SWITCHED, handover, now_s)


def take_over(fleet: Fleet, now_s: int) -> None:
    """Give the broker and the servers certificates of the present authority, where they have none yet.

    To be called in every run from the switch on: it may have been cut off just before, and once it is finished no board
    would believe the broker. Raises InputError or KeyFileError.
    """
    write_broker(fleet, BrokerSettings.of(fleet), now_s)
    for consumer in fleet.registry.consumers():
        if consumer.revoked_s is None and not is_current(fleet, consumer.name):
            renew_consumer(fleet, consumer.name, now_s=now_s)


def finish(fleet: Fleet, reported: Mapping[str, int], now_s: int) -> Handover:
    """Forget the old keys and the old authority.

    Raises:
        InputError: there was no switch, or a board still needs what is old.
    """
    handover = Handover.of(fleet)
    if handover.stage is Stage.SWITCHED:
        _require(missing(fleet, reported, handover.version), "has not taken the new keys")
        _require(uncertified(fleet), "has no certificate of the new authority yet")
        handover = _decide(fleet, Stage.FINISHING, now_s)
    if handover.stage is not Stage.FINISHING:
        raise InputError(f"{fleet.folder}: no handover is under way that could be finished")
    if fleet.keys.version < handover.version:
        own = {fleet.store.signing_key(use, offline=use == ROOT).kid for use in (ROOT, *SIGNING)}
        own |= {sealing_jwk(fleet.store.sealing_key(ENROL).public_key())["kid"]}
        listed = [key for key in fleet.keys.listed if key.kid in own or key.use in KEPT]
        document = sign_document(
            fleet.signing_key(ROOT),
            [_line(key) for key in listed],
            version=handover.version,
            now_s=handover.at_s,
            authorities=[pem(fleet.certificate("root"))],
        )
        _publish(fleet, document)
    reached(FleetStep.FINISH_PUBLISHED)
    _forget_old(fleet, now_s)
    return _done(fleet, Stage.NONE, handover, now_s)


def missing(fleet: Fleet, reported: Mapping[str, int], version: int) -> tuple[str, ...]:
    """Active boards that have not reported this version of the keys document; not those that never came.

    A board that claims later gets all of the trail with its answer.
    """
    came = {key.device for key in fleet.registry.device_keys() if key.revoked_s is None}
    return tuple(
        device.device
        for device in fleet.active_devices()
        if device.device in came and reported.get(device.device, 0) < version
    )


def uncertified(fleet: Fleet) -> tuple[str, ...]:
    """Active boards that were not seen at work with a certificate of the present authority."""
    issuer = fleet.certificate("issuing").subject
    return tuple(
        device.device
        for device in fleet.active_devices()
        if any(
            issued.revoked_s is None and x509.load_pem_x509_certificate(issued.pem.encode()).issuer != issuer
            for issued in fleet.registry.certificates(device.device)
        )
    )


def _require(boards: Sequence[str], why: str) -> None:
    if boards:
        named = ", ".join(boards[:5]) + (", …" if len(boards) > 5 else "")  # noqa: PLR2004 - a line's worth
        raise InputError(
            f"{named}: {why}; have `hadir-provision serve` run until it has, or revoke what will never come again"
        )


def _decide(fleet: Fleet, stage: Stage, now_s: int) -> Handover:
    with fleet.change("rotate-fleet", stage.value, now_s=now_s) as change:
        handover = Handover(stage, change.next(KEYS_VERSION), now_s)
        change.detail["version"] = handover.version
        change.set(SETTING, {"stage": stage.value, "version": handover.version, "at_s": now_s})
    reached(FleetStep.DECIDED)
    return handover


def _done(fleet: Fleet, stage: Stage, handover: Handover, now_s: int) -> Handover:
    with fleet.change("rotate-fleet", stage.value, now_s=now_s) as change:
        change.set(SETTING, {"stage": stage.value, "version": handover.version, "at_s": handover.at_s})
    return Handover(stage, handover.version, handover.at_s)


def _make_next(fleet: Fleet, handover: Handover) -> None:
    """Whatever of the next keys and certificates is not there yet."""
    store = fleet.store
    for name in (ROOT, CA_ROOT):
        if not store.path(f"{NEXT}{name}", offline=True).exists():
            store.save(f"{NEXT}{name}", ec.generate_private_key(ec.SECP256R1()), offline=True)
    for name in (CA, *SIGNING):
        if not store.path(f"{NEXT}{name}").exists():
            store.save(f"{NEXT}{name}", ec.generate_private_key(ec.SECP256R1()))
    if not store.path(f"{NEXT}{ENROL}").exists():
        store.save(f"{NEXT}{ENROL}", X25519PrivateKey.generate())
    root_path, path = (fleet.folder / "ca" / f"{NEXT}{name}.crt" for name in ("root", "issuing"))
    if path.exists():
        return
    now, number = moment(handover.at_s), handover.version
    root_key = store.elliptic(f"{NEXT}{CA_ROOT}", offline=True)
    root = make_root(root_key, f"Hadir fleet root {number}", now)
    public = store.elliptic(f"{NEXT}{CA}").public_key()
    issuing = make_issuing(root_key, root, public, f"Hadir fleet {number}", now)
    with fleet.change("authority", f"next {number}", now_s=handover.at_s) as change:
        change.add_certificate(root, Role.AUTHORITY, "root")
        change.add_certificate(issuing, Role.AUTHORITY, "issuing")
    write_durably(root_path, pem(root).encode(), 0o644)
    write_durably(path, pem(issuing).encode(), 0o644)


def _next_lines(fleet: Fleet, at_s: int) -> list[dict[str, Any]]:
    store = fleet.store
    lines = [listed_jwk(store.signing_key(f"{NEXT}{ROOT}", offline=True).public_jwk, ROOT, at_s)]
    lines += [listed_jwk(store.signing_key(f"{NEXT}{use}").public_jwk, use, at_s) for use in SIGNING]
    enrol = store.sealing_key(f"{NEXT}{ENROL}").public_key()
    return [*lines, listed_jwk(sealing_jwk(enrol), ENROL, at_s)]


def _switching_document(fleet: Fleet, handover: Handover) -> str:
    """Of the new root: everything that the announcement listed, but for the old root."""
    root = fleet.store.signing_key(f"{NEXT}{ROOT}", offline=True)
    lines = [_line(key) for key in fleet.keys.listed if key.use != ROOT or key.kid == root.kid]
    return sign_document(
        root,
        lines,
        version=handover.version,
        now_s=handover.at_s,
        authorities=fleet.keys.authorities,
    )


def _line(key: ListedKey) -> dict[str, Any]:
    public = key.public
    jwk = (
        jwk_of(public.public) | {"kid": key.kid}
        if isinstance(public, VerificationKey)
        else sealing_jwk(public)
    )
    return listed_jwk(jwk, key.use, key.nbf_s, revoked=key.revoked)


def _publish(fleet: Fleet, document: str) -> None:
    """The document at the end of the trail; of those before it, the ones that hand over from one root to the next."""
    path = fleet.folder / KEYS_FILE
    before = read_bounded(path, MAX_TRAIL_BYTES).decode("ascii").split()
    handing_over = [one for one in before if parse_object(one.split(".")[1].encode(), "payload")["next_root"]]
    trail = [*handing_over[-(MAX_TRAIL - 1) :], document]
    write_durably(path, ("\n".join(trail) + "\n").encode())


def _take_next(fleet: Fleet) -> None:
    """Next to present, present to old; also where an earlier try was cut off between the two."""
    store = fleet.store
    names = [(name, True) for name in (ROOT, CA_ROOT)] + [(name, False) for name in (CA, *SIGNING, ENROL)]
    for name, offline in names:
        paths = [store.path(f"{prefix}{name}", offline=offline) for prefix in (NEXT, "", OLD)]
        _move_on(*paths)
    for name in ("root", "issuing"):
        _move_on(*(fleet.folder / "ca" / f"{prefix}{name}.crt" for prefix in (NEXT, "", OLD)))


def _move_on(following: Path, present: Path, old: Path) -> None:
    if not following.exists():
        return
    if present.exists():
        present.replace(old)
    following.replace(present)
    sync_folder(present.parent)


def _certify_provision(fleet: Fleet, now_s: int) -> None:
    public = fleet.store.elliptic(PROVISION_TLS).public_key()
    authority = fleet.authority()
    certificate = authority.issue_provision(public, moment(now_s))
    with fleet.change("certificate", PROVISION, now_s=now_s) as change:
        change.add_certificate(certificate, Role.PROVISION, PROVISION)
    path = fleet.folder / "ca" / f"{PROVISION}.crt"
    write_durably(path, (pem(certificate) + authority.chain).encode(), 0o644)


def _cancel_claims(fleet: Fleet, now_s: int) -> None:
    """They name the old root; make them anew."""
    open_ones = [c for c in fleet.registry.claims() if c.state in (ClaimState.OPEN, ClaimState.PENDING)]
    if open_ones:
        with fleet.change("claims-cancelled", "rotate-fleet", now_s=now_s) as change:
            for claim in open_ones:
                change.update_claim(claim.claim, ClaimState.CANCELLED)


def _forget_old(fleet: Fleet, now_s: int) -> None:
    present = {fleet.certificate(name).serial_number for name in ("root", "issuing")}
    with fleet.change("authority", "old ones end", now_s=now_s) as change:
        for issued in fleet.registry.certificates():
            if issued.role is Role.AUTHORITY and issued.serial not in present and issued.revoked_s is None:
                change.revoke_certificate(issued.serial)
    reached(FleetStep.AUTHORITY_ENDED)
    folders = {fleet.store.path(name, offline=name == ROOT).parent for name in (ROOT, CA)}
    for folder in (*folders, fleet.folder / "ca"):
        for path in folder.glob(f"{OLD}*"):
            path.unlink()
        sync_folder(folder)
