"""devices.jwks: what provisioning wrote is read, and an entry that could mean two things is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from central.registry import MAX_REGISTRY_BYTES, MEMBERS, Registration, load_registry
from edge.errors import KeyFileError
from edge.trust.identity import load_signing_key
from edge.trust.jws import SigningKey
from edge.trust.tokens import BOARD_TYPS
from provisioning.fleet import DEVICES_FILE, Fleet

KEY, OTHER = SigningKey.generate(), SigningKey.generate()


def entry(key: SigningKey = KEY, **changes: Any) -> dict[str, Any]:
    limits = dict.fromkeys(("chain", "first_seq", "last_seq", "revoked_at"))
    return dict(key.public_jwk) | {"device": "door-01", "site": "hq"} | limits | changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "devices.jwks"


def refused(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(KeyFileError) as error:
        load_registry(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def refused_entries(path: Path, *entries: object) -> str:
    return refused(path, json.dumps({"keys": entries}))


def test_what_provisioning_wrote_is_read(fleet: Fleet) -> None:
    registry = load_registry(fleet.folder / DEVICES_FILE)
    kids = {board.name: load_signing_key(board / "device.pem").kid for board in fleet.boards()}
    assert {kid: entry.device for kid, entry in registry.registrations.items()} == {
        kid: device for device, kid in kids.items()
    }
    assert registry.keys == {kid: entry.key for kid, entry in registry.registrations.items()}
    for registration in registry.registrations.values():
        assert (registration.site, registration.chain, registration.revoked_at) == ("hq", None, None)
        assert registration.key.typs == BOARD_TYPS
        assert registration.speaks_for("A" * 22, 1)


def test_every_member_of_an_entry_is_read(path: Path) -> None:
    limits: dict[str, Any] = {"chain": "A" * 22, "first_seq": 10, "last_seq": 20, "revoked_at": 1_764_000_000}
    path.write_text(json.dumps({"keys": [entry(**limits)]}))
    assert load_registry(path).registrations == {
        KEY.kid: Registration(
            "door-01", "hq", KEY.verification_key(BOARD_TYPS), "A" * 22, 10, 20, 1_764_000_000
        )
    }


def test_a_key_speaks_for_its_part_of_its_chain() -> None:
    key = KEY.verification_key(BOARD_TYPS)
    bound = Registration("door-01", "hq", key, "A" * 22, 10, 20, None)
    assert [seq for seq in (9, 10, 20, 21) if bound.speaks_for("A" * 22, seq)] == [10, 20]
    assert not bound.speaks_for("B" * 22, 15)
    free = Registration("door-01", "hq", key, None, None, None, None)
    assert free.speaks_for("B" * 22, 1)


def test_a_registry_without_boards_is_read(path: Path) -> None:
    path.write_text('{"keys": []}')
    assert load_registry(path).keys == {}


def test_an_older_file_without_a_version_is_read_and_counts_as_the_oldest(path: Path) -> None:
    path.write_text(json.dumps({"keys": [entry()]}))
    assert load_registry(path).version == 0
    path.write_text(json.dumps({"version": 12, "keys": [entry()]}))
    assert load_registry(path).version == 12


@pytest.mark.parametrize("version", [None, "12", -1, 1.0, True, 2**53, [1]])
def test_a_version_that_is_no_number_is_refused(path: Path, version: object) -> None:
    assert "version is no whole number" in refused(path, json.dumps({"version": version, "keys": []}))


def test_the_version_rises_with_every_change_of_the_fleet(fleet: Fleet) -> None:
    before = load_registry(fleet.write_devices()).version
    with fleet.change("revoke", "door-01", now_s=1) as change:
        change.revoke_device("door-01")
    assert load_registry(fleet.write_devices()).version > before > 0


def test_a_missing_registry_says_where_to_get_it(path: Path) -> None:
    with pytest.raises(KeyFileError, match=f"{path}: .* copy devices.jwks from the fleet"):
        load_registry(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"keys": null}',
        b'{"keys": {}}',
        b'{"keys": "x"}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=lambda content: content[:20].decode("latin-1"),
)
def test_a_damaged_registry_is_refused(path: Path, content: bytes) -> None:
    assert "not a registry of devices" in refused(path, content)


def test_a_registry_too_large_for_any_fleet_is_refused_before_it_is_parsed(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_REGISTRY_BYTES + 1)  # sparse
    with pytest.raises(KeyFileError, match=f"{path}: larger than {MAX_REGISTRY_BYTES} bytes"):
        load_registry(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"device": None}, "must be strings"),
        ({"device": 1}, "must be strings"),
        ({"site": None}, "must be strings"),
        ({"device": "central-1"}, "central-1"),
        ({"device": "+"}, "'+'"),
        ({"site": "HQ"}, "'HQ'"),
        ({"kid": "A" * 43}, "thumbprint"),
        ({"x": "AAAA"}, "bytes"),
        ({"kty": "RSA"}, "RSA"),
        ({"d": "AAAA"}, "private key"),
        ({"chain": 1}, "chain of door-01"),
        ({"chain": ""}, "chain of door-01"),
        ({"first_seq": "1"}, "first_seq of door-01"),
        ({"first_seq": 0}, "first_seq of door-01"),
        ({"last_seq": -4}, "last_seq of door-01"),
        ({"last_seq": 1.5}, "last_seq of door-01"),
        ({"revoked_at": True}, "revoked_at of door-01"),
        ({"revoked_at": "yesterday"}, "revoked_at of door-01"),
    ],
    ids=str,
)
def test_a_bad_entry_is_refused_by_its_number(path: Path, changes: dict[str, Any], told: str) -> None:
    message = refused_entries(path, entry(OTHER), entry(**changes))
    assert "key 2 of 2: " in message
    assert told in message


@pytest.mark.parametrize("member", MEMBERS)
def test_an_entry_lacks_nothing(path: Path, member: str) -> None:
    """Once, an entry that had lost its `revoked_at` was a key in use."""
    lacking = {name: value for name, value in entry().items() if name != member}
    assert f"key 1 of 1: {member} missing" in refused_entries(path, lacking)


@pytest.mark.parametrize("again", ['"revoked_at": null', '"device": "door-02"'])
def test_a_member_that_is_there_twice_is_refused(path: Path, again: str) -> None:
    """Once, the later one won, and lifted a revocation or gave the key to another board."""
    text = json.dumps({"keys": [entry(revoked_at=1_764_000_000)]})
    assert "named once" in refused(path, text.replace("}]}", f", {again}}}]}}"))


@pytest.mark.parametrize("bad", [None, 1, "x", [], {}])
def test_what_is_no_entry_is_refused_by_its_number(path: Path, bad: object) -> None:
    assert "key 2 of 2: " in refused_entries(path, entry(), bad)


@pytest.mark.parametrize("device", ["door-01", "door-02"])
def test_a_key_that_is_listed_twice_is_refused(path: Path, device: str) -> None:
    """Once, the last line won: whoever could append one took over another board's key, or lifted a revocation."""
    message = refused_entries(path, entry(revoked_at=1_764_000_000), entry(device=device))
    assert "is there already" in message
