"""A board's folder: what is copied to the board so that it can start."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from edge.config import parse_config
from edge.errors import ConfigError, InputError
from edge.records import Direction


def board_config(
    *,
    device: str,
    site: str,
    root_thumbprint: str,
    direction: Direction,
    broker_url: str,
    delivery: str = "receipt",
    camera: str = "replay",
    sources: Sequence[str] = (),
    state_dir: str | None = None,
) -> str:
    """The text of `edge.toml`; everything that is not said keeps the daemon's default."""
    listed = ", ".join(_quoted(source) for source in sources)
    state = f"state_dir = {_quoted(state_dir)}\n" if state_dir else ""
    watched = f"sources = [{listed}]" if camera == "replay" else 'device = "0"'
    return f"""\
# The board {device}. Paths are relative to this file. Every key and its bounds: docs/configuration.md

[device]
id = {_quoted(device)}
site = {_quoted(site)}
direction = {_quoted(direction)}
root_thumbprint = {_quoted(root_thumbprint)}
{state}
[broker]
url = {_quoted(broker_url)}

[events]
delivery = {_quoted(delivery)}

[camera]
kind = {_quoted(camera)}
{watched}  # what may stand here for each kind of camera: docs/cameras.md
"""


def check_board_config(text: str) -> None:
    """Raise InputError unless a board would take this configuration."""
    try:
        parse_config(tomllib.loads(text), Path("edge.toml"))
    except ConfigError as error:
        raise InputError(f"a board would refuse this: {error}") from error


def write_board_config(folder: Path, text: str) -> Path:
    """Write `edge.toml` into the board's folder."""
    path = folder / "edge.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _quoted(text: str) -> str:
    """A TOML basic string (TOML 1.0, section String)."""
    escaped = "".join(
        _ESCAPES.get(char, char if char.isprintable() else f"\\U{ord(char):08X}") for char in text
    )
    return f'"{escaped}"'


_ESCAPES = {"\\": "\\\\", '"': '\\"'}
