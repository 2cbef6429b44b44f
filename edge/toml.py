"""Writing the TOML that configuration files need: sections of plain values (TOML 1.0). Reading is the library's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.errors import InputError

_ESCAPES = {"\\": "\\\\", '"': '\\"'}


def write_sections(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """A document with these sections. Raises InputError for a value that a configuration cannot hold."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {written(value)}\n" for key, value in members.items())
        for name, members in sections.items()
    )


def written(value: Any) -> str:
    """One value as TOML writes it. Raises InputError where it is none of ours."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return quoted(value)
        case list() | tuple():
            return f"[{', '.join(written(item) for item in value)}]"
    raise InputError(f"{str(value)[:40]!r}: not a value that a configuration can hold")


def quoted(text: str) -> str:
    """A basic string (TOML 1.0, section String)."""
    escaped = "".join(
        _ESCAPES.get(char, char if char.isprintable() else f"\\U{ord(char):08X}") for char in text
    )
    return f'"{escaped}"'
