"""When evidence is enough: a track's frames, fused, become an attendance or a reason why not.

A name is never written from one frame. The latest good frames of a track are fused into
one probe; it must pass the threshold that the gallery's size asks for, lead the runner-up
by a margin, and no single frame of the track may speak for anybody else: evidence that
disagrees is resolved toward nobody.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edge.config import DecideConfig
from edge.recognition.gallery import Gallery
from edge.recognition.match import best_match, fuse
from edge.records import (
    Attack,
    Attendance,
    Judgement,
    Match,
    NoAttendance,
    Sighting,
    Standing,
    TrackEnd,
    Vector,
    Verdict,
)

Alive = Callable[[], Judgement]

NOT_LIVE = {Verdict.ATTACK: NoAttendance.ATTACK, Verdict.UNDECIDED: NoAttendance.NOT_SURELY_LIVE}
"""What a recognised face becomes that is not live."""

FINAL = (None, NoAttendance.COOLDOWN, NoAttendance.ATTACK)
"""Outcomes that no later frame of the track changes; None is an attendance."""


@dataclass(slots=True)
class _Evidence:
    """What one track has shown so far."""

    vectors: deque[Vector]
    frames: int = 0
    good_frames: int = 0
    weighed_frames: int = 0
    """Good frames without those that showed somebody else."""
    unfit: Counter[NoAttendance] = field(default_factory=Counter)
    latest_unfit: NoAttendance | None = None
    named: set[str] = field(default_factory=set)
    """Everybody for whom a single frame would have passed."""
    outcome: NoAttendance | None = NoAttendance.TOO_SHORT
    """None once the track has become an attendance."""
    settled: bool = False
    match: Match | None = None
    """Of the fused evidence, the latest."""
    best_similarity: float = -1.0
    judgement: Judgement | None = None
    """Of liveness, the latest."""


class Decider:
    """Weighs the evidence of every track against one gallery.

    `passed` tells when people were last recorded before this run, on the clock of the frames.
    """

    def __init__(
        self,
        config: DecideConfig,
        gallery: Gallery,
        threshold: float,
        passed: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._config = config
        self._gallery = gallery
        self._threshold = threshold
        self._tracks: dict[int, _Evidence] = {}
        self._last_attendance_mono_ms = dict(passed)

    def wants(self, sighting: Sighting) -> bool:
        """Count a sighting; whether its face could still change anything."""
        evidence = self._evidence(sighting.track)
        evidence.frames += 1
        evidence.latest_unfit = None
        return self._open(evidence)

    def reject(self, sighting: Sighting, reason: NoAttendance) -> None:
        """Note that this face was not good enough to be embedded."""
        evidence = self._evidence(sighting.track)
        evidence.unfit[reason] += 1
        evidence.latest_unfit = reason

    def contradict(self, sighting: Sighting, vector: Vector) -> None:
        """Note a good frame that did not show the person of its track: if it speaks for anybody, nobody is named."""
        evidence = self._evidence(sighting.track)
        evidence.good_frames += 1
        self._name(evidence, vector)

    def part(self, track: int, new: int, frames: int) -> None:
        """Count a track's latest frames for the one that another person goes on with."""
        self._evidence(track).frames -= frames
        self._evidence(new).frames += frames

    def weigh(self, sighting: Sighting, vector: Vector, alive: Alive) -> Attendance | Attack | None:
        """Add a good frame to its track; an attendance, or an attack, if the evidence is now enough.

        `alive` is asked only when everything else speaks for an attendance.
        """
        evidence = self._evidence(sighting.track)
        evidence.good_frames += 1
        if not self._open(evidence):
            return None
        evidence.weighed_frames += 1
        evidence.vectors.append(vector)
        self._name(evidence, vector)
        if evidence.weighed_frames < self._config.min_good_frames:
            return None
        fused = evidence.match = best_match(fuse(evidence.vectors), self._gallery)
        evidence.outcome = self._judge(fused, evidence, sighting.seen_mono_ms, alive)
        evidence.settled = evidence.outcome in FINAL or len(evidence.named) > 1
        if evidence.outcome is NoAttendance.ATTACK and evidence.judgement is not None:
            return Attack(sighting.track, evidence.judgement.frames, sighting.seen_mono_ms)
        if fused is None or evidence.outcome is not None:
            return None
        self._last_attendance_mono_ms[fused.person] = sighting.seen_mono_ms
        return Attendance(
            track=sighting.track,
            person=fused.person,
            frames=len(evidence.vectors),
            similarity=fused.similarity,
            margin=fused.margin,
            seen_mono_ms=sighting.seen_mono_ms,
        )

    def take_back(self, attendance: Attendance) -> None:
        """It could not be kept: it is none, and when the same person passes again, that is no repetition."""
        self._last_attendance_mono_ms.pop(attendance.person, None)
        self._evidence(attendance.track).outcome = NoAttendance.NOT_RECORDED

    def standing(self, track: int) -> Standing:
        """How a running track stands; changes nothing."""
        evidence = self._tracks.get(track) or self._fresh()
        return Standing(
            good_frames=evidence.good_frames,
            unfit=evidence.latest_unfit,
            match=evidence.match,
            outcome=self._outcome(evidence),
            open=self._open(evidence),
            judgement=evidence.judgement,
        )

    def end(self, track: int) -> TrackEnd:
        """What became of a track; forgets it."""
        evidence = self._tracks.pop(track, None) or self._fresh()
        return TrackEnd(
            track=track,
            frames=evidence.frames,
            good_frames=evidence.good_frames,
            outcome=self._outcome(evidence),
            best_similarity=evidence.best_similarity,
        )

    def _name(self, evidence: _Evidence, vector: Vector) -> None:
        alone = best_match(vector, self._gallery)
        if alone is not None and self._reaches(alone):
            evidence.named.add(alone.person)

    def _reaches(self, match: Match) -> bool:
        return match.similarity >= self._gallery.needed(match.person, self._threshold)

    def _open(self, evidence: _Evidence) -> bool:
        # Who is recognised from afar must still be seen as live when they have come closer.
        waiting = evidence.outcome is NoAttendance.NOT_SURELY_LIVE
        return not evidence.settled and (waiting or evidence.good_frames < self._config.max_good_frames)

    def _judge(
        self, fused: Match | None, evidence: _Evidence, now_mono_ms: int, alive: Alive
    ) -> NoAttendance | None:
        if fused is None:
            return NoAttendance.NO_MATCH
        evidence.best_similarity = max(evidence.best_similarity, fused.similarity)
        if evidence.named - {fused.person}:
            return NoAttendance.AMBIGUOUS
        if not self._reaches(fused):
            return NoAttendance.NO_MATCH
        if fused.margin < self._config.min_margin:
            return NoAttendance.AMBIGUOUS
        last_mono_ms = self._last_attendance_mono_ms.get(fused.person)
        if last_mono_ms is not None and now_mono_ms - last_mono_ms < self._config.cooldown_s * 1000:
            return NoAttendance.COOLDOWN
        evidence.judgement = alive()
        return NOT_LIVE.get(evidence.judgement.verdict)

    def _evidence(self, track: int) -> _Evidence:
        if track not in self._tracks:
            self._tracks[track] = self._fresh()
        return self._tracks[track]

    def _fresh(self) -> _Evidence:
        return _Evidence(vectors=deque(maxlen=self._config.fused_frames))

    def _outcome(self, evidence: _Evidence) -> NoAttendance | None:
        """What the track is, if it ends here: without a good frame, what was wrong with most of them."""
        if evidence.outcome is not NoAttendance.TOO_SHORT:
            return evidence.outcome
        if evidence.good_frames >= self._config.min_good_frames:
            return NoAttendance.AMBIGUOUS  # enough was seen, but not of one person
        if evidence.good_frames == 0 and evidence.unfit:
            return evidence.unfit.most_common(1)[0][0]
        return NoAttendance.TOO_SHORT
