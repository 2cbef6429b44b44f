"""The road: where a frame goes in and an attendance comes out, each line a stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from edge.config import QualityConfig
from edge.errors import DiskFull
from edge.recognition.decide import Decider
from edge.recognition.detect import Detector
from edge.recognition.embed import Embedder
from edge.recognition.liveness import Liveness, NoLiveness, Throttle
from edge.recognition.quality import examine
from edge.recognition.track import Tracker, View
from edge.records import Attack, Attendance, Frame, Image, NoAttendance, Sighting, TrackEnd, Unclear


class Keeper(Protocol):
    """Where an attendance goes: the outbox on a board, nowhere when a clip is only looked at."""

    def attendance(self, attendance: Attendance, /) -> object:
        """Keep it; returns only when it is safe. Raises CannotRecord; DiskFull refuses just this one."""
        ...

    def attack(self, attack: Attack, /) -> object:
        """Keep it; returns only when it is safe. Raises CannotRecord."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """What one frame brought about. Its attendances and attacks are already durable."""

    faces: int
    sightings: tuple[Sighting, ...]
    attendances: tuple[Attendance, ...]
    attacks: tuple[Attack, ...]
    unclear: tuple[Unclear, ...]
    """Why faces that were recognised could not be judged live."""
    ended: tuple[TrackEnd, ...]

    @property
    def passed_over(self) -> int:
        """Faces without a track, because as many people are followed as may be: of them no outcome will tell."""
        return self.faces - len(self.sightings)


@dataclass(frozen=True, slots=True)
class Road:
    """Every stage between camera and outbox, in order."""

    detector: Detector
    tracker: Tracker
    quality: QualityConfig
    embedder: Embedder
    decider: Decider
    recorder: Keeper
    liveness: Liveness = field(default_factory=NoLiveness)
    attack_reports: Throttle = field(default_factory=Throttle)
    """Which attacks are recorded, of those that are counted."""

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
        weighed = [outcome for view in views for outcome in self._weigh(frame.image, view)]
        decided = [outcome for outcome in weighed if isinstance(outcome, Attendance)]
        attendances = tuple(attendance for attendance in decided if self._keep(attendance))
        attacks = tuple(outcome for outcome in weighed if isinstance(outcome, Attack))
        for attack in attacks:
            if self.attack_reports.admits(attack.seen_mono_ms):
                self.recorder.attack(attack)
        parted = {view.parted: view.sighting for view in views if view.parted is not None}
        seen = tuple(parted.get(sighting.track, sighting) for sighting in sightings)
        unclear = tuple(reason for view in views for reason in self._unclear(view))
        return Passage(len(faces), seen, attendances, attacks, unclear, ended=self._close((*over, *parted)))

    def finish(self) -> tuple[TrackEnd, ...]:
        """End every track, because no more frames will come."""
        return self._close(self.tracker.end_all())

    def _keep(self, attendance: Attendance) -> bool:
        """False where there is no room for it: then it is refused, which the recorder has noted and said."""
        try:
            self.recorder.attendance(attendance)
        except DiskFull:
            self.decider.take_back(attendance)
            return False
        return True

    def _good_enough(self, image: Image, sighting: Sighting) -> bool:
        reason = examine(image, sighting.face, self.quality)
        if reason is not None:
            self.decider.reject(sighting, reason)
        return reason is None

    def _weigh(self, image: Image, view: View) -> list[Attendance | Attack]:
        if view.parted is not None:
            self.decider.part(view.parted, view.sighting.track, frames=len(view.vectors))
        for vector in view.dismissed:
            self.decider.contradict(view.sighting, vector)
        if view.vectors:  # a look that is in doubt may show another face, held up before this one
            self.liveness.look(image, view.sighting)
        alive = partial(self.liveness.judge, view.sighting.track)
        weighed = [self.decider.weigh(view.sighting, vector, alive) for vector in view.vectors]
        return [outcome for outcome in weighed if outcome is not None]

    def _unclear(self, view: View) -> list[Unclear]:
        standing = self.decider.standing(view.sighting.track)
        if standing.outcome is not NoAttendance.NOT_SURELY_LIVE or standing.judgement is None:
            return []
        return [] if standing.judgement.unclear is None else [standing.judgement.unclear]

    def _close(self, tracks: Iterable[int]) -> tuple[TrackEnd, ...]:
        return tuple(self._end(track) for track in tracks)

    def _end(self, track: int) -> TrackEnd:
        self.liveness.forget(track)
        return self.decider.end(track)
