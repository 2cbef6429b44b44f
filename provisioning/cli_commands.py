"""Commands that tell boards something: `send`, `rotate`, `reconcile`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.command import Subparsers, number
from edge.errors import InputError, TokenRefused
from edge.trust.commands import Status
from edge.trust.jws import parse_members
from edge.trust.members import integer, text
from provisioning.cli_claims import add_fleet
from provisioning.commands import LIFETIME_S, give
from provisioning.entries import Given
from provisioning.fleet import Fleet, open_fleet
from provisioning.handover import (
    Handover,
    Stage,
    alone,
    announce,
    finish,
    missing,
    switch,
    take_over,
    uncertified,
)
from provisioning.link import spread
from provisioning.rotation import begin
from provisioning.serve import attend, await_answer, reported_keys

WAIT_S = 15.0
"""A board that is there answers within a second; one that is not finds the command when it comes."""

MAX_LISTED_BYTES = 16 * 1024 * 1024


def add_commands(commands: Subparsers) -> None:
    """Add them to the command line."""
    send = commands.add_parser("send", help="give a board a command and wait for its signed answer")
    add_fleet(send)
    send.add_argument("device")
    send.add_argument("name", help="ping, sync, report, restart, set, resend, rotate; docs/commands.md")
    send.add_argument("args", nargs="?", default="{}", help="a JSON object; default none")
    send.add_argument("--boot", help="for this boot of the board only, as its status names it")
    send.add_argument("--expires-s", type=int, default=LIFETIME_S, help="default %(default)s")
    send.add_argument("--wait-s", type=number, default=WAIT_S, help="for the answer; default %(default)g")
    send.set_defaults(act=_send)
    rotate = commands.add_parser("rotate", help="have boards change to a new key and certificate now")
    add_fleet(rotate)
    rotate.add_argument("device", nargs="+")
    rotate.add_argument("--wait-s", type=number, default=WAIT_S, help="for each answer; default %(default)g")
    rotate.set_defaults(act=_rotate)
    fleet = commands.add_parser(
        "rotate-fleet",
        help="change root key, authority and all fleet keys, step by step; run it again for the next",
    )
    add_fleet(fleet)
    fleet.add_argument(
        "--offline", type=Path, help="where the root keys were carried to; default FLEET/offline"
    )
    fleet.add_argument(
        "--wait-s", type=number, default=WAIT_S, help="for boards to report; default %(default)g"
    )
    fleet.add_argument("--finish", action="store_true", help="the last step: forget the old keys for good")
    fleet.set_defaults(act=_rotate_fleet)
    reconcile = commands.add_parser(
        "reconcile",
        help="send the resends that `hadir-central reconcile --format json` lists on standard input",
    )
    add_fleet(reconcile)
    reconcile.add_argument(
        "--wait-s", type=number, default=WAIT_S, help="for each answer; default %(default)g"
    )
    reconcile.set_defaults(act=_reconcile)


def _send(options: argparse.Namespace) -> int:
    fleet = open_fleet(options.fleet)
    given = give(
        fleet,
        options.device,
        options.name,
        _arguments(options.args),
        now_s=int(time.time()),
        lifetime_s=options.expires_s,
        boot=options.boot,
    )
    return _told(await_answer(fleet, given, options.wait_s, _ignore))


def _rotate(options: argparse.Namespace) -> int:
    fleet = open_fleet(options.fleet)
    worst = 0
    for device in options.device:
        given = begin(fleet, device, int(time.time()))
        worst = max(worst, _told(await_answer(fleet, given, options.wait_s, _ignore)))
    return worst


def _rotate_fleet(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet, offline=options.offline)
    with alone(fleet):
        _go_on(fleet, options)


def _go_on(fleet: Fleet, options: argparse.Namespace) -> None:
    """The next step of a handover, or what an earlier run of it has left to do."""
    stage = Handover.of(fleet).stage
    if options.finish and stage is Stage.NONE:
        raise InputError(f"{options.fleet}: no handover is under way that could be finished")
    if stage in (Stage.NONE, Stage.ANNOUNCING):
        handover = announce(fleet, int(time.time()))
        spread(fleet, int(time.time()))
        print(f"announced: keys document {handover.version} names the next root; boards get it from the desk")
        stage = handover.stage
    if stage in (Stage.ANNOUNCED, Stage.SWITCHING):
        version = Handover.of(fleet).version
        _wait_until(fleet, options.wait_s, lambda: not missing(fleet, reported_keys(fleet), version))
        fleet, handover = switch(fleet, reported_keys(fleet), int(time.time()))
        take_over(fleet, int(time.time()))
        spread(fleet, int(time.time()))
        print(f"switched: keys document {handover.version}; root key {fleet.root_thumbprint}")
        print(
            "copy the folders of consumers/ to their servers, and the broker's where it runs elsewhere; boards rotate"
        )
        print("to certificates of the new authority while `serve` runs. Then: rotate-fleet --finish")
        return
    take_over(fleet, int(time.time()))
    spread(fleet, int(time.time()))
    if options.finish:
        version = Handover.of(fleet).version
        _wait_until(
            fleet,
            options.wait_s,
            lambda: not (missing(fleet, reported_keys(fleet), version) or uncertified(fleet)),
        )
        handover = finish(fleet, reported_keys(fleet), int(time.time()))
        spread(fleet, int(time.time()))
        print(f"finished: keys document {handover.version} lists the new keys alone")
    else:
        left = uncertified(fleet)
        waiting = f"wait for {', '.join(left)}" if left else "every board has one: rotate-fleet --finish"
        print(f"switched; certificates of the new authority: {waiting}")


def _wait_until(fleet: Fleet, wait_s: float, ready: Callable[[], bool]) -> None:
    """Let boards come and report for a while; whether they have, the next step asks for itself."""
    deadline_s = time.monotonic() + wait_s
    attend(fleet, lambda: ready() or time.monotonic() >= deadline_s, _ignore)


def _reconcile(options: argparse.Namespace) -> int:
    fleet = open_fleet(options.fleet)
    worst = 0
    for wanted in _resends(sys.stdin.buffer.read(MAX_LISTED_BYTES)):
        args = {"chain": wanted["chain"], "from": wanted["resend_from"]}
        given = give(fleet, wanted["device"], "resend", args, now_s=int(time.time()))
        worst = max(worst, _told(await_answer(fleet, given, options.wait_s, _ignore)))
    return worst


def _resends(content: bytes) -> Sequence[Mapping[str, Any]]:
    """Of the lines that `hadir-central reconcile --format json` prints, those that a board can do something about."""
    try:
        records = [parse_members(line, "a line") for line in content.splitlines() if line.strip()]
        wanted = [record for record in records if record["resend_from"] is not None]
        for record in wanted:
            text(record, "device")
            text(record, "chain")
            integer(record, "resend_from", low=1)
    except (TokenRefused, KeyError) as error:
        raise InputError(
            f"standard input: not what `hadir-central reconcile --format json` prints ({error}); pipe it into this"
        ) from error
    return wanted


def _told(given: Given) -> int:
    """Print an answer; whether it was another than "done"."""
    print(f"{given.device}: {given.name}: {given.status}{f': {given.reason}' if given.reason else ''}")
    if given.result and given.status == Status.DONE:
        print(json.dumps(given.result, indent=2))
    return int(given.status != Status.DONE)


def _ignore(line: str) -> None:
    """What else comes to the desk meanwhile is for whoever sits there next."""


def _arguments(text: str) -> dict[str, Any]:
    try:
        return parse_members(text.encode(), "arguments")
    except TokenRefused as error:
        raise InputError(f"arguments {text[:80]!r}: {error.detail}; write a JSON object") from error
