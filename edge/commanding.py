"""What each command does: the board's own handlers, a name each. docs/commands.md lists them for administrators.

Every handler checks all of its arguments before it changes anything, and what it changes is
durable when it returns.
"""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from edge import __version__
from edge.board.clock import Clock
from edge.config import OVERLAY_FILE, SETTABLE, overlaid, parse_config
from edge.errors import CommandRefused, ConfigError, InputError
from edge.files import unwritable, write_durably
from edge.settings import read_document
from edge.steps import IdentityStep, reached
from edge.toml import write_sections
from edge.trust.admission import check_chain
from edge.trust.claim import csr_of
from edge.trust.fleetkeys import FleetKeys
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import encode_base64url
from edge.trust.seal import Protection
from edge.trust.store import CERTIFICATE_FILE, ROTATED, Identity, IdentityStore
from edge.trust.tokens import CHAIN_PATTERN
from edge.uplink.commands import Handlers
from edge.uplink.outbox import Outbox


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What handlers may look at and change."""

    config: Path | None
    """The file that the daemon was started with; None where it was started without one, so `set` is not known."""
    state_dir: Path
    identity: DeviceIdentity
    store: IdentityStore
    outbox: Outbox
    clock: Clock
    protection: Protection
    keys: Callable[[], FleetKeys]
    announce: Callable[[], None]
    """Has the status said again."""
    restart: threading.Event
    """Set where the daemon is to end, so that its service manager starts it again."""


def handlers(around: Surroundings) -> Handlers:
    """By name, what this board carries out."""
    return {
        "ping": lambda args: _ping(around, args),
        "sync": lambda args: _sync(around, args),
        "report": lambda args: _report(around, args),
        "restart": lambda args: _restart(around, args),
        "resend": lambda args: _resend(around, args),
        "set": lambda args: _set(around, args),
        "rotate": lambda args: _rotate(around, args),
    }


def _ping(around: Surroundings, args: Mapping[str, Any]) -> Mapping[str, Any]:
    _only(args)
    return {"version": __version__, "mono_ms": around.clock.read().mono_ms}


def _sync(around: Surroundings, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """The status again: it names what this board has, and whoever has newer sends it."""
    _only(args)
    around.announce()
    return {"keys": around.keys().version}


def _report(around: Surroundings, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Who this board is and how far it is: no picture, no person."""
    _only(args)
    head, now = around.outbox.head(), around.clock.read()
    return {
        "version": __version__,
        "kid": around.identity.key.kid,
        "key_protection": around.protection.value,
        "certificate_ends_s": _certificate_end_s(around.store.current()),
        "keys": around.keys().version,
        "clock": now.state.value,
        "chain": head.chain,
        "seq": head.seq,
        "waiting": around.outbox.waiting_count(),
    }


def _restart(around: Surroundings, args: Mapping[str, Any]) -> Mapping[str, Any]:
    _only(args)
    around.restart.set()
    return {}


def _resend(around: Surroundings, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """From this seq of this chain on, out of the archive where they were acknowledged."""
    _only(args, "chain", "from")
    chain, first = args.get("chain"), args.get("from")
    if (
        not isinstance(chain, str)
        or not CHAIN_PATTERN.fullmatch(chain)
        or type(first) is not int
        or first < 1
    ):
        raise CommandRefused("resend: args must be chain and from, a seq")
    head = around.outbox.head()
    if chain != head.chain:
        raise CommandRefused(f"resend: chain {chain} is not this board's, which is {head.chain}")
    try:
        asked = around.outbox.ask_resend(first)
    except InputError as error:
        raise CommandRefused(f"resend: {error}") from error
    return {"from": asked.from_seq, "to": asked.to_seq}


def _set(around: Surroundings, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings over those of the file, from the next start on; `null` takes one back."""
    if around.config is None:
        raise CommandRefused("set: this board has no configuration file")
    wanted = _merged_overlay(around.state_dir, args)
    try:
        text = write_sections(wanted)
        document = overlaid(read_document(around.config), tomllib.loads(text))
        parse_config(document, around.config)
    except (ConfigError, InputError) as error:
        raise CommandRefused(f"set: {error}") from error
    try:
        write_durably(around.state_dir / OVERLAY_FILE, text.encode())
    except OSError as error:
        raise unwritable(f"{around.state_dir / OVERLAY_FILE}: the settings", error) from error
    return {"set": wanted, "from": "the next start; send restart"}


def _merged_overlay(state_dir: Path, args: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    path = state_dir / OVERLAY_FILE
    wanted: dict[str, dict[str, Any]] = read_document(path) if path.exists() else {}
    if not args:
        raise CommandRefused("set: args must be sections of settings")
    for section, members in args.items():
        if not isinstance(members, Mapping):
            raise CommandRefused(f"set: {section}: must be a section of settings")
        for key, value in members.items():
            if key not in SETTABLE.get(section, frozenset()):
                raise CommandRefused(
                    f"set: {section}.{key}: is not to be set from afar; docs/commands.md lists what is"
                )
            settings = wanted.setdefault(section, {})
            if value is None:
                settings.pop(key, None)
            else:
                settings[key] = value
    return wanted


def _rotate(around: Surroundings, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """First without arguments: a new key is made and its certificate request given. Then with its certificate."""
    current = around.store.current()
    if current is None:
        raise CommandRefused(
            "rotate: this board's key was made elsewhere; give it one of its own with a claim"
        )
    if around.store.successor() is not None:
        around.restart.set()
        return {"rotated": "at the restart that begins now"}
    if not args:
        return _ask_to_rotate(around, current)
    _only(args, "kid", "certificates")
    return _take_certificate(around, current, args)


def _ask_to_rotate(around: Surroundings, current: Identity) -> Mapping[str, Any]:
    name = f"{ROTATED}{around.identity.key.kid}"  # the same however often it is asked for
    identity = around.store.begin(name, current.sealing_key())
    key = identity.signing_key()
    return {"kid": key.kid, "csr": encode_base64url(csr_of(key, around.identity.device))}


def _take_certificate(around: Surroundings, current: Identity, args: Mapping[str, Any]) -> Mapping[str, Any]:
    identity = around.store.named(f"{ROTATED}{around.identity.key.kid}")
    if not identity.folder.exists():
        raise CommandRefused("rotate: no new key was asked for; send rotate without arguments first")
    key = identity.signing_key()
    if args.get("kid") != key.kid:
        raise CommandRefused("rotate: kid: is not the new key's")
    keys = around.keys()
    chain = check_chain(args.get("certificates"), key.public, around.identity.device, keys.authorities)
    try:
        identity.put_certificate(chain)
        identity.take_keys_of(current)
        identity.follow(current)
    except OSError as error:
        raise unwritable(f"{identity.folder}: the new identity", error) from error
    reached(IdentityStep.STAGED)
    around.restart.set()
    return {"rotated": "at the restart that begins now", "kid": key.kid}


def _certificate_end_s(identity: Identity | None) -> int | None:
    if identity is None:
        return None
    certificate = x509.load_pem_x509_certificates((identity.folder / CERTIFICATE_FILE).read_bytes())[0]
    return int(certificate.not_valid_after_utc.timestamp())


def _only(args: Mapping[str, Any], *known: str) -> None:
    unknown = sorted(args.keys() - set(known))
    if unknown:
        raise CommandRefused(
            f"args: {unknown[0][:40]} is not known here; allowed: {', '.join(known) or 'nothing'}"
        )
