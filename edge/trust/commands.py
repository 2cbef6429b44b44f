"""Commands to a board and its answers: who may say what to whom, and for how long.

A command is signed by a command key of the fleet, for one board, with a number that only
rises. Its answer is signed by the board, whatever the answer is: a refusal says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge.errors import Refusal, TokenRefused
from edge.records import ClockState, TimeReading
from edge.trust.identity import DeviceIdentity, device_urn
from edge.trust.jws import VerificationKey, verify
from edge.trust.members import MAX_INTEGER, bad, integer, nothing_else, take, text
from edge.trust.tokens import REPLY_TYP

COMMAND_TYP = "hadir-command+jwt"
MAX_COMMAND_BYTES = 16 * 1024
"""Certificates are the longest arguments: two or three of about 1 KiB."""
MAX_REPLY_BYTES = 16 * 1024
MAX_AHEAD_S = 300
"""As for events (docs/events.md)."""

NAME_PATTERN = re.compile(r"[a-z][a-z-]{0,31}")
JTI_PATTERN = re.compile(r"[A-Za-z0-9_-]{22}")
"""16 bytes in base64url."""
BOOT_PATTERN = re.compile(r"[A-Za-z0-9-]{1,64}")

WITHOUT_A_CLOCK = frozenset({"ping", "sync"})
"""Harmless enough for a board that cannot tell whether a command has expired."""


class Status(StrEnum):
    """What became of a command. The values are stable: they travel and are stored."""

    DONE = "done"
    REFUSED = "refused"
    """Nothing was changed; `reason` says why."""
    INTERRUPTED = "interrupted"
    """The board stopped while it was at it: it may be done, or not, or half; look, and send another."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that the fleet gave to this board."""

    jti: str
    n: int
    name: str
    args: Mapping[str, Any]
    given_s: int
    """When, by the fleet's clock."""
    expires_s: int
    boot: str | None
    """The one boot that it is for; None for any."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a board answered."""

    command: str
    """The command's jti."""
    n: int
    status: Status
    reason: str | None
    result: Mapping[str, Any]
    boot: str
    kid: str
    """The key that signed it."""


def command_claims(
    fleet: str,
    device: str,
    *,
    jti: str,
    n: int,
    name: str,
    args: Mapping[str, Any],
    now_s: int,
    expires_s: int,
    boot: str | None = None,
) -> dict[str, Any]:
    """The claims of a command; `fleet` is its issuer's URN."""
    claims = {
        "iss": fleet,
        "aud": device_urn(device),
        "iat": now_s,
        "exp": expires_s,
        "jti": jti,
        "n": n,
        "name": name,
        "args": dict(args),
    }
    return claims if boot is None else claims | {"boot": boot}


def verify_command(compact: bytes, keys: Mapping[str, VerificationKey], device: str) -> Command:
    """A command for this board that the fleet signed; not yet whether it may be carried out now.

    Raises:
        TokenRefused: whoever sent it gets no answer, because nobody knows who that is.
    """
    claims = verify(compact, COMMAND_TYP, keys, MAX_COMMAND_BYTES).claims
    if claims.get("aud") != device_urn(device):
        raise TokenRefused(Refusal.WRONG_AUDIENCE, "aud: another board's")
    nothing_else(claims, {"iss", "aud", "iat", "exp", "jti", "n", "boot", "name", "args"})
    text(claims, "iss")
    return Command(
        jti=text(claims, "jti", JTI_PATTERN),
        n=integer(claims, "n", low=1),
        name=text(claims, "name", NAME_PATTERN),
        args=take(claims, "args", dict),
        given_s=integer(claims, "iat"),
        expires_s=integer(claims, "exp"),
        boot=text(claims, "boot", BOOT_PATTERN) if "boot" in claims else None,
    )


def needs_boot(command: Command, now: TimeReading) -> bool:
    """Whether a board that does not know the time cannot tell that this command is a new one."""
    unsure = now.state is ClockState.UNSYNCED
    return unsure and command.boot is None and command.name not in WITHOUT_A_CLOCK


def is_ahead(command: Command, now: TimeReading) -> bool:
    """Whether it was given later than now by a clock that is right: then the fleet's is not, and no time is to be
    learnt from it."""
    return now.state is not ClockState.UNSYNCED and command.given_s * 1000 > now.real_ms + MAX_AHEAD_S * 1000


def reason_against(command: Command, last_n: int, now: TimeReading, floor_s: int) -> str | None:
    """Why a command may not be carried out now; None where it may.

    `last_n` is the highest number that was carried out or begun, `floor_s` a time that is surely past.
    """
    if command.n <= last_n:
        return f"n = {command.n}: {last_n} was the last, and numbers only rise"
    if command.boot is not None and command.boot != now.boot:
        return "boot: it is for another boot of this board"
    return _time_against(command, now, floor_s)


def _time_against(command: Command, now: TimeReading, floor_s: int) -> str | None:
    if is_ahead(command, now):
        return "iat: it is ahead of this board's clock; is that of the fleet's machine right?"
    unsynced = now.state is ClockState.UNSYNCED
    passed_ms = floor_s * 1000 if unsynced else now.real_ms  # a good clock knows better than the floor
    if command.expires_s * 1000 <= passed_ms:
        return "exp: it has expired"
    if needs_boot(command, now):
        return "clock: this board does not know the time; name its boot, so that the command cannot be an old one"
    return None


def reply_claims(
    identity: DeviceIdentity,
    command: Command,
    made: TimeReading,
    status: Status,
    *,
    reason: str | None = None,
    result: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The claims of an answer."""
    claims: dict[str, Any] = {
        "iss": identity.issuer,
        "aud": identity.audience,
        "iat": made.real_ms // 1000,
        "command": command.jti,
        "n": command.n,
        "status": status.value,
        "boot": made.boot,
        "result": dict(result or {}),
    }
    return claims if reason is None else claims | {"reason": reason[:256]}


def verify_reply(compact: bytes, keys: Mapping[str, VerificationKey], device: str) -> Reply:
    """An answer that this board signed. Raises TokenRefused."""
    verified = verify(compact, REPLY_TYP, keys, MAX_REPLY_BYTES)
    claims = verified.claims
    if claims.get("iss") != device_urn(device):
        raise TokenRefused(Refusal.WRONG_OWNER, "iss: another board's")
    nothing_else(claims, {"iss", "aud", "iat", "command", "n", "status", "reason", "boot", "result"})
    if claims.get("status") not in list(Status):
        raise bad("status", f"not one of {', '.join(Status)}")
    return Reply(
        command=text(claims, "command", JTI_PATTERN),
        n=integer(claims, "n", low=1, high=MAX_INTEGER),
        status=Status(claims["status"]),
        reason=text(claims, "reason") if "reason" in claims else None,
        result=take(claims, "result", dict),
        boot=text(claims, "boot", BOOT_PATTERN),
        kid=verified.kid,
    )
