"""Photographs of known people, embedded once by the daemon's own stages.

A folder `person/image`, with or without a level `images/` above the people, becomes an
`Album`; detector and embedder turn it into `Embeddings`, one row a photograph. What that
costs (15 ms a photograph on a desktop core) is paid once: the rows are cached under a key
of everything that shapes them.

A photograph in which no face is found is a failure to acquire (ISO/IEC 19795-1). Its row
is marked, and every similarity with it counts as `NO_SIMILARITY`: as a mated pair or probe
it is a miss, as a non-mated one it never passes.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import recognition
from edge.camera.pictures import PICTURE_FORMATS, PICTURE_SUFFIXES, looked_at, read_named_file, read_picture
from edge.errors import BadImage, InputError
from edge.evaluate import conditions, coverings, degrade
from edge.evaluate.progress import Progress
from edge.records import Face, Image, Vector

NO_SIMILARITY = -1.0
"""Of a pair in which a face was not found: the lowest that a cosine can be."""

VIEW_2 = "pairs.txt"
"""LFW's pairs to report on."""

MAX_PAIRS_BYTES = 16 * 2**20
"""LFW's largest pairs file has 0.2 MB."""

MAX_PAIRS = 1_000_000
"""LFW's View 2 has 6,000. Set, as the size is, to bound what is read."""

AFTER_VECTORS = ("appearance", "decide", "gallery", "manifest", "match", "tables", "thresholds", "track")
"""Modules of recognition that do not shape a vector; what the manifest says is in the embedder's id."""

LEAST_SHARE = 0.4
"""A face narrower than this share of the widest in its picture is a bystander's, however near to the centre. Of
LFW's tuning photographs 1,059 show several faces; in none is the person meant less than half as wide as the widest."""

FACE_CHOICE = f"nearest to the centre of those at least {LEAST_SHARE} times as wide as the widest"

BOX = ("x1", "y1", "x2", "y2")
STAGES_MS = ("detect_ms", "align_ms", "embed_ms")
MEASURES = (*BOX, *conditions.NAMES, *STAGES_MS)
"""What is kept of each photograph beside its vector: the face's box, how it was taken, how long each stage took."""


class FindsFaces(Protocol):
    """What is needed of `edge.recognition.detect.Detector`."""

    min_confidence: float

    def detect(self, image: Image) -> tuple[Face, ...]: ...


class EmbedsFaces(Protocol):
    """What is needed of `edge.recognition.embed.Embedder`."""

    id: str
    dimensions: int

    def crops(self, image: Image, face: Face) -> tuple[Image, ...]: ...

    def embed(self, crops: tuple[Image, ...]) -> Vector: ...


@dataclass(frozen=True)
class Album:
    """Who is on which photograph. Row i of anything made from it belongs to `files[i]`."""

    folder: Path
    """Holds one folder a person."""
    files: tuple[str, ...]
    """`person/image`, by person, then in the order of the numbers in the name (2 before 10)."""
    others: tuple[str, ...] = ()
    """Files beside them that are no pictures of a kind that is read, and count for nothing."""

    @cached_property
    def people(self) -> dict[str, tuple[int, ...]]:
        """The rows of each person, both in order."""
        rows: dict[str, list[int]] = {}
        for row, file in enumerate(self.files):
            rows.setdefault(file.split("/")[0], []).append(row)
        return {person: tuple(own) for person, own in rows.items()}

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(photographs,): the number of the person on each, in the order of `people`."""
        return np.repeat(np.arange(len(self.people)), [len(rows) for rows in self.people.values()])

    @cached_property
    def by_name(self) -> dict[str, int]:
        """The row of each `person/name`, where name is the file's without its suffix."""
        return {str(Path(file).with_suffix("")): row for row, file in enumerate(self.files)}


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """The vectors of an album."""

    album: Album
    vectors: NDArray[np.float32]
    """(photographs, dimensions): unit length, or zeros where no face was found."""
    found: NDArray[np.bool_]
    """(photographs,)"""
    measures: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """By the names of MEASURES, (photographs,): of the picture as it was embedded; NaN without a face."""
    degradation: str = ""
    """Of `edge.evaluate.degrade`; empty where the photographs are as they were found."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The files without a face."""
        return tuple(self.album.files[row] for row in np.flatnonzero(~self.found))

    def similarities(
        self, first: NDArray[np.int64], second: NDArray[np.int64], others: Embeddings
    ) -> NDArray[np.float32]:
        """Of pairs of rows, the second of others of the same album; two arrays of one shape give a third."""
        values = np.einsum("...j,...j->...", self.vectors[first], others.vectors[second])
        both = self.found[first] & others.found[second]
        return np.where(both, values, np.float32(NO_SIMILARITY)).astype(np.float32)


def open_album(folder: Path) -> Album:
    """List the photographs of `folder/images/person/` or, without that level, `folder/person/`.

    Hidden files and files that are no pictures are passed over. Raises InputError where
    there is no folder or no person with a photograph, or one that may not be read.
    """
    try:
        return _album(folder)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _album(folder: Path) -> Album:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; expected person/image below it")
    below = folder / "images"
    root = below if below.is_dir() and _folders(below) else folder
    found = {person.name: _visible_files(person) for person in _folders(root)}
    files = tuple(
        f"{person}/{name}" for person, names in found.items() for name in names if _is_picture(name)
    )
    if not files:
        raise InputError(f"{root}: holds no person/image; pictures may be {PICTURE_FORMATS}")
    others = (
        f"{person}/{name}" for person, names in found.items() for name in names if not _is_picture(name)
    )
    return Album(root, files, tuple(others))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _visible_files(folder: Path) -> list[str]:
    names = (file.name for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    return sorted(names, key=by_number)


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in PICTURE_SUFFIXES


def by_number(name: str) -> list[tuple[int, str]]:
    """Sorts digits by their value; the parts of a split by a group alternate text and digits."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def embed_album(
    album: Album, detector: FindsFaces, embedder: EmbedsFaces, cache: Path, degradation: str = ""
) -> Embeddings:
    """Embed every photograph, or take the vectors of an earlier run from the cache folder.

    The cache is keyed by the embedder's id, the detector's least confidence, the degradation,
    the code of the stages, and name, size and modification time of every file. It holds
    biometric data, so only its owner may read it.

    Raises:
        InputError: a photograph cannot be read, or the cache cannot be written.
        ModelError: a model gives no vector.
    """
    file = cache / "embeddings" / f"{_key(album, detector, embedder, degradation)}.npz"
    shape = (len(album.files), embedder.dimensions)
    stored = _load(file, shape)
    if stored is None:
        _make_cache(file.parent)
        _look_at(album)
        stored = _embed_all(album, detector, embedder, degradation, shape)
        _store(file, *stored)
    vectors, found, measures = stored
    named = dict(zip(MEASURES, measures.T, strict=True))
    return Embeddings(album, vectors, found, named, degradation)


def open_photograph(album: Album, row: int, detector: FindsFaces, degradation: str = "") -> Image:
    """One photograph as it is embedded: read, and degraded where that is asked for.

    Raises:
        InputError: it cannot be read.
        BadImage: it is to be degraded, and shows no face to do that to.
    """
    file = album.files[row]
    image = read_picture(album.folder / file)
    if not degradation:
        return image
    face = person_meant(detector.detect(image), image)
    if face is None:
        raise BadImage("no face to degrade")
    return degrade.degrade(image, face, file, degradation)


def person_meant(faces: Iterable[Face], image: Image) -> Face | None:
    """The face whose box is centred nearest to the picture's centre, where LFW has its person; no bystander's."""
    faces = tuple(faces)
    height, width = image.shape[:2]
    least_px = LEAST_SHARE * max((face.box.width_px for face in faces), default=0)
    near = (face for face in faces if face.box.width_px >= least_px)
    return min(near, key=lambda face: math.dist(face.box.centre, (width / 2, height / 2)), default=None)


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/hadir`, or `~/.cache/hadir` (XDG Base Directory Specification)."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says to ignore a relative path.
    return (Path(chosen) if Path(chosen).is_absolute() else Path.home() / ".cache") / "hadir"


_Stored = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]
"""Vectors, found, and (photographs, measures)."""


def _embed_all(
    album: Album, detector: FindsFaces, embedder: EmbedsFaces, degradation: str, shape: tuple[int, int]
) -> _Stored:
    vectors, found = np.zeros(shape, np.float32), np.zeros(shape[0], np.bool_)
    measures = np.full((shape[0], len(MEASURES)), np.nan, np.float32)
    with Progress(f"embedding {degradation}".rstrip(), shape[0]) as progress:
        for row in range(shape[0]):
            # Too small, or keypoints that show no face: the daemon skips such a frame.
            with contextlib.suppress(BadImage):
                image = open_photograph(album, row, detector, degradation)
                seen = _embed_one(image, detector, embedder)
                if seen is not None:
                    vectors[row], measures[row] = seen
                    found[row] = True
            progress.step()
    return vectors, found, measures


def _embed_one(
    image: Image,
    detector: FindsFaces,
    embedder: EmbedsFaces,
    clock_s: Callable[[], float] = time.perf_counter,
) -> tuple[Vector, NDArray[np.float32]] | None:
    began_s = clock_s()
    face = person_meant(detector.detect(image), image)
    detected_s = clock_s()
    if face is None:
        return None
    crops = embedder.crops(image, face)
    aligned_s = clock_s()
    vector = embedder.embed(crops)
    times_ms = 1000 * np.diff([began_s, detected_s, aligned_s, clock_s()])
    box = face.box.x1, face.box.y1, face.box.x2, face.box.y2
    return vector, np.array([*box, *conditions.measure(image, face), *times_ms], np.float32)


def _key(album: Album, detector: FindsFaces, embedder: EmbedsFaces, degradation: str) -> str:
    """SHA-256 in hex over everything that shapes the vectors and the measures."""
    stats = [(album.folder / name).stat() for name in album.files]
    # While the code is being worked on, an embedder id or a name alone would serve stale vectors.
    changes = (degrade, coverings) if degradation else ()
    code = [_stages(), *(inspect.getsource(module) for module in (conditions, *changes))]
    shaping = {
        "embedder": embedder.id,
        "min_confidence": detector.min_confidence,
        "face": FACE_CHOICE,
        "degradation": degradation,
        "opencv": cv2.__version__,
        "code": code,
        "measures": MEASURES,
        "files": [
            (name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(album.files, stats, strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def _stages() -> dict[str, str]:
    """The code of the room that turns pictures into vectors; what is new there counts until it is in AFTER_VECTORS."""
    files = sorted(Path(recognition.__path__[0]).glob("*.py"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files if file.stem not in AFTER_VECTORS}


def _load(file: Path, shape: tuple[int, int]) -> _Stored | None:
    """What an earlier run stored; None where there is nothing, or nothing whole."""
    try:
        # Opened here: of a damaged archive that it opened itself, numpy leaves the file open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            vectors, found, measures = stored["vectors"], stored["found"], stored["measures"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    expected = ((shape, np.float32), (shape[:1], np.bool_), ((shape[0], len(MEASURES)), np.float32))
    whole = all(
        (array.shape, array.dtype) == form
        for array, form in zip((vectors, found, measures), expected, strict=True)
    )
    return (vectors, found, measures) if whole and np.isfinite(vectors).all() else None


def _store(
    file: Path, vectors: NDArray[np.float32], found: NDArray[np.bool_], measures: NDArray[np.float32]
) -> None:
    """Write under another name, then rename: an interrupted run leaves nothing that looks whole."""
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, suffix=".part")  # readable by its owner only
        try:
            with os.fdopen(descriptor, "wb") as stream:
                np.savez(stream, vectors=vectors, found=found, measures=measures)
            Path(name).replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise _unwritable_cache(file.parent, str(error.strerror)) from error


def _look_at(album: Album) -> None:
    """Before minutes of work that one photograph would end. Raises InputError, naming the first."""
    refused = []
    for name in album.files:
        try:
            looked_at(album.folder / name)
        except InputError as error:
            refused.append(error)
    if len(refused) > 1:
        raise InputError(f"{refused[0]} (and {len(refused) - 1:,} more that cannot be used)")
    if refused:
        raise refused[0]


def _make_cache(folder: Path) -> None:
    """Before minutes of work whose result could not be kept. Raises InputError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable_cache(folder, str(error.strerror)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable_cache(folder, "not permitted, or the disk is read-only")


def _unwritable_cache(folder: Path, why: str) -> InputError:
    return InputError(f"{folder}: the cache cannot be written ({why}); name another with --cache")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photographs of a pairs file, by person and number."""

    first: tuple[str, int]
    second: tuple[str, int]
    where: str
    """File and line, for messages."""

    @property
    def mated(self) -> bool:
        return self.first[0] == self.second[0]


def read_pairs(file: Path) -> tuple[tuple[Pair, ...], ...]:
    """The folds of one of LFW's pairs files, each its mated pairs and then as many non-mated ones.

    The first line says `folds<TAB>pairs` (View 2) or `pairs` (View 1, one fold), where
    `pairs` counts the mated pairs of a fold and the non-mated ones again. A mated line is
    `person<TAB>number<TAB>number`, a non-mated one `person<TAB>number<TAB>person<TAB>number`.

    Raises InputError with file and line for anything else.
    """
    try:
        lines = read_named_file(file, MAX_PAIRS_BYTES).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    folds, pairs = _header(file, lines[0])
    if len(lines) != 1 + folds * 2 * pairs:
        raise InputError(
            f"{file}: has {len(lines)} lines; its first line promises {folds} x 2 x {pairs} pairs after it"
        )
    parsed = [
        _pair(file, number, line, mated=(number - 2) % (2 * pairs) < pairs)
        for number, line in enumerate(lines[1:], start=2)
    ]
    return tuple(tuple(parsed[at : at + 2 * pairs]) for at in range(0, len(parsed), 2 * pairs))


def people_of_pairs(files: Iterable[Path]) -> set[str]:
    """Everybody who is named in these pairs files. Raises InputError as `read_pairs` does."""
    pairs = (pair for file in files for fold in read_pairs(file) for pair in fold)
    return {person for pair in pairs for person, _ in (pair.first, pair.second)}


def _header(file: Path, line: str) -> tuple[int, int]:
    match = re.fullmatch(r"(?:([0-9]{1,4})\t)?([0-9]{1,6})", line, re.ASCII)
    folds, pairs = (int(match[1] or 1), int(match[2])) if match else (0, 0)
    if not 0 < folds * pairs <= MAX_PAIRS:
        raise InputError(f"{file}, line 1: {line!r}; expected folds<TAB>pairs, or pairs, as numbers")
    return folds, pairs


def _pair(file: Path, number: int, line: str, mated: bool) -> Pair:
    form = (
        r"([^\t]+)\t([0-9]{1,6})\t([0-9]{1,6})"
        if mated
        else r"([^\t]+)\t([0-9]{1,6})\t([^\t]+)\t([0-9]{1,6})"
    )
    match = re.fullmatch(form, line, re.ASCII)
    if match is not None:
        person, first, *rest = match.groups()
        other, second = (person, rest[0]) if mated else (rest[0], rest[1])
        pair = Pair((person, int(first)), (other, int(second)), f"{file}, line {number}")
        if pair.mated == mated and pair.first != pair.second:
            return pair
    expected = (
        "person<TAB>number<TAB>another number" if mated else "person<TAB>number<TAB>another person<TAB>number"
    )
    raise InputError(f"{file}, line {number}: {line!r}; expected {expected}")


def pair_rows(album: Album, pairs: Iterable[Pair]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The album's rows of pairs, (pairs,) each. Raises InputError for a photograph that is not there."""
    rows = []
    for pair in pairs:
        for person, number in (pair.first, pair.second):
            name = f"{person}/{person}_{number:04d}"
            if name not in album.by_name:
                raise InputError(f"{pair.where}: the photograph {album.folder / name} is not there")
            rows.append(album.by_name[name])
    columns = np.array(rows, np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]
