"""Carries out what the fleet commands: each number once, in order, across crashes and redelivery.

The number is durable before anything is done, and the answer before it is sent. So a command
that a power cut interrupts is never done twice: its answer is `interrupted`, and whoever gave
it looks and gives another. What a command may be called, and what it does, is a registry of
names (`Handlers`) that other parts of the board add to; there is no shell and no picture.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from edge.board.clock import Clock
from edge.errors import CannotRecord, CommandRefused, FixSetup, TokenRefused
from edge.files import read_bounded, unwritable, write_durably
from edge.steps import IdentityStep, reached
from edge.trust.commands import (
    MAX_REPLY_BYTES,
    Command,
    Status,
    is_ahead,
    needs_boot,
    reason_against,
    reply_claims,
    verify_command,
)
from edge.trust.floor import TimeFloor
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import VerificationKey, sign
from edge.trust.tokens import REPLY_TYP
from edge.uplink.downlink import Incoming, Outgoing, Send

log = logging.getLogger(__name__)

FILE = "commands.json"
"""In the state folder: the last number, and what became of that command."""

REPLY_CONTENT_TYPE = "application/jwt"

_MAX_FILE_BYTES = 2 * MAX_REPLY_BYTES


class Handler(Protocol):
    """Carries out the commands of one name, in the publisher's thread, within milliseconds."""

    def __call__(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do it, durably where that matters; what the answer tells.

        Raises:
            CommandRefused: with nothing changed.
        """
        ...


Handlers = Mapping[str, Handler]


class Keys(Protocol):
    """The fleet's public keys, as they are now."""

    def verification_keys(self, typ: str) -> dict[str, VerificationKey]: ...


@dataclass(frozen=True, slots=True)
class Log:
    """What is durable of the last command."""

    n: int = 0
    """The highest number that was begun."""
    jti: str = ""
    name: str = ""
    reply: str | None = None
    """The answer; None while it is being carried out."""


class Commands:
    """The receiver of `down/command`."""

    def __init__(
        self,
        state_dir: Path,
        identity: DeviceIdentity,
        keys: Keys,
        clock: Clock,
        handlers: Handlers,
        floor: TimeFloor,
    ) -> None:
        self._path = state_dir / FILE
        self._identity = identity
        self._keys = keys
        self._clock = clock
        self._handlers = handlers
        self._floor = floor
        self._log = _read(self._path)
        self._unsent = self._log.n > 0
        if self._unsent and self._log.reply is None:
            self._answer_interrupted()

    @property
    def topics(self) -> tuple[str, ...]:
        return ("command",)

    def connected(self, send: Send) -> None:
        """The last answer again, once a start: whether it arrived before, nobody knows."""
        if self._unsent and self._log.reply is not None:
            send(_reply(self._log.reply))
            self._unsent = False

    def receive(self, incoming: Incoming, send: Send) -> None:
        """Carry a command out and answer. Raises TokenRefused where nobody knows who sent it, CannotRecord."""
        command = verify_command(
            incoming.payload, self._keys.verification_keys("hadir-command+jwt"), self._identity.device
        )
        now = self._clock.read()
        if not is_ahead(command, now):
            self._floor.raise_to(command.given_s)
        if command.jti == self._log.jti and self._log.reply is not None:
            send(_reply(self._log.reply))  # delivered again
            return
        why = reason_against(command, self._log.n, now, self._floor.seconds)
        if why is None and command.name not in self._handlers:
            why = f"name: {command.name} is not known here; {', '.join(sorted(self._handlers))} are"
        if why is not None:
            last = {"last_n": self._log.n, "needs_boot": needs_boot(command, now)}
            send(_reply(self._signed(command, Status.REFUSED, reason=why, result=last)))
            log.warning("command %d (%s) refused: %s", command.n, command.name, why)
            return
        send(_reply(self._carry_out(command)))

    def _carry_out(self, command: Command) -> str:
        self._keep(Log(command.n, command.jti, command.name))
        reached(IdentityStep.COMMAND_NUMBERED)
        log.info("command %d: %s", command.n, command.name)
        try:
            result = self._handlers[command.name](command.args)
        except (CommandRefused, TokenRefused, FixSetup, CannotRecord) as error:
            reply = self._signed(command, Status.REFUSED, reason=str(error))
            log.warning("command %d (%s) refused: %s", command.n, command.name, error)
        else:
            reply = self._signed(command, Status.DONE, result=result)
        reached(IdentityStep.COMMAND_DONE)
        self._keep(replace(self._log, reply=reply))
        reached(IdentityStep.COMMAND_ANSWERED)
        return reply

    def _answer_interrupted(self) -> None:
        command = Command(self._log.jti, self._log.n, self._log.name, {}, 0, 0, None)
        log.warning("command %d (%s) was interrupted", command.n, command.name)
        reason = "the board stopped while it was at it; look what became of it, and send another"
        self._keep(replace(self._log, reply=self._signed(command, Status.INTERRUPTED, reason=reason)))

    def _signed(
        self,
        command: Command,
        status: Status,
        *,
        reason: str | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> str:
        shown = None if reason is None else "".join(c if c.isprintable() else "?" for c in reason)
        claims = reply_claims(
            self._identity, command, self._clock.read(), status, reason=shown, result=result
        )
        return sign(claims, self._identity.key, REPLY_TYP).compact

    def _keep(self, entry: Log) -> None:
        content = {"n": entry.n, "jti": entry.jti, "name": entry.name, "reply": entry.reply}
        try:
            write_durably(self._path, json.dumps(content).encode())
        except OSError as error:
            raise unwritable(f"{self._path}: the command's number", error) from error
        self._log = entry


def _reply(compact: str) -> Outgoing:
    return Outgoing("reply", compact.encode(), content_type=REPLY_CONTENT_TYPE)


def _read(path: Path) -> Log:
    """Raises CannotRecord where it is damaged: without the number, an old command could be done again."""
    try:
        said = json.loads(read_bounded(path, _MAX_FILE_BYTES))
        entry = Log(said["n"], said["jti"], said["name"], said["reply"])
        if type(entry.n) is not int or not isinstance(entry.reply, str | None):
            raise ValueError("of the wrong type")
    except FileNotFoundError:
        return Log()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CannotRecord(
            f"{path}: the number of the last command cannot be read ({error}); claim this board anew, or restore it"
        ) from error
    return entry
