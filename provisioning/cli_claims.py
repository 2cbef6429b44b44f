"""Commands that let boards in: `device add`, `pending`, `approve`, `serve`, `sign`, `renew`, `replace`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from edge.command import Subparsers, number
from edge.config import CAMERA_KINDS
from edge.errors import AlreadyRunning, InputError, RetryLater, TokenRefused
from edge.files import read_bounded, write_durably
from edge.records import Direction
from edge.trust.admission import Purpose
from edge.trust.claim import MAX_REQUEST_BYTES, Claim
from edge.trust.jws import parse_object
from provisioning.claims import DAY_S, LIFETIME_S, Outcome, add_claim, add_device, approve, receive_request
from provisioning.cli_bulk import add_import
from provisioning.entries import Claim as Registered
from provisioning.entries import ClaimState
from provisioning.fleet import Fleet, open_fleet
from provisioning.link import connect, listener_of, spread
from provisioning.qr import check_picture, terminal_text, write_picture
from provisioning.serve import CLAIM_FILE, LOOK_S, SERVING, Desk, at_the_desk, who_sits_there
from provisioning.steps import DeskStep, reached

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Longer than another command needs the name `provision` at the broker, such as `revoke`."""


def add_commands(commands: Subparsers) -> None:
    """Add them to the command line."""
    device = commands.add_parser("device", help="boards, one at a time or many from a file")
    actions = device.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", help="register a board and make the claim that it starts with")
    add_fleet(add)
    add.add_argument("device", help="its id, such as door-01: it never changes")
    add.add_argument("--site", help="default: the fleet's")
    add.add_argument("--direction", type=Direction, choices=list(Direction), default=Direction.BOTH)
    add.add_argument("--label", default="", help="a name for people, which may change")
    add.add_argument("--camera", choices=CAMERA_KINDS, help="default: as the board's own configuration says")
    add.add_argument("--source", action="append", default=[], help="for --camera replay; repeatable")
    _add_claim_options(add)
    add.set_defaults(act=_device_add)
    add_import(actions)
    for purpose, what in (
        (
            Purpose.RENEW,
            "a new claim for the same board, which keeps its chain: it slept past its certificate",
        ),
        (
            Purpose.REPLACE,
            "a claim for a new board at the same door; the one before is revoked once it arrives",
        ),
    ):
        again = commands.add_parser(purpose.value, help=what)
        add_fleet(again)
        again.add_argument("device")
        _add_claim_options(again)
        again.set_defaults(act=_again, purpose=purpose)
    pending = commands.add_parser("pending", help="boards that wait to be approved, and alerts")
    add_fleet(pending)
    pending.set_defaults(act=_pending)
    approve_ = commands.add_parser("approve", help="let in boards that presented a claim")
    add_fleet(approve_)
    approve_.add_argument("device", nargs="*", help="by id, as `pending` lists them")
    approve_.add_argument("--auto", action="store_true", help="all of them, now and until stopped")
    approve_.set_defaults(act=_approve)
    serve = commands.add_parser("serve", help="answer claims on the broker until stopped")
    add_fleet(serve)
    serve.add_argument("--auto", action="store_true", help="approve every board that presents a good claim")
    serve.set_defaults(act=_serve)
    sign = commands.add_parser("sign", help="without a network: answer a board's request from a stick")
    add_fleet(sign)
    sign.add_argument("request", type=Path, metavar="REQUEST", help="written by `hadir-edge request`")
    sign.add_argument("answer", type=Path, metavar="ANSWER", help="for `hadir-edge install`")
    sign.set_defaults(act=_sign)


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """The fleet's folder, which every command takes first."""
    parser.add_argument("fleet", type=Path, metavar="FLEET")


def _add_claim_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file", type=Path, help="where the claim goes; default FLEET/boards/DEVICE/hadir-claim.json"
    )
    parser.add_argument("--qr", type=Path, help="write the QR code to this .svg or .png as well")
    parser.add_argument(
        "--days", type=number, default=LIFETIME_S / DAY_S, help="it is good for; default %(default)g"
    )


def _device_add(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    _check_places(options)
    claim = add_device(
        fleet,
        options.device,
        listener=listener_of(fleet),
        now_s=int(time.time()),
        site=options.site,
        direction=options.direction,
        label=options.label,
        settings=_settings(options),
        lifetime_s=int(options.days * DAY_S),
    )
    _hand_out(fleet, options, claim)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    if options.source and options.camera != "replay":
        raise InputError("--source belongs to --camera replay; leave one of them out")
    if options.camera == "replay" and not options.source:
        raise InputError("--camera replay: name what it plays with --source")
    if options.camera is None:
        return {}
    camera: dict[str, Any] = {"kind": options.camera}
    if options.source:
        camera["sources"] = options.source
    return {"camera": camera}


def _again(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    _check_places(options)
    claim = add_claim(
        fleet,
        options.device,
        options.purpose,
        listener=listener_of(fleet),
        now_s=int(time.time()),
        lifetime_s=int(options.days * DAY_S),
    )
    _hand_out(fleet, options, claim)


def _check_places(options: argparse.Namespace) -> None:
    """Before anything is registered: its claim is told once. Raises InputError."""
    for path in (options.file, options.qr):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; is the card or stick mounted?")
    if options.qr is not None:
        check_picture(options.qr)


def _hand_out(fleet: Fleet, options: argparse.Namespace, claim: Claim) -> None:
    path = options.file or fleet.board_folder(options.device) / CLAIM_FILE
    try:
        write_durably(path, claim.file.encode())
        if options.qr is not None:
            write_picture(claim, options.qr)
    except (OSError, InputError) as error:
        raise InputError(
            f"{options.device} is registered, but its claim cannot be handed out: {error}. Then make another claim: "
            f"`hadir-provision renew {fleet.folder} {options.device}`"
        ) from error
    spread(fleet, int(time.time()))
    if sys.stdout.isatty():
        print(terminal_text(claim))
    print(f"{options.device}: claim {claim.id}, good for {options.days:g} days, once, for one board: {path}")
    print(
        "put it on the board's boot partition, or hold the QR code up to its camera; whoever has it can be that board"
    )


def _pending(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    found = False
    for claim in fleet.registry.claims():
        if claim.alert is not None and not _came_since(fleet, claim):
            print(f"ALERT {claim.device}: claim {claim.claim} was {claim.alert}")
            found = True
        elif claim.state is ClaimState.PENDING and claim.request is not None:
            said = parse_object(claim.request.split(".")[1].encode(), "payload")
            print(
                f"{claim.device}: {said['board']}, keys protected by {said['key_protection']}, key {claim.request_kid}"
            )
            found = True
    if not found:
        print("no board waits")


def _came_since(fleet: Fleet, before: Registered) -> bool:
    """Whether the door's board came by a later claim: then nothing of an earlier one is to be done."""
    return any(
        claim.state is ClaimState.USED and claim.made_s > before.made_s
        for claim in fleet.registry.claims(before.device)
    )


def _approve(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    if options.auto == bool(options.device):
        raise InputError("approve: name boards, or say --auto for all of them")
    if options.auto:
        _at_the_desk(fleet, auto=True)
        return
    waiting = [_waiting(fleet, device) for device in options.device]
    try:
        for claim in waiting:
            approve(fleet, claim.claim, listener=listener_of(fleet), now_s=int(time.time()))
            print(f"{claim.device}: approved", flush=True)
    finally:
        spread(fleet, int(time.time()))


def _waiting(fleet: Fleet, device: str) -> Registered:
    """What a board has presented. Raises InputError where it does not wait."""
    waiting = [c for c in fleet.registry.claims(device) if c.state is ClaimState.PENDING]
    if not waiting:
        raise InputError(f"{device}: does not wait to be approved; `hadir-provision pending` lists who does")
    return waiting[-1]


def _serve(options: argparse.Namespace) -> None:
    _at_the_desk(open_fleet(options.fleet), auto=options.auto)


def _at_the_desk(fleet: Fleet, *, auto: bool) -> None:
    """Until a signal; through whatever happens to the broker, and while the registry cannot be written."""
    stop = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        stop.set()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, handler)
    waits = False
    while not stop.is_set():
        with at_the_desk(fleet, SERVING) as empty:
            if empty:
                _attend(fleet, stop, auto=auto)
                return
        if who_sits_there(fleet) == SERVING:
            raise AlreadyRunning(
                f"{fleet.folder}: another `hadir-provision serve` is at its desk; stop it first"
            )
        if not waits:
            _say("another command is at the desk; waiting until it leaves")
        waits = True
        stop.wait(LOOK_S)


def _attend(fleet: Fleet, stop: threading.Event, *, auto: bool) -> None:
    listener = listener_of(fleet)
    owing = True  # whoever sat here before may have been cut off
    while not stop.is_set():
        fleet = fleet.refreshed()
        try:
            with connect(fleet) as client:
                print(f"answering claims at {listener.claims}", flush=True)
                desk = Desk(fleet, client, listener, auto=auto, tell=_say, owing=owing)
                owing = True
                desk.run(stop.is_set)
                owing = False
        except RetryLater as error:  # as what retained messages tell is told again, nothing is lost by it
            log.warning("%s. Trying again", error)
            stop.wait(RETRY_S)


def _say(line: str) -> None:
    print(line, flush=True)


def _sign(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    try:
        content = read_bounded(options.request, MAX_REQUEST_BYTES)
        claim_id = str(parse_object(content.split(b".", 1)[0], "header").get("kid"))
        listener, now_s = listener_of(fleet), int(time.time())
        received = receive_request(fleet, claim_id, content, now_s)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{options.request}: the request cannot be read ({why})") from error
    except TokenRefused as error:
        raise InputError(f"{options.request}: not to be believed: {error}") from error
    reached(DeskStep.REQUEST_TAKEN)
    if received.outcome is Outcome.ALERT:
        raise InputError(
            f"{received.claim.device}: claim {claim_id} was {received.detail}; nothing was issued"
        )
    claim = received.claim
    if received.outcome is Outcome.PENDING:
        claim = approve(fleet, claim_id, listener=listener, now_s=now_s)
        reached(DeskStep.APPROVED)
    spread(fleet, now_s)  # also where it was signed before: that command may have been cut off here
    reached(DeskStep.SPREAD)
    write_durably(options.answer, claim.response or b"")
    print(f"{claim.device}: approved; take {options.answer} to `hadir-edge install`")
