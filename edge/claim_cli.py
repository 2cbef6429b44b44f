"""Commands with which a board comes to its identity: `seal`, `claim`, and offline `request` and `install`.

They parse and print; what they do stands in `edge.claiming`.
"""

from __future__ import annotations

import argparse
import logging
import os
import pwd
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from edge.board.alone import alone_on
from edge.board.clock import Clock
from edge.claiming import (
    BOOT_FILES,
    Answer,
    Places,
    claim_identity,
    forget_claim,
    keep_claim,
    kept_claim,
    prove,
    read_claim,
    remove_claim,
    take_up,
)
from edge.command import Subparsers
from edge.config import CAMERA_KINDS, CameraConfig, load_config
from edge.errors import AlreadyRunning, BrokerUnavailable, ConfigError, InputError, RetryLater
from edge.files import read_bounded, write_durably
from edge.settings import parse_document, read_document
from edge.trust.admission import MAX_ANSWER_BYTES
from edge.trust.claim import Claim
from edge.trust.protect import load_key_encryption_key, make_key_encryption_key, make_key_file
from edge.trust.seal import KeyEncryptionKey
from edge.trust.store import Identity, IdentityStore
from edge.uplink.claim import Waiting, ask

log = logging.getLogger(__name__)

DEFAULT_CONFIG = Path("/etc/hadir/edge.toml")
DEFAULT_STATE = Path("/var/lib/hadir")


def add_commands(commands: Subparsers) -> None:
    """Add them to the command line."""
    seal = commands.add_parser("seal", help="on first boot, as root: make the key that protects all others")
    _add_places(seal)
    seal.add_argument("--user", default="hadir", help="whom the board's files belong to; default %(default)s")
    seal.set_defaults(act=_seal)
    claim = commands.add_parser("claim", help="become the board that a claim names")
    _add_places(claim)
    claim.add_argument("--claim", type=Path, metavar="FILE", help="default: on the boot partition")
    claim.add_argument(
        "--camera", choices=CAMERA_KINDS, help="to read the claim from a QR code held up to it"
    )
    claim.add_argument("--source", action="append", default=[], help="for --camera replay; repeatable")
    claim.set_defaults(act=_claim)
    request = commands.add_parser(
        "request", help="without a network: write what this board asks for to a file"
    )
    _add_places(request)
    request.add_argument("--claim", type=Path, metavar="FILE", help="default: on the boot partition")
    request.add_argument("out", type=Path, metavar="OUT", help="for `hadir-provision sign`")
    request.set_defaults(act=_request)
    install = commands.add_parser(
        "install", help="without a network: take what `hadir-provision sign` answered"
    )
    _add_places(install)
    install.add_argument("answer", type=Path, metavar="ANSWER")
    install.set_defaults(act=_install)


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help=f"default {DEFAULT_CONFIG}")
    parser.add_argument(
        "--state-dir",
        type=Path,
        help=f"default: as configured, or {DEFAULT_STATE}, or state/ beside --config",
    )


def _places(options: argparse.Namespace) -> Places:
    state: Path | None = options.state_dir
    if state is None and options.config.exists():
        try:
            state = load_config(options.config).device.state_dir
        except ConfigError:
            state = None
    if state is None:
        state = DEFAULT_STATE if options.config == DEFAULT_CONFIG else options.config.parent / "state"
    return Places(options.config.absolute(), state.absolute())


def _seal(options: argparse.Namespace) -> None:
    places = _places(options)
    owner = _owner(options.user)
    print(f"keys protected by: {make_key_encryption_key(places.state_dir)}")
    for path in BOOT_FILES:
        if path.exists():
            keep_claim(places, read_claim(path).file.encode())
            path.unlink()
            print(f"{path}: moved to {places.claim}, which only the daemon can read")
    places.config.parent.mkdir(parents=True, exist_ok=True)
    for path in (places.state_dir, *places.state_dir.glob("*"), places.config.parent):
        os.chown(path, *owner, follow_symlinks=False)


def _owner(user: str) -> tuple[int, int]:
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise InputError(f"user {user!r}: does not exist; make it with: useradd --system {user}") from error
    return entry.pw_uid, entry.pw_gid


def _claim(options: argparse.Namespace) -> None:
    places = _places(options)
    waiting = Waiting(threading.Event())
    with _claiming_alone(places):
        claim = _present(options, places) or _seen(options, places, waiting.stop)
        if claim is None:
            print(_already(places))
            return
        _become(
            places, claim, lambda claim, request, opened: ask(claim, request, opened, waiting), options.claim
        )


def _request(options: argparse.Namespace) -> None:
    places = _places(options)

    def written(claim: Claim, request: bytes, opened: object) -> None:
        write_durably(options.out, request)
        print(f"{options.out}: take it to `hadir-provision sign`, and its answer to `hadir-edge install`")

    with _claiming_alone(places):
        claim = _present(options, places)
        if claim is None:
            raise InputError(f"no claim: name its file with --claim, or put it at {BOOT_FILES[0]}")
        claim_identity(places, claim, _kek(places), written)
        for path in _elsewhere(places, claim, options.claim):
            remove_claim(path)
            print(f"{path}: moved to {places.claim}, which only the daemon can read")


def _install(options: argparse.Namespace) -> None:
    places = _places(options)
    try:
        content = read_bounded(options.answer, MAX_ANSWER_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{options.answer}: cannot be read ({why})") from error
    with _claiming_alone(places):
        claim = kept_claim(places)
        if claim is None:
            raise InputError(f"{places.claim}: this board asked for nothing; begin with `hadir-edge request`")
        _become(places, claim, lambda claim, request, opened: opened(content), None)


def _become(places: Places, claim: Claim, answer: Answer, claim_file: Path | None) -> None:
    kek = _kek(places)
    identity = claim_identity(places, claim, kek, answer)
    if identity is None:
        raise RetryLater(f"claim {claim.id}: not answered yet; start this again")
    clock = Clock()
    if _taken_up(places, IdentityStore(places.state_dir, kek), identity, clock):
        device = load_config(places.config).device
        print(f"this board is {device.id} at site {device.site}; configuration: {places.config}")
        _prove(places, identity, kek, clock)
    else:
        print("the new identity is taken when the daemon starts next: systemctl restart hadir-edge")
    forget_claim(places, *_elsewhere(places, claim, claim_file))


def _claiming_alone(places: Places) -> AbstractContextManager[None]:
    """One claim at a time. The daemon may run meanwhile: a board that renews goes on watching its door."""
    return alone_on(places.state_dir / "claiming")


def _taken_up(places: Places, store: IdentityStore, identity: Identity, clock: Clock) -> bool:
    """Whether it is the board's now; else the daemon, which runs, hands its chain over at its next start.

    Raises AlreadyRunning where the daemon would have to give up its chain for it.
    """
    try:
        with alone_on(places.state_dir):
            take_up(places, store, identity, clock)
    except AlreadyRunning:
        successor = store.successor()
        if successor is None or successor.name != identity.name:
            raise
        return False
    return True


def _prove(places: Places, identity: Identity, kek: KeyEncryptionKey, clock: Clock) -> None:
    """It is this board already; that the broker knows as well can wait for the daemon."""
    try:
        prove(places, identity, kek, clock)
    except BrokerUnavailable as error:
        log.warning("%s. The daemon will try again", error)
    else:
        print("the broker has seen its first status")


def _present(options: argparse.Namespace, places: Places) -> Claim | None:
    """A claim in a file: the one that is named and still there, the one being worked on, or on the boot partition."""
    path = options.claim
    if places.claim.exists() and (path is None or not path.exists()):
        return kept_claim(places)
    if path is None:
        path = next((boot for boot in BOOT_FILES if boot.exists()), None)
    return None if path is None else keep_claim(places, read_claim(path).file.encode())


def _elsewhere(places: Places, claim: Claim, named: Path | None) -> list[Path]:
    """Where this claim lies besides where it is kept: the file that was named, and the boot partition."""

    def holds(path: Path) -> bool:
        try:
            return path.absolute() != places.claim and read_claim(path) == claim
        except InputError:  # none, or something else
            return False

    return [path for path in (*BOOT_FILES, *([] if named is None else [named])) if holds(path)]


def _seen(options: argparse.Namespace, places: Places, stop: threading.Event) -> Claim | None:
    """A claim held up to the camera; None where this board has an identity and nobody asked for another."""
    if options.camera is None and IdentityStore(places.state_dir, None).current() is not None:
        return None
    camera = _camera(options)
    if camera is None:
        raise InputError(
            f"no claim: put its file at {BOOT_FILES[0]}, name it with --claim, or name the --camera that its QR "
            "code is held up to"
        )
    from edge.camera.qr import watch_for  # noqa: PLC0415 - OpenCV takes a while, and no other way needs it

    print("hold the claim's QR code up to the camera")

    def understood(text: str) -> Claim | None:
        try:
            return Claim.parse(text.encode())
        except InputError as error:
            if text:
                log.warning("a code that is no claim: %s", error)
            return None

    claim = watch_for(camera, understood, stop)
    if claim is None:
        raise InputError("no QR code with a claim was seen")
    return keep_claim(places, claim.file.encode())


def _camera(options: argparse.Namespace) -> CameraConfig | None:
    """The one that is named, or the one that a prepared configuration has; its other sections may be missing yet."""
    if options.camera is not None:
        return CameraConfig(kind=options.camera, sources=tuple(options.source))
    if not options.config.exists():
        return None
    document = read_document(options.config)
    if "camera" not in document:
        return None
    return parse_document(_Seeing, {"camera": document["camera"]}, options.config).camera


@dataclass(frozen=True, slots=True)
class _Seeing:
    """The one section that matters before a board has an identity."""

    camera: CameraConfig


def _kek(places: Places) -> KeyEncryptionKey:
    """The board's, or a new one in a file where nobody sealed one."""
    kek = load_key_encryption_key(places.state_dir)
    if kek is None:
        make_key_file(places.state_dir)
        kek = load_key_encryption_key(places.state_dir)
    if kek is None:
        raise InputError(
            f"{places.state_dir}: the key-encryption key just made is not there; is the disk full?"
        )
    return kek


def _already(places: Places) -> str:
    return f"this board has its identity already ({places.config}); another claim is named with --claim"
