"""Whether other looks should count for more, in a probe and in a reference; how many are enough.

Other weights (`benchmarks.weights`) against what is shipped, on LFW people who have
a part in choosing settings:

- `door_2` and `door_3`: two and three photographs of a person through `--degrade door` as a
  probe, one photograph as reference; `references_3`: three photographs as reference, one
  through the door as a probe. FNIR at FPIR 0.3 %, the ten draws of `edge.evaluate.openset`.
- `walk_first_5` and `walk_all`: the first five good looks of a rendered walk, and all of them,
  against another photograph of the walker. All walkers are enrolled, and the threshold is
  the manifest's for so many. Other parts of a walk say how soon evidence is enough.

A difference is in points of FNIR to what is shipped; below zero is better. Its interval draws
people anew.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import data_folder
from benchmarks.run import main, note
from benchmarks.weights import WAYS, Looks, Way, fuse_by, plain
from demo.walkpast import render_walkpast
from edge.assembly import Eyes, open_eyes
from edge.camera.pictures import read_picture
from edge.config import QualityConfig, RecognitionConfig
from edge.errors import InputError
from edge.evaluate.bootstrap import Weights, draw_people, interval
from edge.evaluate.conditions import NAMES
from edge.evaluate.conditions import measure as conditions_of
from edge.evaluate.dataset import (
    Album,
    Embeddings,
    default_cache,
    embed_album,
    open_album,
    person_meant,
)
from edge.evaluate.figures import Figure, one
from edge.evaluate.openset import SEEDS, Cell, Draw, Fused, Runs, Trial, draw, run_trial
from edge.evaluate.thresholds import FPIR_TARGET, People, assign_roles
from edge.recognition.quality import examine
from edge.records import Image

FPIR = 100 * FPIR_TARGET
DOOR = {"door_2": Cell(300, 1, 2), "door_3": Cell(200, 1, 3), "references_3": Cell(200, 3, 1)}
"""Fused are the frames of the first two, the references of the third."""

WALKERS = 200
SEED = 20261124
FRAMES, FRAMES_PER_S = 32, 8.0
"""Four seconds, as the demo's walks."""

PARTS = {
    "first_3": slice(None, 3),
    "first_5": slice(None, 5),
    "first_10": slice(None, 10),
    "all": slice(None),
}
"""Of the good looks of a walk: after three the daemon first decides, and it fuses five."""


def measure(runs: int) -> Mapping[str, Figure]:
    """One run is enough: everything follows from the seed."""
    eyes = open_eyes(RecognitionConfig())
    folder = data_folder("lfw")
    album = open_album(folder)
    choosing = assign_roles(album, folder).choosing
    return of_door(eyes, album, choosing) | of_walks(eyes, album, choosing)


def of_door(eyes: Eyes, album: Album, choosing: People) -> dict[str, Figure]:
    """Photographs of several days, fused."""
    clear = of_people(embed_album(album, eyes.stills, eyes.embedder, default_cache()), choosing)
    door = of_people(embed_album(album, eyes.detector, eyes.embedder, default_cache(), "door"), choosing)
    seen, enrolled = Runs(door), Runs(clear)
    weights = draw_people(len(choosing))
    figures: dict[str, Figure] = {}
    for name, cell in DOOR.items():
        note(name)
        draws = [draw(seen, enrolled, cell, seed) for seed in SEEDS]
        if any(len(drawn.references.owners) < cell.enrolled for drawn in draws):
            raise InputError(f"{album.folder}: too few people for {cell.enrolled} enrolled")
        whole = [run_trial(drawn) for drawn in draws]  # as shipped
        figures[f"{name}_fnir"] = one(statistics.mean(map(fnir, whole)), "%")
        for way_name, way in WAYS.items():
            trials = [run_trial(weighted(drawn, door, clear, way)) for drawn in draws]
            figures[f"{name}_{way_name}"] = difference(trials, whole, weights)
    return figures


def of_people(embeddings: Embeddings, people: People) -> Embeddings:
    """Only the photographs of these people."""
    rows = np.flatnonzero(np.isin(embeddings.album.labels, people))
    return Embeddings(
        Album(embeddings.album.folder, tuple(embeddings.album.files[row] for row in rows)),
        embeddings.vectors[rows],
        embeddings.found[rows],
        {name: values[rows] for name, values in embeddings.measures.items()},
        embeddings.degradation,
    )


def weighted(drawn: Draw, door: Embeddings, clear: Embeddings, way: Way) -> Draw:
    """The same draw, but everything in it fused in another way; single photographs stay what they are."""
    return Draw(
        anew(drawn.references, clear, way), anew(drawn.probes, door, way), anew(drawn.strangers, door, way)
    )


def anew(fused: Fused, embeddings: Embeddings, way: Way) -> Fused:
    """The same runs of photographs, fused in another way."""
    measures = {name: values[fused.rows] for name, values in embeddings.measures.items()}
    looks = Looks(embeddings.vectors[fused.rows], embeddings.found[fused.rows], measures)
    return replace(fused, vectors=fuse_by(way, looks))


def difference(trials: Sequence[Trial], whole: Sequence[Trial], weights: Weights) -> Figure:
    """Of FNIR at FPIR, to what is shipped, in points; means of the seeds."""
    pairs = list(zip(trials, whole, strict=True))
    points = statistics.mean(fnir(way) - fnir(other) for way, other in pairs)
    redrawn = [way.redrawn_fnir(FPIR, weights) - other.redrawn_fnir(FPIR, weights) for way, other in pairs]
    return one(points, "points", interval(np.mean(redrawn, axis=0)))


def fnir(trial: Trial) -> float:
    """At FPIR; so many strangers are left that it can be told."""
    measured = trial.fnir(FPIR)
    assert measured is not None
    return measured


def of_walks(eyes: Eyes, album: Album, choosing: People) -> dict[str, Figure]:
    """Good looks at one walk, fused."""
    references, walks = [], []
    for number, (reference, photo) in enumerate(walkers(eyes, album, choosing)):
        if number % 20 == 0:
            note(f"walker {number} of {WALKERS}")
        references.append(reference)
        walks.append(list(good_looks(eyes, photo, number)))
    looks, enrolled = together(walks), np.stack(references)
    threshold = eyes.spec.threshold(len(enrolled))
    weights = draw_people(len(enrolled))
    figures = {
        "walkers": one(len(enrolled), ""),
        "walk_good_looks": one(float(np.median(looks.found.sum(axis=1))), ""),
    }
    for name, which in PARTS.items():
        whole = walk_trial(looks.part(which), enrolled, plain)
        redrawn = whole.redrawn_fnir_at(threshold, weights)
        figures[f"walk_{name}_fnir"] = one(whole.fnir_at(threshold), "%", interval(redrawn))
        for way_name, way in WAYS.items() if name in ("first_5", "all") else ():
            trial = walk_trial(looks.part(which), enrolled, way)
            points = trial.fnir_at(threshold) - whole.fnir_at(threshold)
            within = interval(trial.redrawn_fnir_at(threshold, weights) - redrawn)
            figures[f"walk_{name}_{way_name}"] = one(points, "points", within)
    return figures


def walkers(eyes: Eyes, album: Album, choosing: People) -> Iterator[tuple[NDArray[np.float32], Path]]:
    """The vector of one photograph and the path of another, of people drawn by SEED."""
    people = [rows for rows in (list(album.people.values())[who] for who in choosing) if len(rows) > 1]
    for who in np.random.default_rng(SEED).permutation(len(people))[:WALKERS]:
        first, second = (album.folder / album.files[row] for row in people[who][:2])
        image = read_picture(first)
        face = person_meant(eyes.stills.detect(image), image)
        if face is not None:
            yield eyes.embedder.embed(eyes.embedder.crops(image, face)), second


Look = tuple[NDArray[np.float32], tuple[float, ...]]
"""A vector, and its measures in the order of NAMES."""


def good_looks(eyes: Eyes, photo: Path, seed: int) -> Iterator[Look]:
    """Those at somebody who walks to the door which the daemon would embed."""
    picture = read_picture(photo)
    face = person_meant(eyes.stills.detect(picture), picture)
    if face is None:
        return
    for image in render_walkpast(photo, face.box, seed, FRAMES, frames_per_s=FRAMES_PER_S):
        yield from look_at(eyes, image)


def look_at(eyes: Eyes, image: Image) -> Iterator[Look]:
    """The largest face, if it is good enough."""
    face = max(eyes.detector.detect(image), key=lambda face: face.box.width_px, default=None)
    if face is not None and examine(image, face, QualityConfig()) is None:
        yield eyes.embedder.embed(eyes.embedder.crops(image, face)), conditions_of(image, face)


def together(walks: Sequence[Sequence[Look]]) -> Looks:
    """All walks as runs, the shorter ones with places where nobody was seen."""
    longest = max(map(len, walks))
    dimensions = next(len(vector) for walk in walks for vector, _ in walk)
    vectors = np.zeros((len(walks), longest, dimensions), np.float32)
    measures = np.ones((len(walks), longest, len(NAMES)), np.float32)
    found = np.arange(longest) < np.array([len(walk) for walk in walks])[:, np.newaxis]
    for run, walk in enumerate(walks):
        for place, (vector, measured) in enumerate(walk):
            vectors[run, place], measures[run, place] = vector, measured
    return Looks(vectors, found, {name: measures[..., column] for column, name in enumerate(NAMES)})


def walk_trial(looks: Looks, enrolled: NDArray[np.float32], way: Way) -> Trial:
    """Every walk against everybody's reference; nobody is a stranger."""
    who = np.arange(len(enrolled))
    nobody = Fused(enrolled[:0], who[:0], who[:0, np.newaxis])
    references = Fused(enrolled, who, who[:, np.newaxis])
    return run_trial(Draw(references, replace(references, vectors=fuse_by(way, looks)), nobody))


if __name__ == "__main__":
    main("fusion", measure)
