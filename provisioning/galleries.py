"""The fleet's gallery: where it lies, how it grows by one person, how boards get it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from edge.assembly import Eyes
from edge.errors import InputError
from edge.recognition.gallery import GALLERY_TYP, Gallery, encode_gallery, make_gallery, read_gallery
from edge.records import Vector
from provisioning.keys import Fleet

FILE = "gallery.hadir"


def current_gallery(fleet: Fleet, eyes: Eyes) -> Gallery:
    """The newest gallery of the fleet; an empty one of version 0 before anybody is enrolled.

    Raises:
        GalleryError: it is damaged, or was made by another embedder than `eyes`.
    """
    path = fleet.folder / FILE
    if not path.exists():
        return make_gallery(0, eyes.embedder.id, eyes.embedder.dimensions, {})
    return read_gallery(
        path,
        fleet.keys.verification_keys(GALLERY_TYP),
        audience=fleet.audience,
        embedder=eyes.embedder.id,
    )


def with_person(gallery: Gallery, person: str, template: Vector) -> Gallery:
    """The next version, with this person added or replaced."""
    templates = gallery.templates() | {person: template}
    return make_gallery(gallery.version + 1, gallery.embedder, gallery.matrix.shape[1], templates)


def without_person(gallery: Gallery, person: str) -> Gallery:
    """The next version, with this person gone. Raises InputError where nobody has this id."""
    templates = gallery.templates()
    if templates.pop(person, None) is None:
        raise InputError(f"{person}: nobody is enrolled under this id")
    return make_gallery(gallery.version + 1, gallery.embedder, gallery.matrix.shape[1], templates)


def publish(fleet: Fleet, gallery: Gallery) -> tuple[Path, ...]:
    """Sign a gallery and put it into the fleet's folder and each board's; returns the boards' files."""
    content = encode_gallery(
        gallery,
        fleet.signing_key("gallery"),
        issuer=fleet.issuer,
        audience=fleet.audience,
        now_s=int(time.time()),
    )
    boards = tuple(folder / FILE for folder in fleet.boards())
    for path in (fleet.folder / FILE, *boards):
        _write_atomically(path, content)
    return boards


def _write_atomically(path: Path, content: bytes) -> None:
    """The old file or the new one, never a part of either, also after a power cut."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
