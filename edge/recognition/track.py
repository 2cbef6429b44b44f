"""Faces of successive frames become people passing.

A face belongs to the track whose next place it is nearest to. Where looks at it were good
enough to embed, they must also fit that track's earlier looks; whoever does not, and is
seen so twice, goes on under a number of their own, and the track before them is over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edge.config import TrackConfig
from edge.recognition.appearance import Appearance
from edge.records import Box, Face, Sighting, Vector

MAX_GROWTH = 1.6
"""Largest change of a face's width between two sightings, as a factor either way. Reckoned: at 2 m a walker (1.4 m/s)
seen again after 0.5 s has come to 1.3 m, which is 1.54 times as large."""

GAP_MS = 250
"""A face that was away for longer is compared again at once. Reckoned: at four frames a second or more, it was hidden
or missed meanwhile."""

SIZE_COUNTS = 1.0
"""So many widths of the face an e-folding of its size counts when the nearest track is looked for. Without the
size, one of two who pass each other at different distances takes the other's place more often
(`python -m benchmarks.tracks`, docs/decisions/tracks.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A good look at a face, and whom its track shows by it."""

    sighting: Sighting
    """With the number of whom it shows, which may be new."""
    vectors: tuple[Vector, ...]
    """Evidence of who that is: none while it is in doubt, several once a doubt became another person."""
    dismissed: tuple[Vector, ...] = ()
    """Looks on this track that were somebody else's, or nobody's."""
    parted: int | None = None
    """The track that is over, because another person goes on in its place."""


@dataclass(slots=True)
class _Track:
    box: Box
    seen_mono_ms: int
    velocity: tuple[float, float] = (0.0, 0.0)
    """Pixels per millisecond."""
    appearance: Appearance = field(default_factory=Appearance)
    compared_mono_ms: int | None = None
    """When it last had a look that was good enough; None to be compared as soon as there is one."""

    def expected_centre(self, now_mono_ms: int) -> tuple[float, float]:
        elapsed_ms = now_mono_ms - self.seen_mono_ms
        x, y = self.box.centre
        return x + self.velocity[0] * elapsed_ms, y + self.velocity[1] * elapsed_ms

    def follow(self, box: Box, now_mono_ms: int) -> None:
        elapsed_ms = max(1, now_mono_ms - self.seen_mono_ms)
        if elapsed_ms > GAP_MS:
            self.compared_mono_ms = None
        (x, y), (was_x, was_y) = box.centre, self.box.centre
        moved = ((x - was_x) / elapsed_ms, (y - was_y) / elapsed_ms)
        # Half old, half new: keypoint jitter of a pixel must not throw the expectation about.
        self.velocity = ((self.velocity[0] + moved[0]) / 2, (self.velocity[1] + moved[1]) / 2)
        self.box = box
        self.seen_mono_ms = now_mono_ms


class Tracker:
    """Gives each face the number of the person it belongs to, by where that person was expected.

    Nearest first, measured in widths of the face; one face a track, one track a face.

    `same` is the similarity from which two looks within one track are one person's;
    `size_counts` as SIZE_COUNTS.
    """

    def __init__(self, config: TrackConfig, same: float, size_counts: float = SIZE_COUNTS) -> None:
        self._config = config
        self._same = same
        self._size_counts = size_counts
        self._tracks: dict[int, _Track] = {}
        self._last_number = 0

    def update(self, faces: Sequence[Face], now_mono_ms: int) -> tuple[tuple[Sighting, ...], tuple[int, ...]]:
        """The sightings of this frame, and the numbers of the tracks that are over."""
        ended = self._end_lost(now_mono_ms)
        pairs = sorted(
            (distance, index, number)
            for index, face in enumerate(faces)
            for number, track in self._tracks.items()
            if (distance := _distance(track, face.box, now_mono_ms, self._size_counts))
            <= self._config.max_shift
        )
        claimed: dict[int, int] = {}
        for _, index, number in pairs:
            if index not in claimed and number not in claimed.values():
                claimed[index] = number
                self._tracks[number].follow(faces[index].box, now_mono_ms)
        sightings = []
        for index, face in enumerate(faces):
            belongs = claimed.get(index) or self._begin(face, now_mono_ms)
            if belongs is not None:
                sightings.append(Sighting(track=belongs, face=face, seen_mono_ms=now_mono_ms))
        return tuple(sightings), ended

    def unsure(self, sighting: Sighting) -> bool:
        """Whether a look is due at a face whose case is closed: another person may have taken its place."""
        track = self._tracks[sighting.track]
        if track.compared_mono_ms is None or track.appearance.doubtful:
            return True
        return sighting.seen_mono_ms - track.compared_mono_ms >= self._config.recheck_ms

    def compare(self, sighting: Sighting, vector: Vector) -> View:
        """Whom a good look shows: still the person of its track, nobody for sure, or another person."""
        track = self._tracks[sighting.track]
        track.compared_mono_ms = sighting.seen_mono_ms
        found = track.appearance.compare(vector, self._same)
        if not found.another:
            return View(sighting, found.accepted, found.dismissed)
        number = self._next_number()
        self._tracks[number] = self._tracks.pop(sighting.track)
        return View(replace(sighting, track=number), found.accepted, parted=sighting.track)

    def end_all(self) -> tuple[int, ...]:
        """End every track, because no more frames will come."""
        ended = tuple(self._tracks)
        self._tracks.clear()
        return ended

    def _end_lost(self, now_mono_ms: int) -> tuple[int, ...]:
        lost = tuple(
            number
            for number, track in self._tracks.items()
            if now_mono_ms - track.seen_mono_ms > self._config.lost_after_ms
        )
        for number in lost:
            del self._tracks[number]
        return lost

    def _begin(self, face: Face, now_mono_ms: int) -> int | None:
        """A new track; None where there are as many as this board will follow."""
        if len(self._tracks) >= self._config.max_tracks:
            return None
        number = self._next_number()
        self._tracks[number] = _Track(face.box, now_mono_ms)
        return number

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number


def _distance(track: _Track, box: Box, now_mono_ms: int, size_counts: float) -> float:
    """How unlike the expected place and size, in mean face widths; inf where it cannot be it."""
    if box.width_px <= 0 or track.box.width_px <= 0:
        return math.inf
    growth = box.width_px / track.box.width_px
    if not 1 / MAX_GROWTH <= growth <= MAX_GROWTH:
        return math.inf
    expected_x, expected_y = track.expected_centre(now_mono_ms)
    x, y = box.centre
    mean_width_px = math.sqrt(box.width_px) * math.sqrt(track.box.width_px)  # no product that could vanish
    shift = math.hypot(x - expected_x, y - expected_y) / mean_width_px
    return shift + size_counts * abs(math.log(growth))
