"""A fleet's directory: its keys, its boards, and the registry that the server verifies against.

Just enough to make events real: root, provision, gallery, command, receipt and enrol keys
as private files, the keys document that boards trust, `devices.jwks` for the server, and
a folder for each board with its own key. Board keys are made here until boards make their
own and claim them; then no private key of a board will ever be seen by this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import InputError, KeyFileError
from edge.trust.fleetkeys import USES, FleetKeys, load_keys_document, sign_keys_document
from edge.trust.identity import ID_PATTERN, check_device_id, load_signing_key, site_urn, write_signing_key
from edge.trust.jws import SigningKey

FLEET_FILE = "fleet.json"
DEVICES_FILE = "devices.jwks"
KEYS_FILE = "keys.jws"


@dataclass(frozen=True, slots=True)
class Fleet:
    """An existing fleet directory. Private keys are read only when they are needed."""

    folder: Path
    site: str
    root_thumbprint: str
    keys: FleetKeys

    @property
    def issuer(self) -> str:
        return f"urn:hadir:fleet:{self.root_thumbprint}"

    @property
    def audience(self) -> str:
        return site_urn(self.site)

    def boards(self) -> tuple[Path, ...]:
        """Each board's folder, named by its device id. Raises KeyFileError where they cannot be listed."""
        folder = self.folder / "boards"
        try:
            return tuple(sorted(path for path in folder.iterdir() if path.is_dir()))
        except OSError as error:
            raise KeyFileError(
                f"{folder}: the boards' folders cannot be listed ({error.strerror}); restore the fleet's folder"
            ) from error

    def signing_key(self, use: str) -> SigningKey:
        """The fleet's private key of this use. Raises KeyFileError."""
        return load_signing_key(_key_path(self.folder, use))


def init_fleet(folder: Path, *, site: str, devices: Sequence[str]) -> Fleet:
    """Make a fleet's directory with all its keys, complete or not at all.

    Raises:
        InputError: the folder exists, or an id cannot be used.
    """
    if not ID_PATTERN.fullmatch(site):
        raise InputError(f"site {site!r}: must match {ID_PATTERN.pattern}")
    if len(set(devices)) != len(devices) or not devices:
        raise InputError("name at least one device, and each only once")
    for device in devices:
        check_device_id(device)
    if folder.exists():
        raise InputError(f"{folder}: exists already; a fleet's keys are never overwritten. Name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _fill(scratch, site, devices)
            scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch)
            raise
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
    return open_fleet(folder)


def open_fleet(folder: Path) -> Fleet:
    """Read a fleet's directory. Raises KeyFileError where it is none, or damaged."""
    path = folder / FLEET_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        site, root_thumbprint = description["site"], description["root_thumbprint"]
        if not isinstance(root_thumbprint, str) or not ID_PATTERN.fullmatch(site):
            raise ValueError("no site or no root key")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeyFileError(
            f"{folder}: not a fleet's folder ({FLEET_FILE} cannot be read); make one with `hadir-provision init`"
        ) from error
    return Fleet(folder, site, root_thumbprint, load_keys_document(folder / KEYS_FILE, root_thumbprint))


def _fill(folder: Path, site: str, devices: Sequence[str]) -> None:
    now_s = int(time.time())
    for name in ("keys", "boards"):
        (folder / name).mkdir(mode=0o700)
    fleet_keys = {use: SigningKey.generate() for use in USES}
    for use, key in fleet_keys.items():
        write_signing_key(_key_path(folder, use), key)
    root = fleet_keys.pop("root")
    document = sign_keys_document(root, fleet_keys, version=1, now_s=now_s)
    _write(folder / KEYS_FILE, document + "\n")
    registered = []
    for device in devices:
        board = folder / "boards" / device
        board.mkdir(mode=0o700)
        key = SigningKey.generate()
        write_signing_key(board / "device.pem", key)
        _write(board / KEYS_FILE, document + "\n")
        registered.append(_registration(key, device, site))
    _write(folder / DEVICES_FILE, json.dumps({"keys": registered}, indent=2) + "\n")
    _write(
        folder / FLEET_FILE, json.dumps({"site": site, "root_thumbprint": root.kid, "made_s": now_s}) + "\n"
    )


def _registration(key: SigningKey, device: str, site: str) -> dict[str, object]:
    """A line of `devices.jwks`: whose key this is, and for which part of which chain it speaks."""
    return key.public_jwk | {
        "device": device,
        "site": site,
        "chain": None,
        "first_seq": None,
        "last_seq": None,
        "revoked_at": None,
    }


def _key_path(folder: Path, use: str) -> Path:
    return folder / "keys" / f"{use}.pem"


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
