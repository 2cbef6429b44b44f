"""Who, or what, was presented to a camera: clips and photographs with the label live, or the kind of attack.

A folder is labelled by its subfolders: `live/` and `attack/`, and in `attack/`, or beside `live/`, one
folder for each kind, as in `attack/print/` and `attack/phone/`. Below those, a video and a folder of
pictures are each one presentation, its frames in order; a picture that lies directly in a
label's folder is a presentation of one frame. Or a file `index.csv` names each picture: columns
`file` and `label` (`live`, or the kind of attack), and, where they are known, `subject` and
`session`, which then make one presentation of all pictures that they share.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.camera.pictures import PICTURE_SUFFIXES, read_named_file, read_picture
from edge.camera.replay import PICTURES_PER_S, VIDEO_SUFFIXES, video
from edge.errors import InputError
from edge.evaluate.dataset import by_number
from edge.records import Image

LIVE = "live"
ATTACK = "attack"
"""The folder of all kinds, and the kind of what lies in it directly."""

INDEX = "index.csv"
MAX_INDEX_BYTES = 32 * 2**20
"""Set, to bound what is read: some 300,000 pictures of a hundred bytes a line."""


Frames = Iterator[tuple[float, Image]]
"""Milliseconds from the beginning, and the picture."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """One clip, or one series of pictures, of one person or one attack."""

    name: str
    kind: str
    """LIVE, or the kind of attack."""
    group: str
    """What may not be in both parts, where one chooses a threshold and the other checks it: a person, a clip."""
    frames: Callable[[], Frames]
    """From the beginning, each time. Raises InputError where a picture cannot be read."""
    photographs: bool
    """A series of pictures, which may lie seconds apart, and not a video."""

    @property
    def live(self) -> bool:
        return self.kind == LIVE


def _clip(name: str, kind: str, group: str, file: Path) -> Presentation:
    def frames() -> Frames:
        return ((taken.at_ms, taken.image) for taken in video(file))

    return Presentation(name, kind, group, frames, photographs=False)


def _pictures(name: str, kind: str, group: str, files: tuple[Path, ...]) -> Presentation:
    def frames() -> Frames:
        return ((1000 * number / PICTURES_PER_S, read_picture(file)) for number, file in enumerate(files))

    return Presentation(name, kind, group, frames, photographs=True)


def open_presentations(folder: Path) -> tuple[Presentation, ...]:
    """Everything that a folder holds, in a fixed order. Raises InputError where it has no labels."""
    index = folder / INDEX
    found = _indexed(index) if index.is_file() else _labelled(folder)
    if not found:
        raise InputError(
            f"{folder}: holds no presentations; put clips or pictures into {LIVE}/ and {ATTACK}/KIND/, or list them "
            f"in {INDEX} (file,label)"
        )
    return tuple(sorted(found, key=lambda one: (one.kind != LIVE, one.kind, by_number(one.name))))


def _labelled(folder: Path) -> list[Presentation]:
    found = _below(folder, folder / LIVE, LIVE)
    attacks = folder / ATTACK
    kinds = [*attacks.glob("*"), *(path for path in folder.glob("*") if path.name not in (LIVE, ATTACK))]
    for kind in sorted(path for path in kinds if path.is_dir()):
        found += _below(folder, kind, kind.name)
    loose = [path for path in sorted(attacks.glob("*")) if path.is_file()]
    return found + [one for path in loose for one in _files(folder, path, ATTACK)]


def _below(folder: Path, labelled: Path, kind: str) -> list[Presentation]:
    """What one label's folder holds."""
    found = []
    for path in sorted(labelled.glob("*"), key=lambda path: by_number(path.name)):
        if path.is_dir():
            found += _series(folder, path, kind)
        else:
            found += _files(folder, path, kind)
    return found


def _files(folder: Path, path: Path, kind: str) -> list[Presentation]:
    """A video, or a picture by itself; nothing where it is neither."""
    name = str(path.relative_to(folder))
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return [_clip(name, kind, name, path)]
    return [_pictures(name, kind, name, (path,))] if path.suffix.lower() in PICTURE_SUFFIXES else []


def _series(folder: Path, path: Path, kind: str) -> list[Presentation]:
    """A folder's pictures as one presentation, and each of its videos as another; all of one group."""
    name = str(path.relative_to(folder))
    inside = sorted(path.rglob("*"), key=lambda file: by_number(file.name))
    pictures = tuple(file for file in inside if file.suffix.lower() in PICTURE_SUFFIXES)
    found = [_pictures(name, kind, name, pictures)] if pictures else []
    videos = [file for file in inside if file.suffix.lower() in VIDEO_SUFFIXES]
    return found + [_clip(str(file.relative_to(folder)), kind, name, file) for file in videos]


def _indexed(index: Path) -> list[Presentation]:
    """Presentations out of `index.csv`. Raises InputError where it does not name files and labels."""
    series: dict[tuple[str, str], list[Path]] = defaultdict(list)
    groups: dict[tuple[str, str], str] = {}
    for where, row in _rows(index):
        file = index.parent / row["file"]
        if index.parent.resolve() not in file.resolve().parents:
            raise InputError(f"{where}: {row['file']} lies outside of its folder")
        subject = row.get("subject") or row["file"]
        key = row["label"], "/".join((row["label"], subject, row.get("session") or ""))
        series[key].append(file)
        groups[key] = subject
    return [
        _pictures(name, kind, groups[kind, name], tuple(sorted(files, key=lambda f: by_number(f.name))))
        for (kind, name), files in series.items()
    ]


def _rows(index: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """File and line of each row, and its cells by column, `file` and `label` among them. Raises InputError."""
    try:
        text = read_named_file(index, MAX_INDEX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{index}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not {"file", "label"} <= set(rows.fieldnames or ()):
            raise InputError(f"{index}: its first line must name the columns file and label")
        for row in rows:
            where = f"{index}: line {rows.line_num}"
            if not row["file"] or not row["label"] or "\0" in row["file"]:
                raise InputError(f"{where}: must have a file and a label")
            yield where, row
    except csv.Error as error:
        raise InputError(f"{index}: line {rows.line_num}: cannot be read ({error})") from error
