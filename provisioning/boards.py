"""A board's folder: what is copied to the board so that it can start."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from edge.config import parse_config
from edge.errors import ConfigError, InputError
from edge.records import Direction
from edge.toml import quoted


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
    listed = ", ".join(quoted(source) for source in sources)
    state = f"state_dir = {quoted(state_dir)}\n" if state_dir else ""
    watched = f"sources = [{listed}]" if camera == "replay" else 'device = "0"'
    return f"""\
# The board {device}. Paths are relative to this file. Every key and its bounds: docs/configuration.md

[device]
id = {quoted(device)}
site = {quoted(site)}
direction = {quoted(direction)}
root_thumbprint = {quoted(root_thumbprint)}
{state}
[broker]
url = {quoted(broker_url)}

[events]
delivery = {quoted(delivery)}

[camera]
kind = {quoted(camera)}
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
