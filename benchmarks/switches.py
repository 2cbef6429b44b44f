"""How surely another person on a track is noticed, and how often a track of one person is parted.

Tracks are made of looks that the daemon's own stages embed:

- LFW (`$HADIR_DATA/lfw`), people who have a part in choosing settings: every look is one
  photograph seen through `--degrade door` anew, so that the looks of a track differ in size,
  blur, light and noise. A second photograph of the person, taken on another day, makes a
  track that is harder to hold together than any real one.
- NUAA's webcam sessions (`$HADIR_DATA/pad-print`, live frames): real looks at one person,
  about a second apart, and at nine people before one camera in one light.

A newcomer is caught if the second look at them parts the track. Nothing is worse than a
look of theirs that is taken for the first person's: those are counted as mixed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from benchmarks.clips import data_folder
from benchmarks.run import main, note
from edge.assembly import Eyes, open_eyes, same_person
from edge.camera.pictures import read_picture
from edge.config import QualityConfig, RecognitionConfig
from edge.evaluate.dataset import Album, open_album, person_meant
from edge.evaluate.degrade import see_through_door_camera
from edge.evaluate.figures import Figure, one
from edge.evaluate.thresholds import assign_roles
from edge.recognition.appearance import Appearance
from edge.recognition.quality import examine
from edge.records import Image, Vector

TRACKS = 80
"""Pairs of people of LFW."""

LOOKS = 8
SEED = 20261124

OTHERS = (0.40, 0.45, 0.55, 0.60)
"""Similarities tried beside the daemon's own."""

Looks = Sequence[Vector]


@dataclass(frozen=True, slots=True)
class Trial:
    """Looks at three things: one person, the same person on another day, and somebody else."""

    person: Looks
    another_day: Looks
    newcomer: Looks


def measure(runs: int) -> Mapping[str, Figure]:
    """One run is enough: everything follows from the seed."""
    eyes = open_eyes(RecognitionConfig())
    trials = lfw_trials(eyes, data_folder("lfw"))
    sessions = webcam_sessions(eyes, data_folder("pad-print"))
    figures: dict[str, Figure] = {"tracks": one(len(trials), ""), "sessions": one(len(sessions), "")}
    shipped = same_person(eyes.spec)
    figures["same"] = one(shipped, "")
    for same in (shipped, *OTHERS):
        suffix = "" if same == shipped else f"_at_{same:.2f}"
        told = of_lfw(trials, same) | of_sessions(sessions, same)
        figures |= {f"{what}{suffix}": one(value, "%") for what, value in told.items()}
    return figures


def of_lfw(trials: Sequence[Trial], same: float) -> dict[str, float]:
    """Shares in percent of the tracks of LFW."""
    mixed, caught = np.transpose(
        [switch(trial.person[:known], trial.newcomer, same) for trial in trials for known in (1, 3, 5)]
    )
    return {
        "caught": 100 * float(caught.mean()),
        "mixed": 100 * float(mixed.mean()),
        "parted": _percent(parted(trial.person, same) for trial in trials),
        "doubted": _percent(doubted for trial in trials for doubted in doubts(trial.person, same)),
        "parted_another_day": _percent(parted((*trial.person, *trial.another_day), same) for trial in trials),
    }


def of_sessions(sessions: Mapping[tuple[str, str], Looks], same: float) -> dict[str, float]:
    """The same of the webcam's: every session as a track, and every two people as a switch."""
    mixed, caught = np.transpose(
        [
            switch(sessions[first][:5], sessions[second][:LOOKS], same)
            for first, second in permutations(sessions, 2)
            if first[0] != second[0]
        ]
    )
    return {
        "webcam_caught": 100 * float(caught.mean()),
        "webcam_mixed": 100 * float(mixed.mean()),
        "webcam_parted": _percent(parted(looks, same) for looks in sessions.values()),
        "webcam_doubted": _percent(d for looks in sessions.values() for d in doubts(looks, same)),
    }


def parted(looks: Looks, same: float) -> bool:
    """Whether a track of these looks is parted anywhere."""
    appearance = Appearance()
    return any(appearance.compare(look, same).another for look in looks)


def doubts(looks: Looks, same: float) -> list[bool]:
    """Of each look whether it is doubted at first."""
    appearance = Appearance()
    return [not appearance.compare(look, same).accepted for look in looks]


def switch(before: Looks, after: Looks, same: float) -> tuple[bool, bool]:
    """Whether any look of a newcomer is taken for the first person's, and whether the second parts the track."""
    appearance = Appearance()
    for look in before:
        appearance.compare(look, same)
    found = [appearance.compare(look, same) for look in after]
    until = next((number for number, seen in enumerate(found) if seen.another), len(found))
    return any(seen.accepted for seen in found[:until]), until == 1


def lfw_trials(eyes: Eyes, folder: Path) -> list[Trial]:
    """Pairs of people drawn by SEED from those of `edge.evaluate.thresholds` who may choose settings."""
    album = open_album(folder)
    rng = np.random.default_rng(SEED)
    names = np.array(list(album.people))[assign_roles(album, folder).choosing]
    several = [name for name in names if len(album.people[name]) > 1]
    trials: list[Trial] = []
    for number, person in enumerate(rng.permutation(several)[:TRACKS]):
        newcomer = rng.choice([name for name in names if name != person])
        first, second = album.people[person][:2]
        rows = (first, second, album.people[newcomer][0])
        found = [looks_at(eyes, album, row, rng) for row in rows]
        if all(len(looks) == LOOKS for looks in found):
            trials.append(Trial(*found))
        if number % 50 == 0:
            note(f"{number} of {TRACKS} tracks")
    return trials


def looks_at(eyes: Eyes, album: Album, row: int, rng: np.random.Generator) -> list[Vector]:
    """A photograph through LOOKS door cameras; fewer where a face is not found or not good enough."""
    image = read_picture(album.folder / album.files[row])
    face = person_meant(eyes.detector.detect(image), image)
    if face is None:
        return []
    degraded = (see_through_door_camera(image, face, rng) for _ in range(LOOKS))
    return [vector for picture in degraded for vector in look_at(eyes, picture)]


def look_at(eyes: Eyes, image: Image) -> list[Vector]:
    """The vector of the face in the middle, if the daemon would embed it."""
    face = person_meant(eyes.detector.detect(image), image)
    if face is None or examine(image, face, QualityConfig()) is not None:
        return []
    return [eyes.embedder.embed(eyes.embedder.crops(image, face))]


def webcam_sessions(eyes: Eyes, folder: Path) -> Mapping[tuple[str, str], Looks]:
    """The live frames of each subject and session, in order of time."""
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "live"]
    sessions: dict[tuple[str, str], list[Vector]] = {}
    for row in sorted(rows, key=lambda row: int(Path(row["file"]).stem.split("_")[-1])):
        looks = look_at(eyes, read_picture(folder / row["file"]))
        sessions.setdefault((row["subject"], row["session"]), []).extend(looks)
    return sessions


def _percent(cases: Iterable[bool]) -> float:
    return 100 * float(np.mean([float(case) for case in cases]))


if __name__ == "__main__":
    main("switches", measure)
