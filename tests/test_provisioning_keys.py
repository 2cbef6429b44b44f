"""The fleet's private keys: encrypted, unlocked by one passphrase that never stands in an argument."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import InputError, KeyFileError
from provisioning.keys import (
    LOCK_FILE,
    MIN_PASSPHRASE,
    PASSPHRASE,
    PASSPHRASE_FILE,
    KeyStore,
    choose_passphrase,
    read_passphrase,
)

SECRET = "seven words that nobody will ever guess"
N = 2**10


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore.create(tmp_path / "keys", tmp_path / "offline", lambda: SECRET, scrypt_n=N)


def opened(tmp_path: Path, passphrase: str = SECRET) -> KeyStore:
    return KeyStore(tmp_path / "keys", tmp_path / "offline", lambda: passphrase)


def test_a_key_comes_back_under_the_same_passphrase(store: KeyStore, tmp_path: Path) -> None:
    private, sealing = ec.generate_private_key(ec.SECP256R1()), X25519PrivateKey.generate()
    store.save("gallery", private)
    store.save("root", private, offline=True)
    store.save("enrol", sealing)
    again = opened(tmp_path)
    assert again.elliptic("gallery").private_numbers() == private.private_numbers()
    assert again.signing_key("root", offline=True).private.public_key() == private.public_key()
    assert again.sealing_key("enrol").private_bytes_raw() == sealing.private_bytes_raw()
    assert not (tmp_path / "keys" / "root.pem").exists()


def test_another_passphrase_opens_nothing(store: KeyStore, tmp_path: Path) -> None:
    store.save("gallery", ec.generate_private_key(ec.SECP256R1()))
    wrapped = store.wrap(b"claim's secret", "claim:X")
    other = opened(tmp_path, SECRET + "!")
    with pytest.raises(KeyFileError, match=r"gallery\.pem: does not open; the passphrase is another"):
        other.elliptic("gallery")
    with pytest.raises(KeyFileError, match=r"gallery\.pem: does not open"):
        other.unwrap(wrapped, "claim:X")
    with pytest.raises(KeyFileError, match="claim:Y does not open"):
        opened(tmp_path).unwrap(wrapped, "claim:Y")


def test_nothing_is_encrypted_under_a_passphrase_that_opens_nothing(store: KeyStore, tmp_path: Path) -> None:
    """Regression: a slip of the finger made the fleet's next keys, or a backup, under a word that nobody knew."""
    store.save("gallery", ec.generate_private_key(ec.SECP256R1()))
    other = opened(tmp_path, SECRET + "!")
    with pytest.raises(KeyFileError, match=r"gallery\.pem: does not open; the passphrase is another"):
        other.save("next-gallery", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(KeyFileError, match="does not open"):
        other.wrap(b"claim's secret", "claim:X")
    assert not other.path("next-gallery").exists()


def test_one_damaged_key_is_not_taken_for_another_passphrase(store: KeyStore, tmp_path: Path) -> None:
    for name in ("command", "gallery"):
        store.save(name, ec.generate_private_key(ec.SECP256R1()))
    store.path("command").write_bytes(b"damaged")
    opened(tmp_path).elliptic("gallery")
    with pytest.raises(KeyFileError, match=r"command\.pem: does not open"):
        opened(tmp_path).elliptic("command")


def test_the_passphrase_is_asked_for_once_and_only_when_it_is_needed(tmp_path: Path) -> None:
    KeyStore.create(tmp_path / "keys", tmp_path / "offline", lambda: SECRET, scrypt_n=N).save(
        "gallery", ec.generate_private_key(ec.SECP256R1())
    )
    answers = iter([SECRET])
    store = KeyStore(tmp_path / "keys", tmp_path / "offline", lambda: next(answers))
    store.elliptic("gallery")
    store.elliptic("gallery")
    assert list(answers) == []


@given(st.binary(max_size=200), st.text(max_size=40))
def test_what_was_wrapped_is_unwrapped_for_its_own_purpose_only(plain: bytes, purpose: str) -> None:
    store = wrapping()
    wrapped = store.wrap(plain, purpose)
    assert store.unwrap(wrapped, purpose) == plain
    assert plain not in wrapped or len(plain) < 4
    with pytest.raises(KeyFileError):
        store.unwrap(wrapped, purpose + "x")


def wrapping(made: list[KeyStore] = []) -> KeyStore:  # noqa: B006 - one for all examples
    if not made:
        store = KeyStore(Path("/nonexistent"), Path("/nonexistent"), lambda: SECRET)
        store._secret = b"k" * 32
        made.append(store)
    return made[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"n": 1024}', b'{"n": "x", "salt": "AAAA"}', b'{"n": 1000, "salt": "AAAA"}'],
)
def test_a_damaged_lock_is_named(store: KeyStore, tmp_path: Path, content: bytes) -> None:
    store.save("gallery", ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "keys" / LOCK_FILE).write_bytes(content)
    with pytest.raises(KeyFileError, match=r"lock\.json: the fleet's salt cannot be read"):
        opened(tmp_path).elliptic("gallery")


def test_a_lock_that_would_eat_all_memory_is_refused(store: KeyStore, tmp_path: Path) -> None:
    store.save("gallery", ec.generate_private_key(ec.SECP256R1()))
    lock = json.loads((tmp_path / "keys" / LOCK_FILE).read_text())
    (tmp_path / "keys" / LOCK_FILE).write_text(json.dumps(lock | {"n": 2**40}))
    with pytest.raises(KeyFileError, match="salt cannot be read"):
        opened(tmp_path).elliptic("gallery")


def test_a_key_of_another_kind_is_refused(store: KeyStore) -> None:
    store.save("enrol", ec.generate_private_key(ec.SECP256R1()))
    store.save("gallery", X25519PrivateKey.generate())
    with pytest.raises(KeyFileError, match="not an X25519 key"):
        store.sealing_key("enrol")
    with pytest.raises(KeyFileError, match="not a P-256 key"):
        store.elliptic("gallery")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(store: KeyStore, mode: int) -> None:
    path = store.save("gallery", ec.generate_private_key(ec.SECP256R1()))
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o} is readable by others; run: chmod 600"):
        store.elliptic("gallery")


def passphrase_file(tmp_path: Path, content: bytes, mode: int = 0o600) -> dict[str, str]:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    path.chmod(mode)
    return {PASSPHRASE_FILE: str(path)}


def test_the_mark_that_some_editors_put_first_is_no_part_of_it(tmp_path: Path) -> None:
    assert read_passphrase(passphrase_file(tmp_path, b"\xef\xbb\xbf" + SECRET.encode())) == SECRET


@pytest.mark.parametrize("content", [b"", b"\n", b"\nthe second line\n"])
def test_a_file_without_a_first_line_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeyFileError, match="its first line is empty"):
        read_passphrase(passphrase_file(tmp_path, content))


@pytest.mark.parametrize("path", ["", ".", "/dev/null"])
def test_what_is_no_file_is_named_without_advice_that_would_harm(path: str) -> None:
    """Regression: `chmod 600 .` was what it advised."""
    with pytest.raises(KeyFileError, match=r"the passphrase cannot be read \(not a file\)"):
        read_passphrase({PASSPHRASE_FILE: path})


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nmore lines\n"])
def test_a_file_gives_its_first_line(tmp_path: Path, end: bytes) -> None:
    assert read_passphrase(passphrase_file(tmp_path, SECRET.encode() + end)) == SECRET


def test_the_file_goes_before_the_variable(tmp_path: Path) -> None:
    environment = passphrase_file(tmp_path, b"from the file") | {PASSPHRASE: "from the variable"}
    assert read_passphrase(environment) == "from the file"
    assert read_passphrase({PASSPHRASE: "from the variable"}) == "from the variable"


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="mode 0644 is readable by others"):
        read_passphrase(passphrase_file(tmp_path, SECRET.encode(), 0o644))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 5000])
def test_a_file_that_is_no_passphrase_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeyFileError, match="passphrase: the passphrase cannot be read"):
        read_passphrase(passphrase_file(tmp_path, content))
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_passphrase({PASSPHRASE_FILE: str(tmp_path / "nothing")})


class Terminal:
    """Somebody at a terminal who types these answers."""

    def __init__(self, patched: pytest.MonkeyPatch, *answers: str) -> None:
        given = iter(answers)
        patched.setattr("sys.stdin", self)
        patched.setattr("getpass.getpass", lambda prompt: next(given))

    def isatty(self) -> bool:
        return True


def test_it_is_asked_for_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    Terminal(monkeypatch, SECRET)
    assert read_passphrase({}) == SECRET


def test_a_new_one_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    Terminal(monkeypatch, SECRET, SECRET, SECRET, "something else")
    assert choose_passphrase({}) == SECRET
    with pytest.raises(InputError, match="the two passphrases differ"):
        choose_passphrase({})


def test_one_that_is_short_is_refused() -> None:
    with pytest.raises(InputError, match=f"7 characters; at least {MIN_PASSPHRASE} are needed"):
        choose_passphrase({PASSPHRASE: "seven77"})


def test_without_a_terminal_it_says_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(InputError, match=f"name a file of mode 0600 in {PASSPHRASE_FILE}"):
            read_passphrase({})
