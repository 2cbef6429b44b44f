"""What one frame costs on its way from decoded picture to match, and what the daemon costs as a whole.

`road_to_models_ratio` is the road against the bare model invocations that it makes, each
measured in turn with the other in the same loop, so that a machine that slows down slows
both. Signing and commit happen once an attendance and stand apart.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.run import daemon, main, note
from benchmarks.site import (
    empty_clip,
    make_site,
    now_ms,
    one_face_640x480,
    random_gallery,
    walk_clip,
)
from demo.broker import embedded_broker
from edge.assembly import Eyes, open_eyes, same_person
from edge.board.clock import Clock
from edge.config import DecideConfig, QualityConfig, RecognitionConfig, TrackConfig
from edge.evaluate.figures import Figure
from edge.pipeline import Road
from edge.recognition.decide import Decider
from edge.recognition.gallery import Gallery
from edge.recognition.manifest import load_manifest
from edge.recognition.match import best_match
from edge.recognition.tflite import Network
from edge.recognition.track import Tracker
from edge.records import Attack, Attendance, Direction, Frame, Image
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, sign
from edge.trust.tokens import EVENT_TYP
from edge.uplink.outbox import Outbox
from edge.uplink.recorder import Recorder

PEOPLE = 1000
LOOPS = 100
EVENTS = 50
WATCH_S = 10
SETTLE_S = 3

Durations = dict[str, list[float]]


def measure(runs: int) -> Mapping[str, Figure]:
    """All figures, each the median of a run, over so many runs."""
    eyes = open_eyes(RecognitionConfig())
    gallery = random_gallery(PEOPLE, eyes)
    picture = one_face_640x480(eyes)
    collected: Durations = {}
    for run in range(runs):
        note(f"run {run + 1} of {runs}: stages")
        figures = stages(eyes, gallery, picture) | storing()
        note(f"run {run + 1} of {runs}: daemon")
        figures |= whole_daemon(eyes, gallery)
        for key, value in figures.items():
            collected.setdefault(key, []).append(value)
    return {key: Figure(_unit(key), tuple(values)) for key, values in collected.items()}


def stages(eyes: Eyes, gallery: Gallery, picture: Image) -> dict[str, float]:
    """Medians of each stage, of the whole road and of the bare models, measured in turn."""
    walk = endless_road(eyes, gallery)
    models = bare_models(eyes)
    face = eyes.detector.detect(picture)[0]
    crops = eyes.embedder.crops(picture, face)
    vector = eyes.embedder.embed(crops)
    steps: dict[str, Callable[[], object]] = {
        "detect_ms": lambda: eyes.detector.detect(picture),
        "align_ms": lambda: eyes.embedder.crops(picture, face),
        "embed_ms": lambda: eyes.embedder.embed(crops),
        "match_ms": lambda: best_match(vector, gallery),
        "road_ms": lambda: walk(picture),
        "models_ms": models,
    }
    medians = {name: statistics.median(times) for name, times in in_turn(steps, LOOPS).items()}
    medians["road_to_models_ratio"] = medians["road_ms"] / medians["models_ms"]
    medians["frames_per_s"] = 1000 / medians["road_ms"]
    return medians


def in_turn(steps: Mapping[str, Callable[[], object]], loops: int) -> Durations:
    """Milliseconds of each step; one of each a loop, after ten loops to warm up."""
    times: Durations = {name: [] for name in steps}
    for loop in range(loops + 10):
        for name, step in steps.items():
            begin = now_ms()
            step()
            if loop >= 10:  # noqa: PLR2004 - the warm-up
                times[name].append(now_ms() - begin)
    return times


def endless_road(eyes: Eyes, gallery: Gallery) -> Callable[[Image], None]:
    """The daemon's own road on one picture again and again, as one track that is never settled."""
    never = DecideConfig(max_good_frames=10**9)
    road = Road(
        detector=eyes.detector,
        tracker=Tracker(TrackConfig(), same=same_person(eyes.spec)),
        quality=QualityConfig(),
        embedder=eyes.embedder,
        decider=Decider(never, gallery, threshold=2.0),
        recorder=_NO_RECORDER,
    )
    number = 0

    def walk(picture: Image) -> None:
        nonlocal number
        number += 1
        passage = road.walk(Frame(image=picture, captured_mono_ms=100 * number, number=number))
        assert passage.faces == 1

    return walk


def bare_models(eyes: Eyes) -> Callable[[], None]:
    """The same model invocations with ready-made input, and nothing around them."""
    folder = load_manifest().folder
    # The second look at a face is one at it and one at its mirror image (edge/recognition/refine.py).
    looks = (eyes.spec.detector, eyes.spec.refiner, eyes.spec.refiner)
    networks = [Network(spec, folder) for spec in (*looks, *eyes.spec.models)]
    inputs = [
        network.quantise(np.random.default_rng(1).normal(size=network.spec.input_shape).astype(np.float32))
        for network in networks
    ]

    def invoke() -> None:
        for network, tensor in zip(networks, inputs, strict=True):
            network.run(tensor)

    return invoke


def storing() -> dict[str, float]:
    """What an attendance costs after the match: the signature, and the commit with it on this disk."""
    identity = DeviceIdentity("door-01", "hq", SigningKey.generate())
    claims = {"iss": identity.issuer, "filler": "x" * 500}
    someone = Attendance(track=1, person="E1", frames=3, similarity=0.7, margin=0.5, seen_mono_ms=1)
    with tempfile.TemporaryDirectory() as folder, Outbox(Path(folder) / "outbox.db") as outbox:
        recorder = Recorder(outbox, identity, Clock(), Direction.IN, "e" * 64, 1, diagnostics=False)
        times = in_turn(
            {
                "sign_ms": lambda: sign(claims, identity.key, EVENT_TYP),
                "commit_ms": lambda: recorder.attendance(someone),
            },
            EVENTS,
        )
    return {name: statistics.median(durations) for name, durations in times.items()}


def whole_daemon(eyes: Eyes, gallery: Gallery) -> dict[str, float]:
    """Start-up, memory with somebody walking past, and the cost of an empty corridor."""
    with tempfile.TemporaryDirectory() as name, embedded_broker() as url:
        folder = Path(name)
        clip = walk_clip(folder / "walk.avi", eyes, SETTLE_S + WATCH_S)
        _, config = make_site(folder / "busy", gallery, url, clip)
        with daemon(config) as watching:
            cold_start_s = watching.wait_for("first frame processed")
            resident_mb = watching.most_resident_mb(WATCH_S)
        quiet = empty_clip(folder / "empty.avi", SETTLE_S + WATCH_S + 5)
        _, config = make_site(folder / "idle", gallery, url, quiet)
        with daemon(config) as watching:
            watching.wait_for("first frame processed")
            idle = watching.cpu_share(SETTLE_S, WATCH_S)
    return {"resident_mb": resident_mb, "cold_start_s": cold_start_s, "idle_core_percent": 100 * idle}


def _unit(key: str) -> str:
    endings = {"_ms": "ms", "_ratio": "times", "_per_s": "1/s", "_mb": "MB", "_s": "s", "_percent": "%"}
    return next(unit for ending, unit in endings.items() if key.endswith(ending))


class _NoRecorder:
    """Stands where the outbox would; the road never gets there, and says so if it does."""

    def attendance(self, attendance: Attendance) -> None:
        raise AssertionError("the endless road must not decide")

    def attack(self, attack: Attack) -> None:
        raise AssertionError("the endless road must not decide")


_NO_RECORDER: Recorder = _NoRecorder()  # type: ignore[assignment]


if __name__ == "__main__":
    main("road", measure)
