"""The fleet's gallery: where it lies, how it grows by one person, how boards get it."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.assembly import Eyes
from edge.errors import InputError
from edge.files import write_durably
from edge.recognition.gallery import GALLERY_TYP, Gallery, encode_gallery, make_gallery, read_gallery
from edge.records import Vector
from edge.trust.identity import site_urn
from provisioning.fleet import GALLERY_VERSION, Fleet

FILE = "gallery.hadir"
LOCK_FILE = "gallery.lock"


@contextmanager
def next_gallery(fleet: Fleet, eyes: Eyes) -> Iterator[Gallery]:
    """The newest gallery, for one command at a time until it has published what follows from it.

    Of two that began from the same version, the second would undo what the first was told is done.
    Raises GalleryError as `current_gallery` does.
    """
    with (fleet.folder / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield current_gallery(fleet, eyes)


def current_gallery(fleet: Fleet, eyes: Eyes) -> Gallery:
    """The newest gallery of the fleet; an empty one of version 0 before anybody is enrolled.

    Raises:
        GalleryError: it is damaged, or was made by another embedder than `eyes`.
    """
    path = fleet.folder / FILE
    if not path.exists():
        return make_gallery(
            fleet.registry.counter(GALLERY_VERSION), eyes.embedder.id, eyes.embedder.dimensions, {}
        )
    gallery = read_gallery(
        path,
        fleet.keys.verification_keys(GALLERY_TYP),
        audience=fleet.audience,
        embedder=eyes.embedder.id,
    )
    # After a restore the file may be older than what boards have; the counter never is.
    return replace(gallery, version=max(gallery.version, fleet.registry.counter(GALLERY_VERSION)))


def with_person(gallery: Gallery, person: str, template: Vector) -> Gallery:
    """The next version, with this person added or replaced."""
    return _next(gallery, gallery.templates() | {person: template})


def without_person(gallery: Gallery, person: str) -> Gallery:
    """The next version, with this person gone. Raises InputError where nobody has this id."""
    templates = gallery.templates()
    if templates.pop(person, None) is None:
        raise InputError(f"{person}: nobody is enrolled under this id")
    return _next(gallery, templates)


def _next(gallery: Gallery, templates: Mapping[str, Vector]) -> Gallery:
    """What was calibrated stays until it is calibrated anew; thresholds follow the number enrolled."""
    return make_gallery(
        gallery.version + 1,
        gallery.embedder,
        gallery.matrix.shape[1],
        templates,
        gallery.thresholds,
        gallery.raised,
    )


def publish(
    fleet: Fleet, gallery: Gallery, action: str = "gallery", subject: str | None = None, **detail: Any
) -> tuple[Path, ...]:
    """Sign a gallery and put it into the fleet's folder and each board's; returns the boards' files.

    The audit says what was done (`action`, such as "enrol") to whom (`subject`, a person's id; the site where it is
    about nobody in particular). Of people `detail` may hold ids, never names or embeddings: an entry stays for ever.
    """
    key, now_s = fleet.signing_key("gallery"), int(time.time())
    devices = fleet.active_devices()
    signed = {
        site: encode_gallery(gallery, key, issuer=fleet.issuer, audience=site_urn(site), now_s=now_s)
        for site in {fleet.site} | {device.site for device in devices}
    }
    with fleet.change(
        action, subject or fleet.site, now_s=now_s, version=gallery.version, **detail
    ) as change:
        change.at_least(GALLERY_VERSION, gallery.version)
    write_durably(fleet.folder / FILE, signed[fleet.site])
    boards = {fleet.board_folder(device.device) / FILE: signed[device.site] for device in devices}
    for path, content in boards.items():
        write_durably(path, content)
    return tuple(boards)
