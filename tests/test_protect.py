"""Where the key-encryption key comes from, and that what protects it is told as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.errors import KeyFileError
from edge.trust.protect import CREDENTIAL, FILE, load_key_encryption_key, make_key_encryption_key
from edge.trust.seal import Protection


class Creds:
    """The hardware line: `systemd-creds` of a machine that has these key holders."""

    def __init__(self, *holders: str, damages: bool = False) -> None:
        self.holders = holders
        self.damages = damages

    def __call__(self, command: tuple[str, ...], given: bytes) -> bytes | None:
        if "encrypt" in command:
            holder = next(word for word in command if word.startswith("--with-key=")).partition("=")[2]
            if holder not in self.holders:
                return None
            return b"sealed:" + (given[:-2] if self.damages else given)[::-1]
        return given.removeprefix(b"sealed:")[::-1] if given.startswith(b"sealed:") else None


def no_creds(command: tuple[str, ...], given: bytes) -> bytes | None:
    return None


@pytest.mark.parametrize(
    ("creds", "told"),
    [
        (Creds("tpm2", "host"), Protection.TPM2),
        (Creds("host"), Protection.HOST),
        (no_creds, Protection.FILE),
        (Creds("tpm2", "host", damages=True), Protection.FILE),
    ],
)
def test_the_best_holder_that_really_opens_again_is_taken_and_told(
    tmp_path: Path, creds: Creds, told: Protection
) -> None:
    state, store = tmp_path / "state", tmp_path / "store"
    assert make_key_encryption_key(state, store=store, run=creds) is told
    assert (state / FILE).exists() == (told is Protection.FILE)
    assert (store / CREDENTIAL).exists() == (told is not Protection.FILE)


@pytest.mark.parametrize("creds", [Creds("tpm2"), no_creds])
def test_a_key_is_made_once(tmp_path: Path, creds: Creds) -> None:
    state, store = tmp_path / "state", tmp_path / "store"
    first = make_key_encryption_key(state, store=store, run=creds)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert make_key_encryption_key(state, store=store, run=creds) is first
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_daemon_gets_the_key_from_its_service_manager(tmp_path: Path) -> None:
    """What systemd puts into the credentials folder is what was sealed, opened."""
    state, store, opened = tmp_path / "state", tmp_path / "store", tmp_path / "opened"
    creds = Creds("tpm2")
    make_key_encryption_key(state, store=store, run=creds)
    opened.mkdir()
    content = creds(("decrypt",), (store / CREDENTIAL).read_bytes())
    assert content is not None
    (opened / CREDENTIAL).write_bytes(content)
    kek = load_key_encryption_key(state, {"CREDENTIALS_DIRECTORY": str(opened)})
    assert kek is not None
    assert kek.protection is Protection.TPM2
    for environment in ({}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        with pytest.raises(KeyFileError, match="held by systemd; start hadir by its units"):
            load_key_encryption_key(state, environment)


def test_a_board_without_any_has_none(tmp_path: Path) -> None:
    assert load_key_encryption_key(tmp_path, {}) is None


def test_without_a_holder_it_is_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    make_key_encryption_key(tmp_path, store=tmp_path / "store", run=no_creds)
    path = tmp_path / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    kek = load_key_encryption_key(tmp_path, {})
    assert kek is not None
    assert kek.protection is Protection.FILE
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="readable by others"):
        load_key_encryption_key(tmp_path, {})


def test_a_credential_of_another_machine_says_so(tmp_path: Path) -> None:
    make_key_encryption_key(tmp_path, store=tmp_path, run=Creds("tpm2"))
    with pytest.raises(KeyFileError, match="does not open on this machine"):
        make_key_encryption_key(tmp_path, store=tmp_path, run=no_creds)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 5000,
        json.dumps({"kek": "AAAA", "protection": "file"}).encode(),
        json.dumps({"kek": "A" * 43, "protection": "magic"}).encode(),
        json.dumps({"kek": 7, "protection": "file"}).encode(),
    ],
)
def test_what_is_no_key_is_refused_with_the_files_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="key-encryption key") as refused:
        load_key_encryption_key(tmp_path, {})
    assert str(path) in str(refused.value) or "has 3 bytes" in str(refused.value)


def test_where_nothing_can_be_written_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    with pytest.raises(KeyFileError, match="cannot be written"):
        make_key_encryption_key(tmp_path / "state", store=tmp_path / "store", run=no_creds)
