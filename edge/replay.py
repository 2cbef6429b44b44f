"""Takes a recording along the daemon's own road and tells what became of everybody in it.

For whoever aims a camera, or asks why somebody was not recognised. Nothing leaves and
nothing is kept: there is no broker, and attendances go to nobody instead of the outbox.
Only the annotated clip is written, if one is asked for. It shows faces and ids, so it is
readable by its owner alone.

The clip is played twice: a track's reason is known only when it ends, and the pictures of
a long clip do not fit in memory. Recognition runs once, the first time; the second time
only draws.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.annotate import Look, Mark, annotate
from edge.assembly import Guard, build_road, open_eyes, open_gallery, open_liveness, threshold_for
from edge.camera import is_stream, open_camera
from edge.camera.replay import claimed_frames
from edge.clip import ClipWriter, frames_per_s, new_clip
from edge.config import (
    CameraConfig,
    Config,
    DecideConfig,
    LivenessConfig,
    QualityConfig,
    RecognitionConfig,
    TrackConfig,
)
from edge.errors import BadImage, InputError
from edge.evaluate.progress import Progress
from edge.pipeline import Passage, Road
from edge.recognition.decide import Decider
from edge.recognition.gallery import make_gallery
from edge.recognition.quality import assess
from edge.records import (
    Attack,
    Attendance,
    Frame,
    Image,
    Judgement,
    Match,
    NoAttendance,
    Sighting,
    Standing,
    TrackEnd,
)
from edge.replay_words import live_lines, measured, words
from edge.trust.fleetkeys import load_keys_document

FINAL_MS = 1000
"""For so long before a face is last seen, what became of its track is shown instead of how it stood."""

NO_GALLERY = "no-gallery"
"""The outcome where nobody could be recognised because nobody was loaded: not the daemon's, but replay's own."""

Tell = Callable[[], None]
"""Called after each frame."""


@dataclass(frozen=True, slots=True)
class NobodyKeeps:
    """Takes the outbox's place on the road: what is only looked at is not an event."""

    def attendance(self, attendance: Attendance, /) -> None:
        """Let it go; the passage tells of it."""

    def attack(self, attack: Attack, /) -> None:
        """Let it go, too."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """A road to look at, and what is needed to say why it decides as it does."""

    road: Road
    camera: CameraConfig
    decide: DecideConfig
    lost_after_ms: int
    threshold: float
    with_gallery: bool


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One face in one frame, and how its track stood then."""

    sighting: Sighting
    standing: Standing


@dataclass(frozen=True, slots=True)
class TrackReport:
    """What became of one track. Times are milliseconds from the clip's first frame."""

    track: int
    frames: int
    good_frames: int
    outcome: str
    """`attendance`, a NoAttendance, or NO_GALLERY."""
    match: Match | None
    """Of the fused evidence; with an attendance, of the frame that completed it. None without enough of it."""
    from_ms: int
    to_ms: int
    attendance_ms: int | None
    judgement: Judgement | None = None
    """Of liveness; None where nobody asked, because nobody was recognised."""

    @property
    def person(self) -> str | None:
        """Who was recognised."""
        return self.match.person if self.match is not None and self.outcome == "attendance" else None


@dataclass(slots=True)
class Replay:
    """Everything that was seen the first time."""

    tracks: list[TrackReport] = field(default_factory=list)
    """In the order in which they ended."""
    glimpses: list[tuple[Glimpse, ...]] = field(default_factory=list)
    """For each frame, if they were asked for."""
    times_ms: list[int] = field(default_factory=list)
    """Of each frame, from the first."""
    road_ms: list[float] = field(default_factory=list)
    """What each frame took on the road."""
    bad_frames: int = 0
    """Frames that were not pictures, and were left out as the daemon leaves them out."""


def show(config: Config | None, source: str, out: Path | None, *, as_json: bool) -> None:
    """Replay a recording, print a line for each track, and write the annotated clip if one is named.

    What costs nothing is checked first. Standard output has the tracks; with `as_json`
    nothing else, and the summary goes to standard error.

    Raises:
        FixSetup: source, clip or the board's own files cannot be used.
    """
    if is_stream(source):
        # Not repeated: it may have a password in it.
        raise InputError("replay plays recordings, not streams; record the stream (rtsp://…) to a file first")
    claimed = claimed_frames((source,), 0.0 if config is None else config.camera.frames_per_s)
    with nullcontext() if out is None else new_clip(out, source) as clip:
        viewer = open_viewer(config)
        if not viewer.with_gallery:
            print(
                "no gallery: nobody can be recognised; name a board's configuration with --config",
                file=sys.stderr,
            )
        with _progress("looking", claimed) as tell:
            seen = replay(viewer, source, tell, keep_glimpses=clip is not None)
        _print(seen, as_json=as_json)
        if clip is not None:
            with _progress("drawing", len(seen.times_ms)) as tell:
                annotate_clip(viewer, source, seen, clip, tell)


def _print(seen: Replay, *, as_json: bool) -> None:
    tracks = sorted(seen.tracks, key=lambda track: track.track)
    if tracks and not as_json:
        print(HEADING)
    for track in tracks:
        print(json_line(track) if as_json else text_line(track))
    print(summary(seen), file=sys.stderr if as_json else sys.stdout, flush=True)


@contextmanager
def _progress(task: str, total: int) -> Iterator[Tell]:
    """A bar on a terminal, nothing anywhere else. A header may claim too few frames; the bar then stays full."""
    if not sys.stderr.isatty() or not total:
        yield lambda: None
        return
    with Progress(task, total) as progress:
        steps = iter(range(total))

        def tell() -> None:
            if next(steps, None) is not None:
                progress.step()

        yield tell


def open_viewer(config: Config | None) -> Viewer:
    """The road of a configured board, or without a configuration one with default settings and nobody enrolled.

    Needs the board's public parts only: keys document, gallery and models, no private key.

    Raises:
        FixSetup: keys document, gallery, models or configuration cannot be used.
    """
    if config is None:
        recognition, limits = RecognitionConfig(), LivenessConfig()
        eyes = open_eyes(recognition)
        decide, quality, track, camera = DecideConfig(), QualityConfig(), TrackConfig(), CameraConfig()
        gallery = make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, {})
    else:
        keys = load_keys_document(config.device.keys_file, config.device.root_thumbprint)
        recognition, limits = config.recognition, config.liveness
        eyes = open_eyes(recognition)
        decide, quality, track, camera = config.decide, config.quality, config.track, config.camera
        gallery = open_gallery(config.device, keys, eyes.embedder.id)
    threshold = threshold_for(decide, eyes.spec, gallery)
    decider, guard = Decider(decide, gallery, threshold), Guard(open_liveness(limits, recognition))
    road = build_road(eyes, track, quality, decider, NobodyKeeps(), guard)
    return Viewer(road, camera, decide, track.lost_after_ms, threshold, with_gallery=config is not None)


def replay(viewer: Viewer, source: str, tell: Tell, *, keep_glimpses: bool = False) -> Replay:
    """Take every frame of a video, GIF, picture or folder along the road, as fast as it goes.

    Raises:
        InputError: the source is missing, or nothing of it can be played.
    """
    seen = Replay()
    running: dict[int, _Running] = {}
    began_ms = 0
    for frame in frames_of(viewer.camera, source):
        if not seen.times_ms:
            began_ms = frame.captured_mono_ms
        at_ms = frame.captured_mono_ms - began_ms
        passage = _walk(viewer.road, frame, seen)
        glimpses = tuple(
            Glimpse(sighting, viewer.road.decider.standing(sighting.track)) for sighting in passage.sightings
        )
        for glimpse in glimpses:
            running.setdefault(glimpse.sighting.track, _Running(at_ms)).see(glimpse, at_ms)
        for attendance in passage.attendances:
            running[attendance.track].attendance_ms = at_ms
        seen.times_ms.append(at_ms)
        if keep_glimpses:
            seen.glimpses.append(glimpses)
        seen.tracks += [_report(end, running.pop(end.track), viewer) for end in passage.ended]
        tell()
    seen.tracks += [_report(end, running.pop(end.track), viewer) for end in viewer.road.finish()]
    return seen


def frames_of(camera: CameraConfig, source: str) -> Iterator[Frame]:
    """A recording's frames through the configured camera: with its rate limit, without waiting.

    Raises:
        InputError: missing, or nothing of it can be played.
    """
    settings = dataclasses.replace(camera, kind="replay", sources=(source,), pace="fast", at_end="stop")
    with open_camera(settings, threading.Event()) as recording:
        while (frame := recording.read()) is not None:
            yield frame


@dataclass(slots=True)
class _Running:
    """A track that is not over."""

    from_ms: int
    to_ms: int = 0
    match: Match | None = None
    judgement: Judgement | None = None
    attendance_ms: int | None = None

    def see(self, glimpse: Glimpse, at_ms: int) -> None:
        self.to_ms = at_ms
        self.match = glimpse.standing.match
        self.judgement = glimpse.standing.judgement


def _walk(road: Road, frame: Frame, seen: Replay) -> Passage:
    began_s = time.perf_counter()
    try:
        passage = road.walk(frame)
    except BadImage:
        seen.bad_frames += 1
        return Passage(0, (), (), (), (), ())
    seen.road_ms.append((time.perf_counter() - began_s) * 1000)
    return passage


def _report(end: TrackEnd, running: _Running, viewer: Viewer) -> TrackReport:
    outcome = "attendance" if end.outcome is None else str(end.outcome)
    if end.outcome is NoAttendance.NO_MATCH and not viewer.with_gallery:
        outcome = NO_GALLERY
    return TrackReport(
        track=end.track,
        frames=end.frames,
        good_frames=end.good_frames,
        outcome=outcome,
        match=running.match,
        judgement=running.judgement,
        from_ms=running.from_ms,
        to_ms=running.to_ms,
        attendance_ms=running.attendance_ms,
    )


def json_line(track: TrackReport) -> str:
    """A track as one line of JSON. `nearest` is whom similarity and margin are about, recognised or not."""
    match = track.match
    told: dict[str, Any] = {
        "track": track.track,
        "frames": track.frames,
        "good_frames": track.good_frames,
        "outcome": track.outcome,
        "person": track.person,
        "nearest": None if match is None else match.person,
        "similarity": None if match is None else round(match.similarity, 4),
        "liveness": None if (live := _liveness(track.judgement)) is None else round(live, 4),
        "margin": None if match is None or _alone(match) else round(match.margin, 4),
        "from_s": track.from_ms / 1000,
        "to_s": track.to_ms / 1000,
        "attendance_s": None if track.attendance_ms is None else track.attendance_ms / 1000,
    }
    return json.dumps(told)


def _liveness(judgement: Judgement | None) -> float | None:
    return None if judgement is None else judgement.liveness


def _alone(match: Match) -> bool:
    """Whether nobody else is enrolled, so that a margin would be to nobody."""
    return match.runner_up_similarity <= -1


HEADING = "track  frames  good  time in clip      outcome"


def text_line(track: TrackReport) -> str:
    """A track as one line beneath HEADING."""
    span = f"{track.from_ms / 1000:.1f} to {track.to_ms / 1000:.1f} s"
    told = words(track.outcome) if track.person is None else f"attendance of {track.person}"
    if track.attendance_ms is not None:
        told += f" at {track.attendance_ms / 1000:.1f} s"
    if track.match is not None:
        relation = "again" if track.outcome == NoAttendance.COOLDOWN else "nearest"
        whom = "" if track.person is not None else f"{relation} {track.match.person}, "
        margin = "nobody else enrolled" if _alone(track.match) else f"margin {track.match.margin:.2f}"
        told += f" ({whom}similarity {track.match.similarity:.2f}, {margin})"
    return f"{track.track:5}  {track.frames:6}  {track.good_frames:4}  {span:<16}  {told}"


def summary(seen: Replay) -> str:
    """How many frames and tracks, and what a frame took."""
    outcomes = Counter(words(track.outcome) for track in seen.tracks)
    told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    text = f"{len(seen.times_ms)} frames, {seen.times_ms[-1] / 1000:.1f} s; tracks: {told or 'none'}"
    if seen.bad_frames:
        text += f"; {seen.bad_frames} frames were not pictures and were left out"
    if seen.road_ms:
        median, p95 = np.percentile(seen.road_ms, (50, 95))
        text += f"; a frame took {median:.1f} ms (median), {p95:.1f} ms (95th percentile)"
    return text


def annotate_clip(viewer: Viewer, source: str, seen: Replay, out: Path, tell: Tell) -> None:
    """Play the recording again and write it to `out`, an empty file, with all that was seen drawn in.

    Raises:
        InputError: the file cannot be written as a video.
    """
    drawing = Drawing(viewer, seen)
    clip = ClipWriter(out, frames_per_s(seen.times_ms))
    try:
        for number, frame in enumerate(frames_of(viewer.camera, source)):
            clip.write(drawing.draw(frame.image, number))
            tell()
    finally:
        clip.close()
    clip.check()


class Drawing:
    """Knows, for each frame, what is to be drawn: who is in it, who was a moment ago, and what became of them."""

    def __init__(self, viewer: Viewer, seen: Replay) -> None:
        self._viewer = viewer
        self._seen = seen
        self._reports = {track.track: track for track in seen.tracks}
        self._latest: dict[int, tuple[int, Mark]] = {}
        """Track to when it was last seen, and how it was drawn then."""

    def draw(self, image: Image, number: int) -> Image:
        """The picture of this frame, annotated. Frames must come in order."""
        marks = self.marks(image, number)
        return annotate(image, marks, f"{self._seen.times_ms[number] / 1000:.2f} s  frame {number}")

    def marks(self, image: Image, number: int) -> list[Mark]:
        """What is drawn on this frame. Frames must come in order."""
        at_ms = self._seen.times_ms[number]
        now = {
            glimpse.sighting.track: (at_ms, self._mark(image, glimpse, at_ms))
            for glimpse in self._seen.glimpses[number]
        }
        held = {
            track: (seen_ms, self._held(track, mark, at_ms))
            for track, (seen_ms, mark) in self._latest.items()
            if track not in now and at_ms - seen_ms <= self._viewer.lost_after_ms
        }
        self._latest = now | held  # in this order, so that whoever is there gets the better place
        return [mark for _, mark in self._latest.values()]

    def _mark(self, image: Image, glimpse: Glimpse, at_ms: int) -> Mark:
        report, standing = self._reports[glimpse.sighting.track], glimpse.standing
        if standing.outcome is None:
            look, lines = Look.ATTENDANCE, self._attendance_lines(report)
        elif self._ending(report, at_ms) or not standing.open:
            look, lines = Look.NO_ATTENDANCE, self._final_lines(report)
        else:
            look, lines = Look.UNDECIDED, self._open_lines(image, glimpse)
        return Mark(glimpse.sighting.face.box, look, _numbered(report, lines))

    def _held(self, track: int, mark: Mark, at_ms: int) -> Mark:
        report = self._reports[track]
        if mark.look is Look.UNDECIDED and self._ending(report, at_ms):
            return Mark(
                mark.box, Look.NO_ATTENDANCE, _numbered(report, self._final_lines(report)), seen=False
            )
        return dataclasses.replace(mark, seen=False)

    def _ending(self, report: TrackReport, at_ms: int) -> bool:
        return report.attendance_ms is None and at_ms > report.to_ms - FINAL_MS

    def _attendance_lines(self, report: TrackReport) -> tuple[str, ...]:
        lines = (f"attendance: {report.person}", *self._match_lines(report.match))
        return (*lines, *live_lines(report.judgement))

    def _final_lines(self, report: TrackReport) -> tuple[str, ...]:
        """Why there is no attendance."""
        outcome = f"no attendance: {words(report.outcome)}"
        if report.match is None:
            return (outcome,)
        if report.outcome == NoAttendance.COOLDOWN:
            whom = f"{report.match.person} again within {self._viewer.decide.cooldown_s:g} s"
        else:
            whom = f"nearest {report.match.person}"
        return (outcome, whom, *self._match_lines(report.match), *live_lines(report.judgement))

    def _open_lines(self, image: Image, glimpse: Glimpse) -> tuple[str, ...]:
        """What is still missing."""
        standing = glimpse.standing
        if standing.unfit is not None:
            return (self._unfit_line(image, glimpse.sighting, standing.unfit),)
        if standing.match is not None:
            lines = (f"{standing.match.person}?", *self._match_lines(standing.match))
            return (*lines, *live_lines(standing.judgement))
        return (f"good frame {standing.good_frames} of {self._viewer.decide.min_good_frames}",)

    def _match_lines(self, match: Match | None) -> tuple[str, ...]:
        if match is None:
            return ()
        similarity = f"similarity {match.similarity:.2f} (needs {self._viewer.threshold:.2f})"
        if _alone(match):
            return (similarity,)
        return similarity, f"margin {match.margin:.2f} (needs {self._viewer.decide.min_margin:.2f})"

    def _unfit_line(self, image: Image, sighting: Sighting, reason: NoAttendance) -> str:
        """The reason with what was measured and what is needed; measured again here, only for who draws."""
        try:
            told = measured(assess(image, sighting.face), self._viewer.road.quality, reason)
        except BadImage:
            told = ""
        return f"{words(reason)}{told}"


def _numbered(report: TrackReport, lines: tuple[str, ...]) -> tuple[str, ...]:
    return (f"#{report.track} {lines[0]}", *lines[1:])
