"""From photographs of a person to the template that boards match against.

The same detector, alignment and embedder as on the board: a template made any other
way would not lie where the board's probes lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge.assembly import Eyes
from edge.camera.pictures import read_picture
from edge.config import QualityConfig
from edge.errors import BadImage, InputError, NotEnrollable
from edge.recognition.gallery import Gallery
from edge.recognition.match import best_match, fuse, template_of
from edge.recognition.quality import assess
from edge.records import Face, Image, Vector
from edge.trust.tokens import PERSON_PATTERN

MIN_FACE_PX = 80
"""Below it SFace's 112 px crop is enlarged by more than 1.4; a photograph can be taken again."""

MAX_RIVAL_SHARE = 0.6
"""A second face this large, relative to the largest, could be the one that was meant."""

ON_ITS_SIDE_DEG = 60.0
"""No head is held so; the picture was turned."""

MAX_PHOTOS = 50
"""More make no better mean and cost the administrator time."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A template, and what an administrator should know about it."""

    person: str
    template: Vector
    photos: int
    """Those that counted: the same picture, given twice, counts once."""
    least_similarity: float
    """Of a photograph to the template; 1 for a single photograph."""
    lookalike: tuple[str, float] | None
    """Somebody else in the gallery who is similar enough to be taken for this person."""
    to_earlier: float | None = None
    """Similarity to the template that this one replaces; None where there was none."""
    repeated: Mapping[Path, Path] = field(default_factory=dict)
    """Photographs that were left out, and which earlier one each shows again."""


@dataclass(frozen=True, slots=True)
class Portraits:
    """Pictures of one person, each counted once, and what they are to the embedder."""

    photos: tuple[Path, ...]
    vectors: tuple[Vector, ...]
    repeated: Mapping[Path, Path]
    """Photographs that were left out, and which earlier one each shows again."""


def enrol(eyes: Eyes, person: str, photos: Sequence[Path], gallery: Gallery) -> Enrolment:
    """Make one template of a person's photographs.

    Raises:
        InputError: the id or a file cannot be used as it is.
        NotEnrollable: a photograph shows no face, several, too small a one, or somebody else, or all show
            somebody else than who has this id.
        BadImage: a file's picture is too small to be looked at.
    """
    if not PERSON_PATTERN.fullmatch(person):
        raise InputError(
            f"person id {person!r}: must match {PERSON_PATTERN.pattern} (an employee number, not a name)"
        )
    if not 1 <= len(photos) <= MAX_PHOTOS:
        raise InputError(
            f"{person}: {len(photos)} photographs; give 1 to {MAX_PHOTOS}, three or more are best"
        )
    portraits = embed_portraits(eyes, photos)
    vectors = portraits.vectors
    template = template_of(vectors)
    threshold = eyes.spec.threshold(len(gallery.people))
    similarities = [float(vector @ template) for vector in vectors]
    _refuse_stray(portraits.photos, vectors, threshold)
    to_earlier = _to_earlier(template, person, gallery, threshold)
    return Enrolment(
        person=person,
        template=template,
        photos=len(vectors),
        least_similarity=min(similarities),
        lookalike=_lookalike(template, person, gallery, threshold),
        to_earlier=to_earlier,
        repeated=portraits.repeated,
    )


def embed_portraits(eyes: Eyes, photos: Sequence[Path]) -> Portraits:
    """The vector of the one face in each photograph; the same picture again, to the pixel, is left out.

    A picture that counts twice would outvote the others in the mean, and three copies of one are no three views.
    Raises InputError, NotEnrollable and BadImage as `enrol` does.
    """
    first: dict[bytes, Path] = {}
    repeated: dict[Path, Path] = {}
    vectors: list[Vector] = []
    for photo in photos:
        image = read_picture(photo)
        earlier = first.setdefault(_digest(image), photo)
        if len(first) > len(vectors):
            vectors.append(_embed(eyes, image, photo))
        else:
            repeated[photo] = earlier
    return Portraits(tuple(first.values()), tuple(vectors), repeated)


def _digest(image: Image) -> bytes:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()


def _embed(eyes: Eyes, image: Image, photo: Path) -> Vector:
    try:
        face = _only_face(eyes.stills.detect(image), photo)
        _refuse_unfit(image, face, photo)
        return eyes.embedder.embed(eyes.embedder.crops(image, face))
    except BadImage as error:
        raise BadImage(f"{photo}: {error}") from error


def _only_face(faces: Sequence[Face], photo: Path) -> Face:
    if not faces:
        raise NotEnrollable(
            f"{photo}: no face found; take a picture from the front, face filling a third of it"
        )
    by_size = sorted(faces, key=lambda face: face.box.width_px, reverse=True)
    largest = by_size[0]
    rivals = [face for face in by_size[1:] if face.box.width_px > MAX_RIVAL_SHARE * largest.box.width_px]
    if rivals:
        raise NotEnrollable(
            f"{photo}: {1 + len(rivals)} faces of similar size; crop the picture to the person who is meant"
        )
    return largest


def _refuse_unfit(image: Image, face: Face, photo: Path) -> None:
    if face.box.width_px < MIN_FACE_PX:
        raise NotEnrollable(
            f"{photo}: the face is {face.box.width_px:.0f} px wide; at least {MIN_FACE_PX} px are needed"
        )
    quality = assess(image, face)
    if abs(quality.roll_deg) > ON_ITS_SIDE_DEG:
        raise NotEnrollable(
            f"{photo}: the picture lies on its side or its head; turn it upright and save it so"
        )
    limits = QualityConfig()
    if abs(quality.yaw) > limits.max_yaw or abs(quality.roll_deg) > limits.max_roll_deg:
        raise NotEnrollable(f"{photo}: the face is turned away; take a picture from the front")


def _refuse_stray(photos: Sequence[Path], vectors: Sequence[Vector], threshold: float) -> None:
    """A photograph that is unlike all the others is most likely of somebody else; of two, either may be."""
    if len(vectors) == 1:
        return
    for index, (photo, vector) in enumerate(zip(photos, vectors, strict=True)):
        others = fuse([other for i, other in enumerate(vectors) if i != index])
        similarity = float(vector @ others)
        if similarity < threshold / 2:
            raise NotEnrollable(
                f"{photo}: similarity {similarity:.2f} to this person's other photographs; is it somebody else? "
                "Leave it out or replace it"
            )


def _to_earlier(template: Vector, person: str, gallery: Gallery, threshold: float) -> float | None:
    """How like the template that is replaced. One of somebody else must not vanish through a mistyped id."""
    earlier = gallery.templates().get(person)
    if earlier is None:
        return None
    similarity = float(template @ earlier)
    if similarity < threshold / 2:
        raise NotEnrollable(
            f"{person}: somebody is enrolled under this id already, and looks different (similarity {similarity:.2f}); "
            f"nothing was changed. Is the id right? If the one before was the mistake, remove {person} first"
        )
    return similarity


def _lookalike(template: Vector, person: str, gallery: Gallery, threshold: float) -> tuple[str, float] | None:
    others = {other: vector for other, vector in gallery.templates().items() if other != person}
    if not others:
        return None
    rest = Gallery(gallery.version, gallery.embedder, tuple(others), np.stack(list(others.values())))
    match = best_match(template, rest)
    if match is None or match.similarity < threshold:
        return None
    return match.person, match.similarity
