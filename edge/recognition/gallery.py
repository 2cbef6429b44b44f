"""The people who are enrolled: one signed file, one matrix in memory.

File: magic, length of the head, the head (a `hadir-gallery+jwt`), then the canonical
plaintext whose SHA-256 stands in the head as `result`: length and canonical JSON of
`{"dimensions": d, "people": [ids, sorted]}`, then the templates as little-endian
float16, row by row. float16 costs at most 5e-4 of cosine and halves the file.
Encryption at rest wraps this file; it does not change it.

A gallery that was calibrated (`hadir-provision calibrate`) carries thresholds of its own:
in the head `threshold`: `{"fpir_target", "enrolled": [sizes], "similarity": [one a size]}`,
in the index `raised`: `{id: similarity}` for those who resemble somebody. Both are left out
otherwise, and the models' own thresholds hold.
"""

from __future__ import annotations

import hashlib
import json
import struct
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import GalleryError, TokenRefused
from edge.recognition.thresholds import Thresholds
from edge.records import Vector
from edge.trust.jws import SigningKey, VerificationKey, sign, verify
from edge.trust.tokens import PERSON_PATTERN

GALLERY_TYP = "hadir-gallery+jwt"

MAX_GALLERY_BYTES = 128 * 1024 * 1024
"""100,000 people of 256 dimensions in half precision are 52 MB: set at more than twice that."""

MAX_HEAD_BYTES = 8 * 1024
"""The design's limit for a gallery head."""

MAX_DIMENSIONS = 4096
"""Of a vector; the shipped embedders have 128 and 256. Set, to bound what a file may claim."""

MAX_SIZES = 64
"""Rows of a table of thresholds in a head; the shipped ones have five. Set, as the dimensions are."""

_MAGIC = b"HADIRG1\n"
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Everybody enrolled, ready to be matched."""

    version: int
    embedder: str
    """The embedder id that all vectors belong to."""
    people: tuple[str, ...]
    matrix: NDArray[np.float32]
    """(people, dimensions) float32, rows of unit length."""
    thresholds: Thresholds | None = None
    """Measured on this gallery; None where it was not calibrated."""
    raised: Mapping[str, float] = field(default_factory=dict)
    """The similarity that somebody needs who resembles somebody else, by person id."""

    def needed(self, person: str, general: float) -> float:
        """The similarity from which a match with this person may count."""
        return max(general, self.raised.get(person, general))

    def templates(self) -> dict[str, Vector]:
        """Person id to template."""
        return dict(zip(self.people, self.matrix, strict=True))


def make_gallery(
    version: int,
    embedder: str,
    dimensions: int,
    templates: Mapping[str, Vector],
    thresholds: Thresholds | None = None,
    raised: Mapping[str, float] | None = None,
) -> Gallery:
    """A gallery from templates, in the file's order and precision; `raised` may name others too."""
    people = tuple(sorted(templates))
    rows = [templates[person] for person in people]
    matrix = np.stack(rows) if rows else np.empty((0, dimensions), np.float32)
    kept = {person: bar for person, bar in (raised or {}).items() if person in templates}
    return Gallery(version, embedder, people, _unit_rows(matrix.astype("<f2")), thresholds, kept)


def encode_gallery(gallery: Gallery, key: SigningKey, *, issuer: str, audience: str, now_s: int) -> bytes:
    """The signed file."""
    plaintext = _encode_plaintext(gallery)
    head = sign(
        {
            "iss": issuer,
            "aud": audience,
            "iat": now_s,
            "version": gallery.version,
            "embedder": gallery.embedder,
            "people": len(gallery.people),
            "result": _result(plaintext),
            **_threshold_claim(gallery.thresholds),
        },
        key,
        GALLERY_TYP,
    ).compact.encode("ascii")
    return _MAGIC + _LENGTH.pack(len(head)) + head + plaintext


def read_gallery(path: Path, keys: Mapping[str, VerificationKey], *, audience: str, embedder: str) -> Gallery:
    """Read, verify and unpack a gallery.

    Raises:
        GalleryError: missing, damaged, signed by no key of this fleet, for another site or
            embedder; the message names the file, what is wrong and what to do.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_GALLERY_BYTES + 1)
    except OSError as error:
        raise GalleryError(
            f"{path}: the gallery cannot be read ({error.strerror}); enrol people with `hadir-provision enrol` "
            "and copy gallery.hadir into the board's folder"
        ) from error
    try:
        return _decode_gallery(content, keys, audience, embedder)
    except (GalleryError, TokenRefused) as error:
        raise GalleryError(
            f"{path}: {error}; copy the gallery again from the fleet's folder for this board"
        ) from error


def _decode_gallery(
    content: bytes, keys: Mapping[str, VerificationKey], audience: str, embedder: str
) -> Gallery:
    if len(content) > MAX_GALLERY_BYTES:
        raise GalleryError(f"larger than {MAX_GALLERY_BYTES} bytes")
    if not content.startswith(_MAGIC):
        raise GalleryError("not a gallery (wrong first bytes)")
    head_bytes, plaintext = _split(content[len(_MAGIC) :], MAX_HEAD_BYTES, "head")
    head = verify(head_bytes, GALLERY_TYP, keys, max_bytes=MAX_HEAD_BYTES).claims
    if head.get("aud") != audience:
        raise GalleryError(f"made for {head.get('aud')!r}, this board belongs to {audience!r}")
    if head.get("embedder") != embedder:
        raise GalleryError(
            f"made by embedder {str(head.get('embedder'))[:16]}, this board runs {embedder[:16]}; enrol again "
            "with the models that the board has"
        )
    if head.get("result") != _result(plaintext):
        raise GalleryError("damaged: its content does not have the hash that was signed")
    version = head.get("version")
    if type(version) is not int or version < 1:
        raise GalleryError(f"version {version!r} is not a positive whole number")
    people, raised, matrix = _decode_plaintext(plaintext)
    return Gallery(version, embedder, people, matrix, _decode_thresholds(head.get("threshold")), raised)


def _threshold_claim(thresholds: Thresholds | None) -> dict[str, Any]:
    if thresholds is None:
        return {}
    return {
        "threshold": {
            "fpir_target": thresholds.fpir_target,
            "enrolled": list(thresholds.enrolled),
            "similarity": list(thresholds.similarity),
        }
    }


def _decode_thresholds(claim: object) -> Thresholds | None:
    """From a signed head, and still checked: a mistake of the publisher must not open a door."""
    if claim is None:
        return None
    try:
        target, enrolled, similarity = (claim[key] for key in ("fpir_target", "enrolled", "similarity"))  # type: ignore[index]
        usable = (
            1 <= len(enrolled) == len(similarity) <= MAX_SIZES
            and all(type(size) is int and size >= 1 for size in enrolled)
            and all(before < after for before, after in pairwise(enrolled))
            and all(_is_cosine(value) for value in similarity)
            and all(before <= after for before, after in pairwise(similarity))
            and type(target) is float
            and 0 < target < 1
        )
    except (KeyError, TypeError):
        usable = False
    if not usable:
        raise GalleryError("damaged: its thresholds are not a share and a rising table of similarities")
    return Thresholds(target, tuple(enrolled), tuple(map(float, similarity)), "hadir-provision calibrate")


def _is_cosine(value: object) -> bool:
    return type(value) in (int, float) and -1 <= value <= 1  # type: ignore[operator]


def _encode_plaintext(gallery: Gallery) -> bytes:
    raised = {"raised": dict(gallery.raised)} if gallery.raised else {}
    index = json.dumps(
        {"dimensions": gallery.matrix.shape[1], "people": list(gallery.people), **raised},
        sort_keys=True,
        separators=(",", ":"),
    ).encode("ascii")
    return _LENGTH.pack(len(index)) + index + gallery.matrix.astype("<f2").tobytes()


def _decode_plaintext(plaintext: bytes) -> tuple[tuple[str, ...], dict[str, float], NDArray[np.float32]]:
    index_bytes, rows = _split(plaintext, MAX_GALLERY_BYTES, "index")
    try:
        index: Any = json.loads(index_bytes)
        people, dimensions = tuple(index["people"]), index["dimensions"]
        raised = dict(index.get("raised", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GalleryError(f"damaged: its index cannot be read ({error})") from error
    if type(dimensions) is not int or not 1 <= dimensions <= MAX_DIMENSIONS:
        raise GalleryError(f"dimensions {dimensions!r} are not a whole number from 1 to {MAX_DIMENSIONS}")
    if not all(isinstance(person, str) and PERSON_PATTERN.fullmatch(person) for person in people):
        raise GalleryError("damaged: a person id is not as ids must be")
    if list(people) != sorted(set(people)):
        raise GalleryError("damaged: person ids are not sorted and unique")
    if not (raised.keys() <= set(people) and all(map(_is_cosine, raised.values()))):
        raise GalleryError("damaged: a raised threshold is no similarity, or of nobody who is enrolled")
    if len(rows) != len(people) * dimensions * 2:
        raise GalleryError(f"damaged: {len(rows)} bytes of templates for {len(people)} people")
    matrix = np.frombuffer(rows, "<f2").reshape(len(people), dimensions)
    return people, raised, _unit_rows(matrix)


def _unit_rows(matrix: NDArray[Any]) -> NDArray[np.float32]:
    """float32 rows of unit length, whatever float16 rounded away."""
    wide = matrix.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not np.isfinite(wide).all() or (lengths < 0.5).any():  # noqa: PLR2004 - a unit vector, rounded
        raise GalleryError("damaged: a template is not a unit vector")
    unit: NDArray[np.float32] = wide / lengths
    return unit


def _split(content: bytes, limit: int, what: str) -> tuple[bytes, bytes]:
    """A length-prefixed part and the rest."""
    if len(content) < _LENGTH.size:
        raise GalleryError(f"damaged: it ends before its {what}")
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    if length > limit or end > len(content):
        raise GalleryError(f"damaged: its {what} is said to have {length} bytes")
    return content[_LENGTH.size : end], content[end:]


def _result(plaintext: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(plaintext).digest()).rstrip(b"=").decode("ascii")
