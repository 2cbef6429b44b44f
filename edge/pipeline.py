"""The road: where a frame goes in and an attendance comes out, each line a stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from edge.config import QualityConfig
from edge.recognition.decide import Decider
from edge.recognition.detect import Detector
from edge.recognition.embed import Embedder
from edge.recognition.quality import examine
from edge.recognition.track import Tracker, View
from edge.records import Attendance, Frame, Image, Sighting, TrackEnd


class Keeper(Protocol):
    """Where an attendance goes: the outbox on a board, nowhere when a clip is only looked at."""

    def attendance(self, attendance: Attendance, /) -> object:
        """Keep it; returns only when it is safe. Raises CannotRecord."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """What one frame brought about. Its attendances are already durable."""

    faces: int
    sightings: tuple[Sighting, ...]
    attendances: tuple[Attendance, ...]
    ended: tuple[TrackEnd, ...]


@dataclass(frozen=True, slots=True)
class Road:
    """Every stage between camera and outbox, in order."""

    detector: Detector
    tracker: Tracker
    quality: QualityConfig
    embedder: Embedder
    decider: Decider
    recorder: Keeper

    def walk(self, frame: Frame) -> Passage:
        """Take one frame along the whole road.

        Raises:
            BadImage: the frame is not a picture; nothing happened.
            CannotRecord: an attendance could not be made durable; the daemon must stop.
        """
        faces = self.detector.detect(frame.image)
        sightings, over = self.tracker.update(faces, frame.captured_mono_ms)
        open_cases = [s for s in sightings if self.decider.wants(s) or self.tracker.unsure(s)]
        good = [sighting for sighting in open_cases if self._good_enough(frame.image, sighting)]
        aligned = [(sighting, self.embedder.crops(frame.image, sighting.face)) for sighting in good]
        probes = [(sighting, self.embedder.embed(crops)) for sighting, crops in aligned]
        views = [self.tracker.compare(sighting, vector) for sighting, vector in probes]
        attendances = tuple(attendance for view in views for attendance in self._weigh(view))
        for attendance in attendances:
            self.recorder.attendance(attendance)
        parted = {view.parted: view.sighting for view in views if view.parted is not None}
        seen = tuple(parted.get(sighting.track, sighting) for sighting in sightings)
        return Passage(len(faces), seen, attendances, ended=self._close((*over, *parted)))

    def finish(self) -> tuple[TrackEnd, ...]:
        """End every track, because no more frames will come."""
        return self._close(self.tracker.end_all())

    def _good_enough(self, image: Image, sighting: Sighting) -> bool:
        reason = examine(image, sighting.face, self.quality)
        if reason is not None:
            self.decider.reject(sighting, reason)
        return reason is None

    def _weigh(self, view: View) -> list[Attendance]:
        if view.parted is not None:
            self.decider.part(view.parted, view.sighting.track, frames=len(view.vectors))
        for vector in view.dismissed:
            self.decider.contradict(view.sighting, vector)
        weighed = [self.decider.weigh(view.sighting, vector) for vector in view.vectors]
        return [attendance for attendance in weighed if attendance is not None]

    def _close(self, tracks: Iterable[int]) -> tuple[TrackEnd, ...]:
        return tuple(self.decider.end(track) for track in tracks)
