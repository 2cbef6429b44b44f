"""Who a board is: ids that can be used, and private keys that only their owner can read."""

from __future__ import annotations

import os
import stat
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from edge.errors import InputError, KeyFileError
from edge.trust.identity import (
    DeviceIdentity,
    check_device_id,
    load_sealing_key,
    load_signing_key,
    write_private_key,
    write_signing_key,
)
from edge.trust.jws import SigningKey
from edge.trust.seal import KeyEncryptionKey, Protection

PEM, PKCS8, PLAIN = (
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device.pem"


def private_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_a_written_key_is_read_again(path: Path) -> None:
    for private in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
        key = SigningKey.of(private)
        write_signing_key(path, key)
        again = load_signing_key(path)
        assert (again.kid, again.algorithm) == (key.kid, key.algorithm)
        path.unlink()


def test_a_written_key_is_for_its_owner_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        write_signing_key(path, SigningKey.generate())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(path: Path) -> None:
    write_signing_key(path, SigningKey.generate())
    content = path.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        write_signing_key(path, SigningKey.generate())
    assert path.read_bytes() == content


def test_a_key_is_not_written_through_a_link(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(KeyFileError, match="never overwritten"):
        write_signing_key(path, SigningKey.generate())
    assert not (tmp_path / "elsewhere.pem").exists()


def test_a_key_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "device.pem"
    with pytest.raises(KeyFileError, match=f"{path}: the private key cannot be written"):
        write_signing_key(path, SigningKey.generate())


def test_half_a_key_is_not_left_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(KeyFileError, match="No space left"):
        write_signing_key(path, SigningKey.generate())
    assert not path.exists(), "it would stand in the way of the next attempt"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_key_that_others_may_touch_is_refused_by_its_mode(path: Path, mode: int) -> None:
    """By the bits and not by trying to read: root could always read."""
    write_signing_key(path, SigningKey.generate())
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode 0{mode:o} is readable by others; run: chmod 600 {path}"):
        load_signing_key(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_for_its_owner_alone_is_accepted(path: Path, mode: int) -> None:
    write_signing_key(path, SigningKey.generate())
    path.chmod(mode)
    assert load_signing_key(path).algorithm == "ES256"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(path: Path) -> None:
    write_signing_key(path, SigningKey.generate())
    os.chown(path, 12345, -1)
    with pytest.raises(KeyFileError, match="belongs to user 12345"):
        load_signing_key(path)


def test_a_missing_key_is_named(path: Path) -> None:
    with pytest.raises(KeyFileError, match=f"{path}: the private key cannot be read"):
        load_signing_key(path)


def test_a_folder_is_no_key(path: Path) -> None:
    path.mkdir(0o700)
    with pytest.raises(KeyFileError, match="cannot be read"):
        load_signing_key(path)


ENCRYPTED = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")
)
GOOD = ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, PLAIN)


KEK = KeyEncryptionKey(b"k" * 32, Protection.FILE)
OTHER_KEK = KeyEncryptionKey(b"o" * 32, Protection.FILE)


def test_a_key_encrypted_under_the_boards_own_key_opens_with_it_and_with_nothing_else(tmp_path: Path) -> None:
    path, key = tmp_path / "device.pem", SigningKey.generate()
    write_signing_key(path, key, KEK)
    assert load_signing_key(path, KEK).kid == key.kid
    with pytest.raises(KeyFileError, match="damaged or was made on another board"):
        load_signing_key(path, OTHER_KEK)
    with pytest.raises(KeyFileError, match="key-encryption key, which is missing"):
        load_signing_key(path)


def test_a_plain_key_is_taken_beside_a_key_encryption_key(tmp_path: Path) -> None:
    path, key = tmp_path / "device.pem", SigningKey.generate()
    write_signing_key(path, key)
    assert load_signing_key(path, KEK).kid == key.kid


def test_an_encrypted_key_file_holds_no_byte_of_the_key_and_a_foreign_one_is_refused(tmp_path: Path) -> None:
    path, key = tmp_path / "device.pem", SigningKey.generate()
    write_signing_key(path, key, KEK)
    assert isinstance(key.private, ec.EllipticCurvePrivateKey)
    secret = key.private.private_numbers().private_value.to_bytes(32, "big")
    written = b64decode(b"".join(path.read_bytes().splitlines()[1:-1]))
    assert secret not in written
    plain = path.with_name("plain.pem")
    write_signing_key(plain, key)
    assert secret in b64decode(b"".join(plain.read_bytes().splitlines()[1:-1]))
    path.write_bytes(ENCRYPTED)
    with pytest.raises(KeyFileError, match="made on another board"):
        load_signing_key(path, KEK)


def test_a_sealing_key_is_kept_alike_and_not_mistaken_for_a_signing_key(tmp_path: Path) -> None:
    sealing, signing = tmp_path / "sealing.pem", tmp_path / "device.pem"
    private = x25519.X25519PrivateKey.generate()
    write_private_key(sealing, private, KEK)
    write_signing_key(signing, SigningKey.generate(), KEK)
    assert load_sealing_key(sealing, KEK).private_bytes_raw() == private.private_bytes_raw()
    for load, path in ((load_sealing_key, signing), (load_signing_key, sealing)):
        with pytest.raises(KeyFileError, match="not an unencrypted"):
            load(path, KEK)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff" * 100,
        GOOD[: len(GOOD) // 2],
        GOOD.replace(b"PRIVATE", b"PUBLIC"),
        rsa.generate_private_key(65537, 2048).private_bytes(PEM, PKCS8, PLAIN),
        ec.generate_private_key(ec.SECP384R1()).private_bytes(PEM, PKCS8, PLAIN),
        x25519.X25519PrivateKey.generate().private_bytes(PEM, PKCS8, PLAIN),
        # A curve that the library knows by number only: it raises an exception of its own kind.
        b"-----BEGIN PRIVATE KEY-----\n"
        b"MD4CAQAwEAYHKoZIzj0CAQYFK4EEAAEEJzAlAgEBBCABAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ==\n"
        b"-----END PRIVATE KEY-----\n",
    ],
    ids=["empty", "noise", "cut", "public", "rsa", "p384", "x25519", "unknown-curve"],
)
def test_what_is_no_plain_p256_or_ed25519_key_is_refused(path: Path, content: bytes) -> None:
    with pytest.raises(KeyFileError, match=f"{path}: not an unencrypted P-256 or Ed25519 private key"):
        load_signing_key(private_file(path, content))


@pytest.mark.parametrize("device", ["door-01", "0", "a" * 32, "claim-1", "provisional", "my-central"])
def test_ids_that_can_be_used(device: str) -> None:
    assert check_device_id(device) == device


@pytest.mark.parametrize(
    "device",
    [
        "",
        "-door",
        "Door-01",
        "door_01",
        "door 01",
        "a" * 33,
        "türe",
        "door-01\n",
        "door/01",
        "+",
        "#",
        "..",
        "claim",
        "provision",
        "central",
        "central-1",
        "centralised",
    ],
)
def test_ids_that_are_reserved_or_malformed(device: str) -> None:
    with pytest.raises(InputError, match="must match"):
        check_device_id(device)


def test_a_board_speaks_as_itself_to_its_site() -> None:
    identity = DeviceIdentity("door-01", "hq", SigningKey.generate())
    assert identity.issuer == "urn:hadir:device:door-01"
    assert identity.audience == "urn:hadir:site:hq"
