"""Members of verified claims, read strictly: present, of exactly one type, within bounds.

JSON from outside has no types until somebody checks them. Every reader here names the
member in its refusal, so that whoever made the token can find it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from edge.errors import Refusal, TokenRefused

MAX_INTEGER = 2**53 - 1
"""The largest that every JSON reader keeps exactly (RFC 8259, section 6)."""

MAX_TEXT = 256
"""Characters; the longest of ours has 64, but for the detail of a `tamper:1`."""


def take(claims: Mapping[str, Any], name: str, kind: type) -> Any:
    """A member of exactly this type: True is no number, and 5.0 no integer."""
    if name not in claims:
        raise bad(name, "missing")
    value = claims[name]
    if type(value) is not kind:
        raise bad(name, f"not a {kind.__name__}")
    return value


def integer(claims: Mapping[str, Any], name: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    """A whole number from `low` to `high`."""
    value: int = take(claims, name, int)
    if not low <= value <= high:
        raise bad(name, f"{str(value)[:20]} is not from {low} to {high}")
    return value


def number(claims: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """A number, whole or not, from `low` to `high`; NaN is none."""
    if name not in claims:
        raise bad(name, "missing")
    value = claims[name]
    if type(value) not in (int, float) or not low <= value <= high:
        raise bad(name, f"not a number from {low} to {high}")
    return float(value)


def text(claims: Mapping[str, Any], name: str, pattern: re.Pattern[str] | None = None) -> str:
    """A string that is safe to show, and matches the whole pattern."""
    value: str = take(claims, name, str)
    if not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
        raise bad(name, f"not 1 to {MAX_TEXT} printable characters")
    if pattern is not None and not pattern.fullmatch(value):
        raise bad(name, f"does not match {pattern.pattern}")
    return value


def nothing_else(claims: Mapping[str, Any], known: Set[str]) -> None:
    """Refuse members that are not known here.

    What one reader ignores another may act upon (`exp`, `nbf`), and a name or a picture could travel in it.
    """
    unknown = sorted(claims.keys() - known)
    if unknown:
        raise bad(
            ascii(unknown[0])[1:-1][:40], "not known here; a new member needs a new version of the type"
        )


def bad(name: str, why: str) -> TokenRefused:
    """The refusal, with the member's name before the colon."""
    return TokenRefused(Refusal.BAD_CLAIMS, f"{name}: {why}")
