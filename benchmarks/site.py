"""A site to measure on: one board, a gallery of people who do not exist, a clip to watch."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from demo.boards import make_fleet
from demo.door import DEVICE, WALK_FRAMES, set_up_board, walk
from demo.people import sample_people
from demo.walkpast import empty_corridor, write_clip
from edge.assembly import Eyes
from edge.recognition.gallery import Gallery, make_gallery
from edge.records import Image
from provisioning.fleet import Fleet

SEED = 7
FRAMES_PER_S = 10.0
"""The rate at which the daemon is measured: the condition under which idling is measured."""


def random_gallery(people: int, eyes: Eyes, version: int = 1) -> Gallery:
    """People who are nobody: random directions, which match no real face."""
    rows = np.random.default_rng(SEED).normal(size=(people, eyes.embedder.dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    templates = {f"N{number:06d}": row for number, row in enumerate(rows)}
    return make_gallery(version, eyes.embedder.id, eyes.embedder.dimensions, templates)


def make_site(
    folder: Path, gallery: Gallery, broker_url: str, clip: Path, extra: str = ""
) -> tuple[Fleet, Path]:
    """A fleet with one board that watches a clip; the board's configuration file."""
    fleet = make_fleet(folder, site="hq", devices=[DEVICE])
    return fleet, set_up_board(fleet, gallery, broker_url=broker_url, sources=[clip], settings=extra)


def one_face_640x480(eyes: Eyes) -> Image:
    """A decoded door picture with one face, near the camera."""
    walking = walk(eyes, sample_people()["P44"][0], SEED)
    pictures = [image for image in walking if len(eyes.detector.detect(image)) == 1]
    return max(pictures, key=lambda image: eyes.detector.detect(image)[0].box.width_px)


def walk_clip(path: Path, eyes: Eyes, seconds: int) -> Path:
    """Somebody walking past again and again."""
    photo = sample_people()["P44"][0]
    starts = range(SEED, SEED + int(seconds * FRAMES_PER_S), WALK_FRAMES)
    images = (image for seed in starts for image in walk(eyes, photo, seed, frames_per_s=FRAMES_PER_S))
    write_clip(path, images, FRAMES_PER_S)
    return path


def empty_clip(path: Path, seconds: int) -> Path:
    """Nobody in view, for so long."""
    write_clip(path, empty_corridor(SEED, int(seconds * FRAMES_PER_S)), FRAMES_PER_S)
    return path


def now_ms() -> float:
    """A clock for measuring, in milliseconds."""
    return time.perf_counter_ns() / 1e6
