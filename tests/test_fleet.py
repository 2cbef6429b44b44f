"""A fleet's folder: made whole or not at all, private to its owner, and read back."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from edge.errors import InputError, KeyFileError
from edge.trust.fleetkeys import USES, load_keys_document
from edge.trust.identity import load_signing_key
from edge.trust.jws import SigningKey
from provisioning import keys as provisioning_keys
from provisioning.keys import DEVICES_FILE, FLEET_FILE, KEYS_FILE, Fleet, init_fleet, open_fleet

DEVICES = ["door-02", "door-01", "door-03"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site" / "fleet"


@pytest.fixture
def made(folder: Path) -> Fleet:
    return init_fleet(folder, site="hq", devices=DEVICES)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_has_a_key_of_each_use_that_the_document_lists(made: Fleet) -> None:
    assert set(made.folder.joinpath("keys").iterdir()) == {
        made.folder / "keys" / f"{use}.pem" for use in USES
    }
    kids = {use: made.signing_key(use).kid for use in USES}
    assert kids["root"] == made.root_thumbprint
    assert len(set(kids.values())) == len(USES)
    for use, typs in USES.items():
        for typ in typs:
            assert list(made.keys.verification_keys(typ)) == [kids[use]]


def test_each_board_has_a_key_of_its_own_and_the_fleets_document(made: Fleet) -> None:
    assert [board.name for board in made.boards()] == sorted(DEVICES)
    kids = {load_signing_key(board / "device.pem").kid for board in made.boards()}
    assert len(kids) == len(DEVICES)
    for board in made.boards():
        assert load_keys_document(board / KEYS_FILE, made.root_thumbprint) == made.keys


def test_the_registry_holds_no_private_member(made: Fleet) -> None:
    entries = json.loads((made.folder / DEVICES_FILE).read_text())["keys"]
    assert [(entry["device"], entry["site"]) for entry in entries] == [(device, "hq") for device in DEVICES]
    for entry in entries:
        assert set(entry) == {
            *("kty", "crv", "x", "y", "kid"),
            *("device", "site", "chain", "first_seq", "last_seq", "revoked_at"),
        }


def test_folders_and_keys_are_private_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        init_fleet(folder, site="hq", devices=DEVICES)
    finally:
        os.umask(before)
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    assert len(folders) == 3 + len(DEVICES)
    assert {mode(path) for path in folders} == {0o700}
    pems = list(folder.rglob("*.pem"))
    assert len(pems) == len(USES) + len(DEVICES)
    assert {mode(path) for path in pems} == {0o600}


def test_it_is_opened_again_as_it_was_made(made: Fleet) -> None:
    again = open_fleet(made.folder)
    assert again == made
    assert (again.site, again.audience) == ("hq", "urn:hadir:site:hq")
    assert again.issuer == f"urn:hadir:fleet:{made.root_thumbprint}"


@pytest.mark.parametrize("kind", ["folder", "file", "fleet"])
def test_what_exists_is_never_overwritten(folder: Path, kind: str) -> None:
    folder.parent.mkdir()
    if kind == "fleet":
        init_fleet(folder, site="hq", devices=["door-01"])
    elif kind == "folder":
        folder.mkdir()
    else:
        folder.write_text("mine")
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match="never overwritten"):
        init_fleet(folder, site="hq", devices=DEVICES)
    assert sorted(folder.rglob("*")) == before
    assert list(folder.parent.iterdir()) == [folder]


def test_nothing_is_left_after_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up while the last board's key is written; the next attempt must find a clean place."""
    written: list[Path] = []

    def write_until_full(path: Path, key: SigningKey) -> None:
        if len(written) == len(USES) + len(DEVICES) - 1:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.touch()

    with monkeypatch.context() as patched:
        patched.setattr(provisioning_keys, "write_signing_key", write_until_full)
        with pytest.raises(InputError, match=f"{folder}: cannot be made .No space left"):
            init_fleet(folder, site="hq", devices=DEVICES)
    assert list(folder.parent.iterdir()) == []
    assert init_fleet(folder, site="hq", devices=DEVICES).boards()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        init_fleet(tmp_path / "file" / "fleet", site="hq", devices=["door-01"])


@pytest.mark.parametrize("devices", [[], ["door-01", "door-01"], ["central-1"], ["../door"], ["door-01", ""]])
def test_devices_that_cannot_be_are_refused_before_anything_is_made(folder: Path, devices: list[str]) -> None:
    with pytest.raises(InputError, match="device"):
        init_fleet(folder, site="hq", devices=devices)
    assert not folder.parent.exists()


@pytest.mark.parametrize("site", ["", "HQ", "../hq", "h q", "s" * 33])
def test_a_site_that_cannot_be_is_refused(folder: Path, site: str) -> None:
    with pytest.raises(InputError, match="must match"):
        init_fleet(folder, site=site, devices=["door-01"])
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    "description",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"site": "hq"}',
        '{"site": null, "root_thumbprint": "x"}',
        '{"site": "../hq", "root_thumbprint": "x"}',
        '{"site": "hq", "root_thumbprint": null}',
        "[" * 100_000,
        "\x00",
    ],
    ids=lambda text: text[:40],
)
def test_a_damaged_description_is_said_to_be_no_fleet(made: Fleet, description: str) -> None:
    (made.folder / FLEET_FILE).write_text(description)
    with pytest.raises(KeyFileError, match="not a fleet's folder"):
        open_fleet(made.folder)


def test_a_folder_that_is_no_fleet_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="hadir-provision init"):
        open_fleet(tmp_path / "nowhere")


def test_a_keys_document_of_another_fleet_is_refused(made: Fleet, tmp_path: Path) -> None:
    other = init_fleet(tmp_path / "other", site="hq", devices=["door-01"])
    (made.folder / KEYS_FILE).write_bytes((other.folder / KEYS_FILE).read_bytes())
    with pytest.raises(KeyFileError, match=made.root_thumbprint):
        open_fleet(made.folder)


def test_a_lost_key_or_folder_of_boards_is_named(made: Fleet) -> None:
    (made.folder / "keys" / "gallery.pem").unlink()
    with pytest.raises(KeyFileError, match=r"keys/gallery\.pem: the private key cannot be read"):
        made.signing_key("gallery")
    (made.folder / "boards").rename(made.folder / "elsewhere")
    with pytest.raises(KeyFileError, match="boards: the boards' folders cannot be listed"):
        made.boards()
