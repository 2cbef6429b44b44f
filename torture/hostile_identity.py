"""Hostile messages about who somebody is: each refused with a reason, told in the log, and nothing changed.

Claim requests and certificate requests at the desk; answers to a claim, keys documents and
commands on a board. Two thirds of each kind are signed by whoever may sign them, and wrong in
meaning. Both sides are real, with real files, and only the broker is left out: a message
is given where the broker would give it. After each of them every file of whoever got it is what it
was, and at the end of each kind the honest message is believed.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from demo.boards import make_fleet
from edge.command import carry_out
from edge.evaluate.figures import Figure, commit, machine, one, write_json
from provisioning.claims import Listener, add_device
from provisioning.fleet import Fleet
from torture.identity_forgeries import FLEET_USES, Forged, Forger
from torture.targets import DeskTarget, ListeningBoard, WaitingBoard, let_in

MESSAGES = 2_000
"""Of each kind."""

LOGGED = {
    "claim request": "/request: not believed",
    "certificate request": "/request: not believed",
    "answer": "an answer is not believed",
    "keys document": "down/keys: ",
    "command": "command",
}
"""What a line of the log about a message of each kind has in it."""

LISTENER = Listener("mqtts://localhost", "localhost:8884", "P" * 21 + "A")


class Target(Protocol):
    """Whoever gets hostile messages."""

    def offer(self, payload: bytes) -> str | None:
        """Give it a message; the reason of its refusal, or None where it was believed."""
        ...

    def files(self) -> str:
        """What it has on its disk, in a hash."""
        ...


@dataclass(slots=True)
class Outcome:
    """What was sent, and what came of it."""

    sent: Counter[str] = field(default_factory=Counter)
    """By kind."""
    signed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """By kind and reason."""
    problems: Counter[str] = field(default_factory=Counter)


class Heard(logging.Handler):
    """Keeps every warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def hearing() -> Iterator[Heard]:
    """What the log says within the block, which nobody else hears."""
    heard, root = Heard(), logging.getLogger()
    root.addHandler(heard)
    try:
        yield heard
    finally:
        root.removeHandler(heard)


def run(folder: Path, seed: int, messages: int) -> Outcome:
    """So many of each kind."""
    outcome, random = Outcome(), Random(seed)  # noqa: S311 - to be repeatable, not unguessable
    fleet = make_fleet(folder / "fleet")
    try:
        with hearing() as heard:
            _flood(fleet, folder, random, messages, outcome)
    finally:
        fleet.registry.close()
    for kind, reason in (key.split(": ", 1) for key in outcome.refused):
        if not any(reason in line and LOGGED[kind] in line for line in heard.lines):
            outcome.problems[f"{kind}: the log does not tell of {reason}"] += 1
    return outcome


def _flood(fleet: Fleet, folder: Path, random: Random, messages: int, outcome: Outcome) -> None:
    now_s = int(time.time())
    claims = {
        name: add_device(fleet, name, listener=LISTENER, now_s=now_s)
        for name in ("door-01", "door-02", "x-1")
    }
    known = let_in(fleet, folder / "known", claims["door-02"], LISTENER)
    waiting = WaitingBoard(folder / "waiting", claims["door-01"])
    forger = Forger(
        fleet=fleet,
        claim=claims["door-01"],
        other_claim=claims["x-1"],
        board=waiting.identity.signing_key(),
        sealing=waiting.identity.sealing_key().public_key(),
        known=known.signing_key(),
        signers={use: fleet.signing_key(use) for use in FLEET_USES},
        authority=fleet.authority(),
        random=random,
        now_s=now_s,
    )
    desk = DeskTarget(fleet, claims["door-01"].id)
    _offer("claim request", desk, forger.request, messages, outcome)
    _offer("certificate request", desk, forger.certificate_request, messages, outcome)
    _honest("claim request", desk, waiting.request, outcome)
    _offer("answer", waiting, forger.answer, messages, outcome)
    _honest("answer", waiting, desk.answer(LISTENER), outcome)
    waiting.take_up()
    with ListeningBoard(waiting.config) as board:
        _offer("keys document", board.of("keys"), forger.keys, messages, outcome)
        _honest("keys document", board.of("keys"), forger.honest_keys(), outcome)
        _honest("command", board.of("command"), forger.ping(1), outcome)
        _offer("command", board.of("command"), forger.command, messages, outcome)
        _honest("command", board.of("command"), forger.ping(messages + 2), outcome)


def _offer(kind: str, target: Target, make: Callable[[int], Forged], messages: int, outcome: Outcome) -> None:
    before = target.files()
    for number in range(messages):
        message = make(number)
        reason = target.offer(message.payload)
        outcome.sent[kind] += 1
        outcome.signed[kind] += message.signed
        if reason is None:
            outcome.problems[f"{kind}, {message.family}: was believed"] += 1
        else:
            outcome.refused[f"{kind}: {reason}"] += 1
        if target.files() != before:
            outcome.problems[f"{kind}, {message.family}: changed something"] += 1
            before = target.files()


def _honest(kind: str, target: Target, payload: bytes, outcome: Outcome) -> None:
    reason = target.offer(payload)
    if reason is not None:
        outcome.problems[f"{kind}: the honest one is refused: {reason}"] += 1


def report(outcome: Outcome) -> str:
    """For people: what was sent, what came of it, what was wrong."""
    lines = [
        f"{kind:20} {count:6} sent, {outcome.signed[kind]:6} of them signed by who may sign it"
        for kind, count in outcome.sent.items()
    ]
    lines += [f"{reason:60} {count:6}" for reason, count in sorted(outcome.refused.items())]
    lines += [f"FAIL  {problem} ({count} times)" for problem, count in outcome.problems.items()]
    if not outcome.problems:
        lines.append("ok    each was refused with a reason that the log tells, and nothing was changed")
    return "\n".join(lines)


def figures(outcome: Outcome) -> Mapping[str, Figure]:
    """For programs."""
    counts = {f"hostile_{kind.replace(' ', '_')}": count for kind, count in outcome.sent.items()}
    counts |= {
        "signed": outcome.signed.total(),
        "refused": outcome.refused.total(),
        "problems": outcome.problems.total(),
    }
    return {key: one(count, "") for key, count in counts.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if each was refused, told of, and changed nothing, else 1."""
    parser = argparse.ArgumentParser(prog="python -m torture.hostile_identity")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--seed", type=int, help="the same messages again; printed by each run")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="of each kind, default %(default)s")
    options = parser.parse_args(arguments)
    return carry_out("hostile", lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"hostile: commit {commit()}, {machine()}; seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="hadir-hostile-") as folder:
        outcome = run(Path(folder), seed, options.messages)
    print(report(outcome))
    if options.json is not None:
        write_json(options.json, "hostile-identity", figures(outcome))
    return int(bool(outcome.problems))


if __name__ == "__main__":
    sys.exit(main())
