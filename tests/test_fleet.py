"""A fleet's folder: made whole or not at all, private to its owner, and read back."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from demo.boards import PASSPHRASE, QUICK_SCRYPT_N, add_board, make_fleet
from edge.errors import InputError, KeyFileError
from edge.records import Direction
from edge.trust.fleetkeys import ENROL, USES, load_keys_document
from edge.trust.identity import load_signing_key
from edge.trust.jws import SigningKey
from provisioning import fleet as provisioning_fleet
from provisioning.authority import CRL_LIFETIME, pem
from provisioning.fleet import DEVICES_FILE, FLEET_FILE, KEYS_FILE, Fleet, init_fleet, open_fleet
from tests.conftest import unprivileged

DEVICES = ["door-02", "door-01", "door-03"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site" / "fleet"


@pytest.fixture
def made(folder: Path) -> Fleet:
    return make_fleet(folder, devices=DEVICES)


def make(folder: Path, site: str = "hq") -> Fleet:
    return init_fleet(folder, site=site, ask=lambda: PASSPHRASE, scrypt_n=QUICK_SCRYPT_N)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_has_a_key_of_each_use_that_the_document_lists(made: Fleet) -> None:
    signing = [use for use in USES if use != ENROL]
    kids = {use: made.signing_key(use).kid for use in signing}
    assert kids["root"] == made.root_thumbprint
    assert len(set(kids.values())) == len(signing)
    for use in signing:
        for typ in USES[use]:
            assert list(made.keys.verification_keys(typ)) == [kids[use]]
    (enrol,) = made.keys.sealing.values()
    assert made.store.sealing_key(ENROL).public_key() == enrol


def test_the_document_carries_the_authoritys_root_alone(made: Fleet) -> None:
    (authority,) = made.keys.authorities
    assert authority == (made.folder / "ca" / "root.crt").read_text()


def test_each_board_has_a_key_of_its_own_and_the_fleets_document(made: Fleet) -> None:
    assert [board.name for board in made.boards()] == sorted(DEVICES)
    kids = {load_signing_key(board / "device.pem").kid for board in made.boards()}
    assert len(kids) == len(DEVICES)
    for board in made.boards():
        assert load_keys_document(board / KEYS_FILE, made.root_thumbprint) == made.keys


def test_the_registry_for_the_server_holds_no_private_member(made: Fleet) -> None:
    entries = json.loads((made.folder / DEVICES_FILE).read_text())["keys"]
    assert [(entry["device"], entry["site"]) for entry in entries] == [
        (device, "hq") for device in sorted(DEVICES)
    ]
    for entry in entries:
        assert set(entry) == {
            *("kty", "crv", "x", "y", "kid"),
            *("device", "site", "chain", "first_seq", "last_seq", "revoked_at"),
        }


def test_folders_and_secrets_are_private_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        make_fleet(folder, devices=DEVICES)
    finally:
        os.umask(before)
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    assert {mode(path) for path in folders} == {0o700}
    secrets = [*folder.rglob("*.pem"), folder / "registry.db"]
    secrets.remove(folder / "ca" / "crl.pem")
    assert len(secrets) > len(USES) + len(DEVICES)
    assert {mode(path) for path in secrets} == {0o600}


def test_every_private_key_of_the_fleet_is_encrypted(made: Fleet) -> None:
    for name in ("keys", "offline"):
        for path in (made.folder / name).glob("*.pem"):
            assert path.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----"), path


def test_the_offline_folder_may_be_carried_away_and_named_from_elsewhere(made: Fleet, tmp_path: Path) -> None:
    (made.folder / "offline").rename(tmp_path / "stick")
    without = open_fleet(made.folder, ask=lambda: PASSPHRASE)
    assert without.signing_key("gallery").kid
    with pytest.raises(KeyFileError, match=r"offline/root\.pem: is not there; it is kept offline: bring it"):
        without.signing_key("root")
    brought = open_fleet(made.folder, ask=lambda: PASSPHRASE, offline=tmp_path / "stick")
    assert brought.signing_key("root").kid == made.root_thumbprint


def test_there_is_a_revocation_list_from_the_start_valid_for_a_year(made: Fleet) -> None:
    crl = x509.load_pem_x509_crl((made.folder / "ca" / "crl.pem").read_bytes())
    assert len(list(crl)) == 0
    assert crl.next_update_utc is not None
    assert crl.next_update_utc - crl.last_update_utc > CRL_LIFETIME
    key = made.certificate("issuing").public_key()
    assert crl.is_signature_valid(key)  # type: ignore[arg-type]


def test_it_is_opened_again_as_it_was_made(made: Fleet) -> None:
    again = open_fleet(made.folder, ask=lambda: PASSPHRASE)
    assert (again.site, again.audience) == ("hq", "urn:hadir:site:hq")
    assert again.issuer == f"urn:hadir:fleet:{made.root_thumbprint}"
    assert again.keys == made.keys
    assert again.registry.devices() == made.registry.devices()


@pytest.mark.parametrize("kind", ["folder", "file", "fleet"])
def test_what_exists_is_never_overwritten(folder: Path, kind: str) -> None:
    folder.parent.mkdir()
    if kind == "fleet":
        make(folder)
    elif kind == "folder":
        folder.mkdir()
    else:
        folder.write_text("mine")
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match="never overwritten"):
        make(folder)
    assert sorted(folder.rglob("*")) == before
    assert list(folder.parent.iterdir()) == [folder]


def test_nothing_is_left_after_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up while the registry is made; the next attempt must find a clean place."""

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(provisioning_fleet, "create_registry", full)
        with pytest.raises(InputError, match=f"{folder}: cannot be made .No space left"):
            make(folder)
    assert list(folder.parent.iterdir()) == []
    assert make(folder).keys.version == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        make(tmp_path / "file" / "fleet")


@pytest.mark.parametrize("device", ["", "central-1", "provision", "claim", "../door", "Door", "d" * 33])
def test_a_device_that_cannot_be_is_refused_and_nothing_remains_of_it(made: Fleet, device: str) -> None:
    before = [entry.n for entry in made.registry.audit()]
    with pytest.raises(InputError, match="device"):
        add_board(made, device)
    assert len(made.registry.devices()) == len(DEVICES)
    assert [entry.n for entry in made.registry.audit()] == before


@pytest.mark.parametrize("site", ["", "HQ", "../hq", "h q", "s" * 33])
def test_a_site_that_cannot_be_is_refused(folder: Path, site: str) -> None:
    with pytest.raises(InputError, match="must match"):
        make(folder, site=site)
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
        "[" * 60_000,
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
    other = make(tmp_path / "other")
    (made.folder / KEYS_FILE).write_bytes((other.folder / KEYS_FILE).read_bytes())
    with pytest.raises(KeyFileError, match=made.root_thumbprint):
        open_fleet(made.folder)


def test_a_lost_key_is_named(made: Fleet) -> None:
    (made.folder / "keys" / "gallery.pem").unlink()
    with pytest.raises(KeyFileError, match=r"keys/gallery\.pem: is not there; restore it from a backup"):
        made.signing_key("gallery")


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        (".", 0o770, "0750"),
        ("keys", 0o750, "0700"),
        ("offline", 0o701, "0700"),
        ("registry.db", 0o640, "0600"),
        ("boards", 0o777, "0755"),
        ("ca", 0o720, "0700"),
    ],
)
def test_a_place_that_lets_others_in_is_refused_and_says_what_it_should_be(
    made: Fleet, name: str, wrong: int, right: str
) -> None:
    (made.folder / name).chmod(wrong)
    with pytest.raises(KeyFileError, match=f"mode {wrong:04o} lets others in; run: chmod {right} "):
        open_fleet(made.folder)


def test_a_fleet_in_a_folder_that_everybody_may_write_into_is_refused(made: Fleet, tmp_path: Path) -> None:
    """Regression: whoever put a fleet of their own in its place was told the passphrase."""
    around = made.folder.parent
    mode = around.stat().st_mode
    try:
        around.chmod(0o777)
        with pytest.raises(
            KeyFileError, match=f"{around}: mode 0777 lets everybody .* run: chmod o-w {around}"
        ):
            open_fleet(made.folder)
        with pytest.raises(KeyFileError, match="mode 0777"):
            init_fleet(around / "another", ask=lambda: PASSPHRASE)
        assert not (around / "another").exists()
        around.chmod(0o1777)
        open_fleet(made.folder).registry.close()
    finally:
        around.chmod(mode)


def test_a_fleet_that_belongs_to_somebody_else_is_refused(made: Fleet) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    for path in (made.folder, *made.folder.rglob("*")):
        os.chown(path, 12345, 12345)
    made.folder.chmod(0o755)
    for path in (made.folder.parents[0], made.folder.parents[1]):
        path.chmod(0o755)
    with pytest.raises(KeyFileError, match=f"{made.folder}: belongs to user 12345; it must belong to you"):
        open_fleet(made.folder)
    with unprivileged(), pytest.raises(KeyFileError):
        open_fleet(made.folder)


def test_boards_of_another_site_are_registered_there(made: Fleet) -> None:
    assert {device.site for device in made.registry.devices()} == {"hq"}


def test_until_a_change_of_the_authority_is_over_both_have_a_revocation_list(made: Fleet) -> None:
    """The broker refuses every certificate of an authority whose list it does not have."""
    old, new = made.authority(), make(made.folder.parent / "next").authority()
    made.store.save("old-ca", old.key)
    made.store.save("ca", new.key)
    for name, certificate in (("root", old.root), ("issuing", old.certificate)):
        (made.folder / "ca" / f"old-{name}.crt").write_text(pem(certificate))
    (made.folder / "ca" / "root.crt").write_text(pem(new.root))
    (made.folder / "ca" / "issuing.crt").write_text(pem(new.certificate))
    content = made.write_revocation_list(1_764_000_000).read_bytes()
    lists = [
        x509.load_pem_x509_crl(part + b"-----END X509 CRL-----\n")
        for part in content.split(b"-----END X509 CRL-----\n")[:-1]
    ]
    assert len(lists) == 2
    assert lists[0].is_signature_valid(new.key.public_key())
    assert lists[1].is_signature_valid(old.key.public_key())


def test_a_key_that_is_not_its_certificates_issues_nothing(made: Fleet) -> None:
    made.store.save("ca", make(made.folder.parent / "next").authority().key)
    with pytest.raises(
        KeyFileError, match=r"issuing\.crt is not for the key ca\.pem: .* rotate-fleet` again"
    ):
        made.authority()


def test_files_are_made_by_one_command_at_a_time_and_the_last_has_read_the_newest(made: Fleet) -> None:
    """Desk and administrator at once: each writes what the registry holds while it alone writes."""
    inside, left = threading.Event(), threading.Event()

    def wait_outside() -> None:
        other = open_fleet(made.folder, ask=lambda: PASSPHRASE)
        inside.wait(10)
        other.write_devices()
        left.set()
        other.registry.close()

    thread = threading.Thread(target=wait_outside)
    thread.start()
    with made.writing():
        inside.set()
        assert not left.wait(0.2), "nobody writes meanwhile"
        with made.change("device-add", "door-09", now_s=1) as change:
            change.add_device("door-09", "hq", Direction.IN)
            key = SigningKey.generate()
            change.add_key(key.kid, "door-09", key.public_jwk)
    thread.join()
    assert "door-09" in (made.folder / DEVICES_FILE).read_text()
