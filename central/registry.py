"""Which board owns which key: `devices.jwks`, as provisioning writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.errors import InputError, KeyFileError, TokenRefused
from edge.trust.identity import ID_PATTERN, check_device_id
from edge.trust.jws import VerificationKey, key_from_jwk, without_duplicates
from edge.trust.members import MAX_INTEGER
from edge.trust.tokens import BOARD_TYPS, CHAIN_PATTERN

MAX_REGISTRY_BYTES = 64 * 1024 * 1024
"""100,000 keys of about 350 bytes are 35 MB."""

MEMBERS = ("kid", "device", "site", "chain", "first_seq", "last_seq", "revoked_at")
"""Every entry has all of them, null where there is nothing to say: one lost on the way must not lift a limit."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Whose key it is, and for which part of which chain it speaks."""

    device: str
    site: str
    key: VerificationKey
    chain: str | None
    """None while the key may begin any chain of its device."""
    first_seq: int | None
    last_seq: int | None
    revoked_at: int | None
    """Seconds since 1970; None for a key in use."""
    ends: Mapping[str, int] = field(default_factory=dict)
    """By chain, the seq with which this key handed it over to the next."""

    def speaks_for(self, chain: str, seq: int) -> bool:
        """Whether an event at this place may carry this key's signature."""
        first_seq = 1 if self.first_seq is None else self.first_seq
        return (
            self.chain in (None, chain)
            and first_seq <= seq
            and (self.last_seq is None or seq <= self.last_seq)
            and seq <= self.ends.get(chain, seq)
        )


@dataclass(frozen=True, slots=True)
class Registry:
    """All registrations by kid."""

    registrations: Mapping[str, Registration]
    version: int = 0
    """It rises with every change at provisioning; 0 where the file has none, as earlier programs wrote it."""
    keys: Mapping[str, VerificationKey] = field(init=False)
    """By kid; made once, because every event asks for it."""

    def __post_init__(self) -> None:
        keys = {kid: registration.key for kid, registration in self.registrations.items()}
        object.__setattr__(self, "keys", keys)


def load_registry(path: Path) -> Registry:
    """Read `devices.jwks`.

    Raises:
        KeyFileError: missing or damaged; names the file, the entry and what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_REGISTRY_BYTES + 1)
    except OSError as error:
        raise KeyFileError(
            f"{path}: the registry of devices cannot be read ({error.strerror}); copy devices.jwks from the fleet"
        ) from error
    if len(content) > MAX_REGISTRY_BYTES:
        raise KeyFileError(f"{path}: larger than {MAX_REGISTRY_BYTES} bytes")
    try:
        document = json.loads(content, object_pairs_hook=without_duplicates)
        entries, version = document["keys"], document.get("version", 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KeyFileError(
            f"{path}: not a registry of devices: no JSON object, of members named once, with a list of keys"
        ) from error
    if not isinstance(entries, list):
        raise KeyFileError(f"{path}: not a registry of devices: keys is no list")
    if type(version) is not int or not 0 <= version <= MAX_INTEGER:
        raise KeyFileError(
            f"{path}: not a registry of devices: version is no whole number up to {MAX_INTEGER}"
        )
    registrations: dict[str, Registration] = {}
    for number, entry in enumerate(entries, 1):
        try:
            registration = _registration(entry)
        except (ValueError, TokenRefused, InputError) as error:
            raise KeyFileError(f"{path}: key {number} of {len(entries)}: {error}") from error
        if registration.key.kid in registrations:
            # Taking either would let the order of lines decide who owns the key.
            raise KeyFileError(
                f"{path}: key {number} of {len(entries)}: {registration.key.kid} is there already"
            )
        registrations[registration.key.kid] = registration
    return Registry(registrations, version)


def _registration(entry: Any) -> Registration:
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    missing = [name for name in MEMBERS if name not in entry]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    device, site = entry["device"], entry["site"]
    if not isinstance(device, str) or not isinstance(site, str):
        raise ValueError(f"device {device!r} and site {site!r} must be strings")
    check_device_id(device)
    if not ID_PATTERN.fullmatch(site):
        raise ValueError(f"site {site!r} must match {ID_PATTERN.pattern}")
    numbers = {name: entry[name] for name in ("first_seq", "last_seq", "revoked_at")}
    for name, value in numbers.items():
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} of {device} is {value!r}, not a whole number from 1")
    chain = entry["chain"]
    if chain is not None and not (isinstance(chain, str) and CHAIN_PATTERN.fullmatch(chain)):
        raise ValueError(f"chain of {device} is {chain!r}, not the id of a chain")
    return Registration(device, site, key_from_jwk(entry, BOARD_TYPS), chain, **numbers)
