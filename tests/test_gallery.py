"""The gallery file: what was enrolled comes back, and nothing else is ever believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import GalleryError
from edge.recognition import gallery as gallery_module
from edge.recognition.gallery import GALLERY_TYP, Gallery, encode_gallery, make_gallery, read_gallery
from edge.recognition.thresholds import Thresholds
from edge.records import Vector
from edge.trust.jws import SigningKey, VerificationKey

EMBEDDER = "e" * 64
AUDIENCE = "urn:hadir:site:hq"


def random_templates(count: int, dimensions: int = 16, seed: int = 1) -> dict[str, Vector]:
    rows = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {f"E{number}": row for number, row in enumerate(rows)}


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture(scope="module")
def keys(key: SigningKey) -> dict[str, VerificationKey]:
    return {key.kid: key.verification_key(frozenset({GALLERY_TYP}))}


def encoded(key: SigningKey, gallery: Gallery | None = None, audience: str = AUDIENCE) -> bytes:
    gallery = gallery or make_gallery(3, EMBEDDER, 16, random_templates(20))
    return encode_gallery(gallery, key, issuer="urn:hadir:fleet:hq", audience=audience, now_s=1_764_000_000)


def read(path: Path, content: bytes, keys: dict[str, VerificationKey]) -> Gallery:
    path.write_bytes(content)
    return read_gallery(path, keys, audience=AUDIENCE, embedder=EMBEDDER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.hadir"


def test_what_was_enrolled_comes_back(path: Path, key: SigningKey, keys: dict[str, VerificationKey]) -> None:
    templates = random_templates(20)
    gallery = read(path, encoded(key), keys)
    assert (gallery.version, gallery.embedder, len(gallery.people)) == (3, EMBEDDER, 20)
    for person, vector in gallery.templates().items():
        assert float(vector @ templates[person]) > 1 - 5e-4, "float16 costs at most 5e-4 of cosine"
        assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-6)


def test_reading_and_writing_again_changes_no_byte(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey]
) -> None:
    """Canonical: the plaintext's hash is what boards and server compare."""
    first = read(path, encoded(key), keys)
    again = read(path, encoded(key, first), keys)
    assert again.people == first.people
    np.testing.assert_array_equal(again.matrix, first.matrix)


TABLE = Thresholds(0.003, (10, 100), (0.45, 0.51), "hadir-provision calibrate")


def test_what_was_calibrated_comes_back(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey]
) -> None:
    people = random_templates(20)
    calibrated = make_gallery(3, EMBEDDER, 16, people, TABLE, {"E3": 0.6125, "nobody": 0.9})
    gallery = read(path, encoded(key, calibrated), keys)
    assert gallery.thresholds == TABLE
    assert gallery.raised == {"E3": 0.6125}
    assert (gallery.needed("E3", 0.5), gallery.needed("E3", 0.7), gallery.needed("E4", 0.5)) == (
        0.6125,
        0.7,
        0.5,
    )


def test_a_gallery_that_was_not_calibrated_has_no_thresholds(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey]
) -> None:
    gallery = read(path, encoded(key), keys)
    assert (gallery.thresholds, gallery.raised) == (None, {})


@pytest.mark.parametrize(
    "wrong",
    [
        Thresholds(0.0, (10,), (0.5,), ""),
        Thresholds(0.003, (), (), ""),
        Thresholds(0.003, (10, 10), (0.5, 0.6), ""),
        Thresholds(0.003, (10, 100), (0.6, 0.5), ""),
        Thresholds(0.003, (10, 100), (0.6,), ""),
        Thresholds(0.003, (0,), (0.5,), ""),
        Thresholds(0.003, (10,), (1.5,), ""),
        Thresholds(0.003, ("10",), (0.5,), ""),  # type: ignore[arg-type]
    ],
)
def test_thresholds_that_are_none_are_refused_though_they_are_signed(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey], wrong: Thresholds
) -> None:
    with pytest.raises(GalleryError, match="its thresholds are not"):
        read(path, encoded(key, make_gallery(3, EMBEDDER, 16, random_templates(2), wrong)), keys)


def test_an_empty_gallery_can_be_written_and_read(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey]
) -> None:
    assert read(path, encoded(key, make_gallery(1, EMBEDDER, 16, {})), keys).people == ()


def test_a_missing_gallery_says_how_to_make_one(tmp_path: Path, keys: dict[str, VerificationKey]) -> None:
    with pytest.raises(GalleryError, match="hadir-provision enrol"):
        read_gallery(tmp_path / "gallery.hadir", keys, audience=AUDIENCE, embedder=EMBEDDER)


def test_a_gallery_that_another_key_signed_is_refused(path: Path, keys: dict[str, VerificationKey]) -> None:
    with pytest.raises(GalleryError, match="unknown-key") as refusal:
        read(path, encoded(SigningKey.generate()), keys)
    assert str(path) in str(refusal.value)


def test_a_key_with_another_use_cannot_sign_a_gallery(path: Path, key: SigningKey) -> None:
    for_commands = {key.kid: key.verification_key(frozenset({"hadir-command+jwt"}))}
    with pytest.raises(GalleryError, match="wrong-use"):
        read(path, encoded(key), for_commands)


def test_a_gallery_of_another_site_or_embedder_is_refused(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey]
) -> None:
    with pytest.raises(GalleryError, match="made for 'urn:hadir:site:other'"):
        read(path, encoded(key, audience="urn:hadir:site:other"), keys)
    other = make_gallery(1, "f" * 64, 16, random_templates(2))
    with pytest.raises(
        GalleryError, match="made by embedder ffffffffffffffff, this board runs eeeeeeeeeeeeeeee"
    ):
        read(path, encoded(key, other), keys)


def test_one_flipped_bit_anywhere_is_noticed(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey]
) -> None:
    content = encoded(key, make_gallery(1, EMBEDDER, 16, random_templates(3)))
    for position in range(len(content)):
        broken = bytearray(content)
        broken[position] ^= 0x10
        with pytest.raises(GalleryError):
            read(path, bytes(broken), keys)


def test_a_file_that_is_cut_off_or_lengthened_is_refused(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey]
) -> None:
    content = encoded(key)
    for broken in (b"", content[:6], content[:10], content[:40], content[:-1], content + b"\0"):
        with pytest.raises(GalleryError):
            read(path, broken, keys)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_and_never_crash(
    path: Path, keys: dict[str, VerificationKey], tail: bytes
) -> None:
    with pytest.raises(GalleryError):
        read(path, b"HADIRG1\n" + tail, keys)


@pytest.mark.parametrize("version", [0, -1, True, "3", 1.5])
def test_a_signed_head_with_a_nonsensical_version_is_refused(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey], version: object
) -> None:
    gallery = make_gallery(version, EMBEDDER, 16, random_templates(1))  # type: ignore[arg-type]
    with pytest.raises(GalleryError, match="not a positive whole number"):
        read(path, encoded(key, gallery), keys)


def test_a_signed_gallery_with_vectors_that_are_no_unit_vectors_is_refused(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey]
) -> None:
    """The signature says who made it, not that it makes sense."""
    for bad in (0.0, float("nan")):
        broken = Gallery(1, EMBEDDER, ("E1",), np.full((1, 16), bad, np.float32))
        with pytest.raises(GalleryError, match="not a unit vector"):
            read(path, encoded(key, broken), keys)


@pytest.mark.parametrize("people", [("E2", "E1"), ("E1", "E1"), ("E1", "../x"), ("E1", "")])
def test_a_signed_gallery_with_unsorted_double_or_odd_ids_is_refused(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey], people: tuple[str, ...]
) -> None:
    matrix = np.stack(list(random_templates(2).values()))
    with pytest.raises(GalleryError, match="damaged"):
        read(path, encoded(key, Gallery(1, EMBEDDER, people, matrix)), keys)


def test_a_file_too_large_for_any_gallery_is_refused(
    path: Path, key: SigningKey, keys: dict[str, VerificationKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(key)
    monkeypatch.setattr(gallery_module, "MAX_GALLERY_BYTES", len(content))
    assert read(path, content, keys).version == 3
    monkeypatch.setattr(gallery_module, "MAX_GALLERY_BYTES", len(content) - 1)
    with pytest.raises(GalleryError, match=f"{path}: larger than {len(content) - 1} bytes"):
        read(path, content, keys)


@pytest.mark.parametrize(
    ("index", "rows", "told"),
    [
        (b"no json", b"", "its index cannot be read"),
        (b"[]", b"", "its index cannot be read"),
        (b'{"people": ["E1"]}', b"", "its index cannot be read"),
        (b'{"people": 1, "dimensions": 2}', b"", "its index cannot be read"),
        (b'{"people": ["E1"], "dimensions": 0}', b"", "dimensions 0 are not a whole number from 1"),
        (b'{"people": ["E1"], "dimensions": true}', b"", "dimensions True are not a whole number from 1"),
        (b'{"people": ["E1"], "dimensions": 1000000}', b"", "dimensions 1000000 are not"),
        (b'{"people": ["E1"], "dimensions": 2}', b"\0" * 5, "5 bytes of templates for 1 people"),
        (b'{"people": ["E1"], "dimensions": 2, "raised": {"E1": 1.5}}', b"", "no similarity"),
        (b'{"people": ["E1"], "dimensions": 2, "raised": {"E1": "0.5"}}', b"", "no similarity"),
        (b'{"people": ["E1"], "dimensions": 2, "raised": {"E1": true}}', b"", "no similarity"),
        (b'{"people": ["E1"], "dimensions": 2, "raised": {"E9": 0.5}}', b"", "nobody who is enrolled"),
        (b'{"people": ["E1"], "dimensions": 2, "raised": [1]}', b"", "its index cannot be read"),
        (b'{"people": ["E1"], "dimensions": 2, "raised": 3}', b"", "its index cannot be read"),
        (b'{"people": ["E1"], "dimensions": 2}', b"", "0 bytes of templates for 1 people"),
    ],
)
def test_a_signed_gallery_whose_inside_is_damaged_is_refused(
    path: Path,
    key: SigningKey,
    keys: dict[str, VerificationKey],
    monkeypatch: pytest.MonkeyPatch,
    index: bytes,
    rows: bytes,
    told: str,
) -> None:
    """A provisioning machine with an error of its own signs that too."""
    plaintext = len(index).to_bytes(gallery_module._LENGTH.size, "little") + index + rows
    monkeypatch.setattr(gallery_module, "_encode_plaintext", lambda gallery: plaintext)
    with pytest.raises(GalleryError, match=told):
        read(path, encoded(key), keys)
