"""As whom to look: root can read everything, so what root finds is not what the daemon will find."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

from edge.config import load_config
from edge.errors import ConfigError, FixSetup
from edge.trust.protect import Unsealed, sealed_by, unseal

DEVICE_GROUPS = ("video",)
"""The unit's SupplementaryGroups: cameras belong to them."""


def become_the_daemons_user(config: Path) -> None:
    """Where root asks, go on for good as whoever owns the board's state, or else its key.

    So permissions are judged as they will be for the daemon, and no file can come to belong
    to root. Stays root where the board is root's, and where the configuration is unreadable,
    which the report then says.
    """
    if os.geteuid() != 0:
        return
    try:
        device = load_config(config).device
    except ConfigError:
        return
    owner = next((path.stat().st_uid for path in (device.state_dir, device.key_file) if path.exists()), 0)
    if owner == 0:
        return
    try:
        user = pwd.getpwuid(owner)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        group = user.pw_gid
    except KeyError:  # a number without a name, as on a card from another board
        groups, group = [owner], owner
    os.setgroups([*groups, *_device_groups()])
    os.setgid(group)
    os.setuid(owner)


def unsealed_for(config: Path) -> Unsealed:
    """The key that systemd holds for this board, where root asks; before root becomes the daemon's user."""
    if os.geteuid() != 0:
        return Unsealed()
    try:
        return unseal() if sealed_by(load_config(config).device.state_dir) else Unsealed()
    except FixSetup:
        return Unsealed()  # the report says what is wrong


def _device_groups() -> list[int]:
    return [entry.gr_gid for entry in grp.getgrall() if entry.gr_name in DEVICE_GROUPS]
