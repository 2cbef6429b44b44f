"""How long after the frame that completed the evidence the broker's acknowledgement is handled.

The real daemon with its default models watches a clip in live pace, over the embedded
broker on loopback. Nothing is measured from inside: each event carries the capture time
of the frame that completed its evidence (`mono_ms`), and the outbox notes when its PUBACK
was handled, just before that is committed. So the figure spans waiting for the camera,
detection, embedding, decision, signature, commit, publishing and the broker.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

from benchmarks.road import PEOPLE
from benchmarks.run import daemon, main, note
from benchmarks.site import FRAMES_PER_S, SEED, make_site, random_gallery
from demo.broker import embedded_broker
from demo.door import walk
from demo.people import sample_people
from demo.walkpast import empty_corridor, write_clip
from edge.assembly import Eyes, open_eyes
from edge.config import RecognitionConfig
from edge.evaluate.figures import Figure
from edge.recognition.gallery import Gallery, make_gallery
from edge.records import Image
from edge.trust.jws import parse_object
from edge.trust.tokens import ATTENDANCE, parse_event
from provisioning.enrol import enrol

PASSES = 50
"""Attendances in a run; the bar asks for at least 40."""

FIRST_FRAME, FRAMES, EMPTY_FRAMES = 22, 5, 4
"""The near part of a walk of 48 frames, and a corridor that stays empty until the track is over."""

SETTINGS = """\
[decide]
cooldown_s = 0
[track]
lost_after_ms = 250
"""


def measure(runs: int) -> Mapping[str, Figure]:
    """Median, 95th percentile and worst of each run, over so many runs."""
    eyes = open_eyes(RecognitionConfig())
    gallery = somebody_among(eyes, PEOPLE)
    collected: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        clip = Path(name) / "passes.avi"
        write_clip(clip, passes(eyes), FRAMES_PER_S)
        for run in range(runs):
            note(f"run {run + 1} of {runs}: {PASSES} walk-pasts in live pace")
            times = watch(Path(name) / f"site-{run}", gallery, clip)
            figures = {
                "evidence_to_puback_p50_ms": statistics.median(times),
                "evidence_to_puback_p95_ms": statistics.quantiles(times, n=20)[-1],
                "evidence_to_puback_max_ms": max(times),
            }
            for key, value in figures.items():
                collected.setdefault(key, []).append(value)
    return {key: Figure("ms", tuple(values)) for key, values in collected.items()}


def watch(folder: Path, gallery: Gallery, clip: Path) -> list[float]:
    """The latency of each attendance of one run of the daemon, in milliseconds."""
    with embedded_broker() as url:
        _, config = make_site(folder, gallery, url, clip, SETTINGS)
        with daemon(config) as watching:
            watching.wait_for("stopped:")
        real_minus_mono_ms = time.time() * 1000 - time.clock_gettime(time.CLOCK_BOOTTIME) * 1000
    with closing(sqlite3.connect(config.parent / "state" / "outbox.db")) as outbox:
        rows = outbox.execute("SELECT token, acked_real_ms FROM event ORDER BY seq").fetchall()
    events = [(parse_event(parse_object(token.split(".")[1].encode(), "payload")), at) for token, at in rows]
    times = [at - real_minus_mono_ms - event.mono_ms for event, at in events if event.type == ATTENDANCE]
    if len(times) != PASSES:
        raise RuntimeError(f"{len(times)} attendances of {PASSES} walk-pasts")
    return times


def somebody_among(eyes: Eyes, people: int) -> Gallery:
    """The person of the clip, enrolled from other photographs, among so many who do not exist."""
    others = random_gallery(people - 1, eyes)
    template = enrol(eyes, "P44", sample_people()["P44"][:2], others).template
    return make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, others.templates() | {"P44": template})


def passes(eyes: Eyes) -> Iterator[Image]:
    """Somebody appears near the door, is recognised, and is gone, again and again."""
    walking = walk(eyes, sample_people()["P44"][2], SEED, frames_per_s=FRAMES_PER_S)
    near = list(islice(walking, FIRST_FRAME, FIRST_FRAME + FRAMES))
    empty = list(empty_corridor(SEED, EMPTY_FRAMES))
    for _ in range(PASSES):
        yield from near
        yield from empty


if __name__ == "__main__":
    main("latency", measure)
