"""Photographs of one person from a clip of the own door, for `evaluate openset`.

Kept is what the daemon would embed: one face, within its own limits of quality, so that
the photographs are neither better nor worse than what it works with. They are cut around
the face, lossless, and lie some time apart, because neighbouring frames show the same again.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge.camera.replay import PICTURES_PER_S, clips_of, play
from edge.config import QualityConfig
from edge.errors import InputError
from edge.evaluate.dataset import FindsFaces
from edge.evaluate.page import write_private
from edge.recognition.quality import examine
from edge.records import Face, Image

APART_MS = 400
"""A step of somebody who walks takes about 500 ms: the head is held otherwise by then. Set, not measured."""

REACH = 1.5
"""How much is kept around the face, in widths of it to each side of its centre: the detector wants context.
Set, not measured."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a clip gave."""

    frames: int
    kept: tuple[Path, ...]
    refused: Counter[str]
    """Frames that were looked at and not kept, by reason."""


def collect(clip: Path, person: Path, detector: FindsFaces, limits: QualityConfig, most: int) -> Collected:
    """Write up to `most` photographs from a clip into a person's folder, numbered on from what is there.

    The folder and the files can be read by their owner only.

    Raises InputError where the clip cannot be played or the folder cannot be written.
    """
    kept: list[Path] = []
    refused: Counter[str] = Counter()
    frames, next_ms = 0, 0.0
    number = _last_number(person)
    for taken in play(clips_of([str(clip)], PICTURES_PER_S), PICTURES_PER_S, repeat=False):
        frames += 1
        if taken.at_ms < next_ms:
            continue
        face = _usable(taken.image, detector, limits, refused)
        if face is None:
            continue
        number += 1
        kept.append(_write(person / f"{number:04d}.png", _cut_out(taken.image, face)))
        next_ms = taken.at_ms + APART_MS
        if len(kept) == most:
            break
    return Collected(frames, tuple(kept), refused)


def _usable(image: Image, detector: FindsFaces, limits: QualityConfig, refused: Counter[str]) -> Face | None:
    faces = detector.detect(image)
    if len(faces) != 1:
        refused["several people" if faces else "nobody"] += 1
        return None
    reason = examine(image, faces[0], limits)
    if reason is not None:
        refused[reason.value] += 1
        return None
    return faces[0]


def _cut_out(image: Image, face: Face) -> Image:
    x, y = face.box.centre
    reach = REACH * max(face.box.width_px, face.box.height_px)
    rows = slice(max(0, round(y - reach)), max(0, round(y + reach)))
    return image[rows, max(0, round(x - reach)) : max(0, round(x + reach))]


def _write(file: Path, image: Image) -> Path:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{file.parent}: cannot be written ({error.strerror})") from error
    _, data = cv2.imencode(".png", image)
    write_private(file, data.tobytes())
    return file


def _last_number(person: Path) -> int:
    """The highest in any file's name: what was there before is enrolled with, so it must stay the lowest."""
    try:
        stems = [path.stem for path in person.iterdir()] if person.is_dir() else []
    except OSError as error:
        raise InputError(f"{person}: cannot be read ({error.strerror})") from error
    return max((int(found) for stem in stems for found in re.findall(r"[0-9]{1,9}", stem)), default=0)


def report(collected: Collected, person: Path) -> str:
    """For people: what was kept, and why the rest was not."""
    lines = [f"{person}: {len(collected.kept)} photographs from {collected.frames} frames"]
    lines += [f"  {count} frames not used: {reason}" for reason, count in collected.refused.most_common()]
    if not collected.kept:
        lines.append(
            "  nothing was kept; the reasons above are what keeps the daemon from recognising anybody"
        )
    return "\n".join(lines)
