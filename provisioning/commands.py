"""Commands to boards: numbered and registered before they are sent, and settled by a signed answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any

from edge.errors import InputError
from edge.trust.commands import (
    BOOT_PATTERN,
    COMMAND_TYP,
    MAX_COMMAND_BYTES,
    NAME_PATTERN,
    Reply,
    Status,
    command_claims,
    verify_reply,
)
from edge.trust.jws import encode_base64url, key_from_jwk, parse_object, sign
from edge.trust.tokens import REPLY_TYP
from provisioning.entries import Given
from provisioning.fleet import Fleet

LIFETIME_S = 3600
"""A board that is away for longer is told again by somebody who knows what has changed since."""
MAX_LIFETIME_S = 7 * 24 * 3600
"""The broker keeps a board's session, and so what waits in it, for seven days."""

_JTI_BYTES = 16


@dataclass(frozen=True, slots=True)
class Answered:
    """A command, and what the board said of it."""

    given: Given
    reply: Reply


def give(
    fleet: Fleet,
    device: str,
    name: str,
    args: Mapping[str, Any],
    *,
    now_s: int,
    lifetime_s: int = LIFETIME_S,
    boot: str | None = None,
) -> Given:
    """Sign and register a command; sending it is the caller's, as often as needed.

    Raises:
        InputError: no such board, or it was revoked; or the command cannot be one.
    """
    if fleet.registry.device(device).revoked_s is not None:
        raise InputError(f"{device}: was revoked, and is told nothing any more")
    if not NAME_PATTERN.fullmatch(name):
        raise InputError(f"command {name!r}: must match {NAME_PATTERN.pattern}")
    if boot is not None and not BOOT_PATTERN.fullmatch(boot):
        raise InputError(f"boot {boot!r}: must match {BOOT_PATTERN.pattern}, as the board's status names it")
    if not 1 <= lifetime_s <= MAX_LIFETIME_S:
        raise InputError(
            f"a command is good for a second to {MAX_LIFETIME_S} s; the broker keeps none for longer"
        )
    key = fleet.signing_key("command")
    jti = encode_base64url(token_bytes(_JTI_BYTES))
    with fleet.change("command", device, now_s=now_s, name=name, jti=jti) as change:
        n = change.next(_counter(device))
        claims = command_claims(
            fleet.issuer,
            device,
            jti=jti,
            n=n,
            name=name,
            args=args,
            now_s=now_s,
            expires_s=now_s + lifetime_s,
            boot=boot,
        )
        token = sign(claims, key, COMMAND_TYP).compact
        if len(token) > MAX_COMMAND_BYTES:
            raise InputError(f"command {name}: {len(token)} bytes, at most {MAX_COMMAND_BYTES}")
        change.detail["n"] = n
        change.add_command(jti, device, n, name, token, now_s + lifetime_s)
    given = fleet.registry.command(jti)
    if given is None:
        raise InputError(f"command {jti}: was not kept")
    return given


def take_reply(fleet: Fleet, device: str, content: bytes, now_s: int) -> Answered | None:
    """Settle a command by its board's answer; None where it was settled before, or nobody gave it.

    Raises:
        TokenRefused: not signed by a key of this board, or wrong in meaning; nothing is changed.
    """
    keys = {
        key.kid: key_from_jwk(key.jwk, frozenset({REPLY_TYP}))
        for key in fleet.registry.device_keys(device)
        if key.revoked_s is None
    }
    reply = verify_reply(content, keys, device)
    given = fleet.registry.command(reply.command)
    if given is None or given.device != device or given.status is not None:
        return None
    with fleet.change("reply", device, now_s=now_s, name=given.name, n=given.n) as change:
        change.detail |= {"status": reply.status.value, "reason": reply.reason}
        change.answer_command(given.jti, reply.status.value, reply.reason, reply.result)
        last_n = reply.result.get("last_n")
        if type(last_n) is int and 0 <= last_n < 2**53:
            # A registry that was restored from a backup has forgotten numbers that its boards remember.
            change.at_least(_counter(device), last_n)
    return Answered(given, reply)


def name_boot(fleet: Fleet, answered: Answered, now_s: int) -> Given | None:
    """The same command once more, for the boot that the board named in its signed answer; None where it asks for none.

    A board whose clock was never set cannot tell a new command from one that somebody kept.
    """
    given, reply = answered.given, answered.reply
    if reply.status is not Status.REFUSED or reply.result.get("needs_boot") is not True:
        return None
    said = parse_object(given.token.split(".")[1].encode(), "payload")
    if "boot" in said:
        return None
    return give(
        fleet,
        given.device,
        given.name,
        said["args"],
        now_s=now_s,
        lifetime_s=max(1, given.expires_s - now_s),
        boot=reply.boot,
    )


def topic_of(given: Given) -> str:
    """Where the board listens."""
    return f"hadir/v1/{given.device}/down/command"


def _counter(device: str) -> str:
    return f"command-n:{device}"
