"""Labelled presentations, looked at as the daemon looks: found, followed, good enough, then judged or undecided.

In an attack only the largest face of a frame counts, since whoever holds a picture up may
be in view as well; and in a series of pictures, which are of one person and may lie seconds
apart, so that all of it is one track.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edge.config import LivenessConfig, QualityConfig, TrackConfig
from edge.evaluate.dataset import FindsFaces
from edge.evaluate.presentations import Presentation
from edge.recognition.liveness import LivenessModels, badly_placed, badly_seen
from edge.recognition.quality import examine
from edge.recognition.track import Tracker
from edge.records import Box, Face, Image, Unclear

ANYBODY = -1.0
"""The similarity from which two looks are one person's: nobody is embedded here, places alone make a track."""


@dataclass(frozen=True, slots=True)
class Look:
    """One face in one frame that was good enough for the daemon."""

    frame: int
    box: Box
    liveness: float | None
    """None where it could not be judged."""
    unclear: Unclear | None


@dataclass(frozen=True, slots=True)
class Track:
    """One face over a presentation."""

    presentation: Presentation
    looks: tuple[Look, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that was looked at."""

    presentations: tuple[Presentation, ...]
    tracks: tuple[Track, ...]
    unfit: Counter[str]
    """Faces that the daemon would not have looked at, by reason."""
    faceless: tuple[str, ...]
    """Presentations without a face that could be looked at."""


@dataclass(frozen=True, slots=True)
class Observer:
    """The stages that look."""

    detector: FindsFaces
    models: LivenessModels
    config: LivenessConfig
    quality: QualityConfig

    def look(self, image: Image, face: Face, frame: int) -> Look:
        """Judge one face, or say why not."""
        reason = badly_placed((image.shape[0], image.shape[1]), face.box, self.config)
        crops = self.models.crops(image, face.box)
        reason = reason or badly_seen(image, face.box, crops[0], self.config)
        liveness = None if reason is not None else self.models.liveness(crops)
        return Look(frame, face.box, liveness, reason)

    def watch(self, presentation: Presentation, unfit: Counter[str]) -> list[Track]:
        """All tracks of a presentation."""
        tracker = Tracker(TrackConfig(), same=ANYBODY)
        looks: dict[int, list[Look]] = defaultdict(list)
        for number, (at_ms, image) in enumerate(presentation.frames()):
            faces = self.detector.detect(image)
            if faces and (presentation.photographs or not presentation.live):
                faces = (max(faces, key=lambda face: face.box.width_px),)
            for sighting in tracker.update(faces, round(at_ms))[0]:
                reason = examine(image, sighting.face, self.quality)
                track = 0 if presentation.photographs else sighting.track
                if reason is None:
                    looks[track].append(self.look(image, sighting.face, number))
                else:
                    unfit[reason.value] += 1
        return [Track(presentation, tuple(found)) for found in looks.values()]


def observe(
    presentations: Sequence[Presentation], observer: Observer, tell: Callable[[], None] = lambda: None
) -> Seen:
    """Look at everything; `tell` is called after each presentation."""
    tracks: list[Track] = []
    unfit: Counter[str] = Counter()
    faceless = []
    for presentation in presentations:
        found = observer.watch(presentation, unfit)
        if not found:
            faceless.append(presentation.name)
        tracks += found
        tell()
    return Seen(tuple(presentations), tuple(tracks), unfit, tuple(faceless))


def with_pictures(chosen: Sequence[tuple[Track, Look]]) -> Iterator[tuple[Track, Look, Image]]:
    """Looks with their pictures; each presentation is read once."""
    wanted: dict[str, dict[int, list[tuple[Track, Look]]]] = defaultdict(lambda: defaultdict(list))
    for track, look in chosen:
        wanted[track.presentation.name][look.frame].append((track, look))
    for by_frame in wanted.values():
        presentation = next(iter(by_frame.values()))[0][0].presentation
        for number, (_, image) in enumerate(presentation.frames()):
            for track, look in by_frame.get(number, ()):
                yield track, look, image


def together(one: Seen, other: Seen) -> Seen:
    """Both."""
    return Seen(
        one.presentations + other.presentations,
        one.tracks + other.tracks,
        one.unfit + other.unfit,
        one.faceless + other.faceless,
    )
