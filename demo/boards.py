"""Boards for demo, tests, benchmarks and torture: with keys made here, as if each had claimed them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from edge.records import Direction
from edge.toml import quoted, written
from edge.trust.identity import write_signing_key
from edge.trust.jws import SigningKey
from provisioning.fleet import KEYS_FILE, Fleet, init_fleet

PASSPHRASE = "a passphrase for nothing real"  # noqa: S105 - of fleets that live for one run
QUICK_SCRYPT_N = 2**10
"""Nobody will attack a fleet that lives for a minute, and hundreds are made."""


def make_fleet(folder: Path, *, site: str = "hq", devices: Sequence[str] = ()) -> Fleet:
    """A fleet with these boards, each with its folder and its own key."""
    fleet = init_fleet(folder, site=site, ask=lambda: PASSPHRASE, scrypt_n=QUICK_SCRYPT_N)
    for device in devices:
        add_board(fleet, device)
    return fleet


def configured_board(fleet: Fleet, device: str, *, broker_url: str, sources: Sequence[Path]) -> Path:
    """A board of this fleet that watches recordings; its configuration's path."""
    add_board(fleet, device)
    return configure(fleet, device, broker_url=broker_url, sources=sources)


def configure(
    fleet: Fleet,
    device: str,
    *,
    broker_url: str,
    sources: Sequence[Path],
    delivery: str = "broker",
    settings: str = "",
    events: str = "",
) -> Path:
    """Write a board's configuration, which ends with `settings`, with more for the section [events]; its path.

    Unless `settings` say otherwise, liveness is off.
    """
    text = f"""\
# The board {device}. Paths are relative to this file. Every key and its bounds: docs/configuration.md

[device]
id = {quoted(device)}
site = {quoted(fleet.site)}
direction = "in"
root_thumbprint = {quoted(fleet.root_thumbprint)}

[broker]
url = {quoted(broker_url)}

[events]
delivery = {quoted(delivery)}
{events}

[camera]
kind = "replay"
sources = {written([str(source) for source in sources])}
"""
    if "[liveness]" not in settings:
        settings += UNGUARDED
    path = fleet.board_folder(device) / "edge.toml"
    path.write_text(f"{text}{settings}\n", encoding="utf-8")
    return path


UNGUARDED = """
[liveness]
# What is shown to this board is rendered from photographs, which is what liveness is there to refuse.
enabled = false
"""


def add_board(fleet: Fleet, device: str) -> Path:
    """Register a board and put its private key and the keys document into its folder, which is returned."""
    key = SigningKey.generate()
    with fleet.change("device-add", device, now_s=int(time.time())) as change:
        change.add_device(device, fleet.site, Direction.IN)
        change.add_key(key.kid, device, key.public_jwk)
    fleet.write_devices()
    folder = fleet.board_folder(device)
    write_signing_key(folder / "device.pem", key)
    shutil.copyfile(fleet.folder / KEYS_FILE, folder / KEYS_FILE)
    return folder
