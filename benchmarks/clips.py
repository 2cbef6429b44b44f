"""What a frame of each real clip costs, and how many tracks, switches and fragments the tracker makes of it.

The clips lie in `$HADIR_DATA/video`; who is where in three of them is written down in
`tests/truth/`. A thousand people who do not exist are enrolled, so that matching costs
what it does at a door and every track stays open for as long as a stranger's does.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.road import PEOPLE
from benchmarks.run import main, note
from benchmarks.site import random_gallery
from benchmarks.truth import read_truth, tally
from edge.assembly import Eyes, build_road, open_eyes
from edge.config import CameraConfig, DecideConfig, QualityConfig, RecognitionConfig, TrackConfig
from edge.errors import InputError
from edge.evaluate.figures import Figure
from edge.recognition.decide import Decider
from edge.recognition.gallery import Gallery
from edge.replay import NobodyKeeps, Replay, Viewer, replay

CLIPS = (
    "walking.gif",
    "walking-and-pause.gif",
    "several-people-00.mp4",
    "stage.mp4",
    "distant-pedestrians.avi",
)

TRUTHS = Path(__file__).resolve().parents[1] / "tests/truth"


def measure(runs: int) -> Mapping[str, Figure]:
    """Every clip so many times; what was tracked is the same each time."""
    folder = data_folder("video")
    eyes = open_eyes(RecognitionConfig())
    gallery = random_gallery(PEOPLE, eyes)
    figures: dict[str, Figure] = {}
    for name in CLIPS:
        note(name)
        seen = [look_at(folder / name, eyes, gallery) for _ in range(runs)]
        key = Path(name).stem.replace("-", "_")
        figures |= {f"{key}_{what}": figure for what, figure in _times(seen).items()}
        figures |= {f"{key}_{what}": figure for what, figure in _tracks(seen, name).items()}
    return figures


def data_folder(name: str) -> Path:
    """A folder of the evaluation data. Raises InputError where HADIR_DATA does not lead to it."""
    folder = Path(os.environ.get("HADIR_DATA", "")) / name
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; set HADIR_DATA to the one that holds {name}/")
    return folder


def look_at(clip: Path, eyes: Eyes, gallery: Gallery) -> Replay:
    """The daemon's own road on one clip, with its default settings."""
    decide, track = DecideConfig(), TrackConfig()
    threshold = eyes.spec.threshold(len(gallery.people))
    decider = Decider(decide, gallery, threshold)
    road = build_road(eyes, track, QualityConfig(), decider, NobodyKeeps())
    viewer = Viewer(road, CameraConfig(), decide, track.lost_after_ms, threshold, with_gallery=True)
    return replay(viewer, str(clip), lambda: None, keep_glimpses=True)


def _times(seen: list[Replay]) -> dict[str, Figure]:
    """Of all frames of a run the median and the 95th percentile."""
    medians = [statistics.median(run.road_ms) for run in seen]
    p95s = [float(np.percentile(run.road_ms, 95)) for run in seen]
    return {"frame_ms": Figure("ms", tuple(medians)), "frame_p95_ms": Figure("ms", tuple(p95s))}


def _tracks(seen: list[Replay], name: str) -> dict[str, Figure]:
    counts: dict[str, list[float]] = {
        "frames": [len(run.times_ms) for run in seen],
        "tracks": [len(run.tracks) for run in seen],
    }
    truth_file = (TRUTHS / name).with_suffix(".txt")
    if truth_file.exists():
        truth = read_truth(truth_file)
        sightings = [[[g.sighting for g in frame] for frame in run.glimpses] for run in seen]
        tallies = [tally(truth, frames) for frames in sightings]
        counts["appearances"] = [found.appearances for found in tallies]
        counts["switches"] = [found.switches for found in tallies]
        counts["fragments"] = [found.fragments for found in tallies]
    return {what: Figure("", tuple(values)) for what, values in counts.items()}


if __name__ == "__main__":
    main("clips", measure)
