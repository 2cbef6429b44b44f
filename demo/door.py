"""A door to try things at, for demo, tests, benchmarks and torture: somebody who walks to it, a board that watches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from demo.boards import configure
from demo.walkpast import render_walkpast
from edge.assembly import Eyes
from edge.camera.pictures import read_picture
from edge.recognition.gallery import Gallery, make_gallery
from edge.records import Box, Image, Vector
from provisioning.enrol import enrol
from provisioning.fleet import Fleet
from provisioning.galleries import publish

DEVICE = "door-01"
FRAMES_PER_S = 12.0
WALK_FRAMES = 48
"""Four seconds from the end of the corridor through the door."""


def face_in(eyes: Eyes, photo: Path) -> Box:
    """Where the largest face of a photograph is."""
    return max(eyes.detector.detect(read_picture(photo)), key=lambda face: face.box.width_px).box


def walk(
    eyes: Eyes, photo: Path, seed: int = 1, frames: int = WALK_FRAMES, frames_per_s: float = FRAMES_PER_S
) -> Iterator[Image]:
    """The person of a photograph walks to the door and through it."""
    return render_walkpast(photo, face_in(eyes, photo), seed, frames, frames_per_s=frames_per_s)


def templates(eyes: Eyes, people: Mapping[str, Sequence[Path]]) -> dict[str, Vector]:
    """Enrolled from photographs, as `hadir-provision enrol` does it."""
    empty = make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, {})
    return {person: enrol(eyes, person, photos, empty).template for person, photos in people.items()}


def set_up_board(
    fleet: Fleet,
    gallery: Gallery,
    *,
    broker_url: str,
    sources: Sequence[Path],
    settings: str = "",
    events: str = "",
) -> Path:
    """Give the fleet's first board a gallery and a configuration; returns the configuration's path.

    `settings` follows the section [camera] of the file, so it may begin with keys of that; `events`
    is more for the section [events].
    """
    publish(fleet, gallery)
    return configure(fleet, DEVICE, broker_url=broker_url, sources=sources, settings=settings, events=events)
