"""Faces of successive frames become people passing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge.config import TrackConfig
from edge.records import Box, Face, Sighting

MAX_GROWTH = 1.6
"""Largest change of a face's width between two sightings: at 2 m a walker (1.4 m/s) seen again
after 0.5 s has come to 1.3 m, which is 1.54 times as large."""


@dataclass(slots=True)
class _Track:
    number: int
    box: Box
    seen_mono_ms: int
    velocity: tuple[float, float] = (0.0, 0.0)
    """Pixels per millisecond."""

    def expected_centre(self, now_mono_ms: int) -> tuple[float, float]:
        elapsed_ms = now_mono_ms - self.seen_mono_ms
        x, y = self.box.centre
        return x + self.velocity[0] * elapsed_ms, y + self.velocity[1] * elapsed_ms

    def follow(self, box: Box, now_mono_ms: int) -> None:
        elapsed_ms = max(1, now_mono_ms - self.seen_mono_ms)
        (x, y), (was_x, was_y) = box.centre, self.box.centre
        moved = ((x - was_x) / elapsed_ms, (y - was_y) / elapsed_ms)
        # Half old, half new: keypoint jitter of a pixel must not throw the expectation about.
        self.velocity = ((self.velocity[0] + moved[0]) / 2, (self.velocity[1] + moved[1]) / 2)
        self.box = box
        self.seen_mono_ms = now_mono_ms


class Tracker:
    """Gives each face the number of the person it belongs to, by where that person was expected.

    Nearest first, measured in widths of the face; one face a track, one track a face.
    """

    def __init__(self, config: TrackConfig) -> None:
        self._config = config
        self._tracks: list[_Track] = []
        self._last_number = 0

    def update(self, faces: Sequence[Face], now_mono_ms: int) -> tuple[tuple[Sighting, ...], tuple[int, ...]]:
        """The sightings of this frame, and the numbers of the tracks that are over."""
        ended = self._end_lost(now_mono_ms)
        pairs = sorted(
            (distance, index, track.number)
            for index, face in enumerate(faces)
            for track in self._tracks
            if (distance := _distance(track, face.box, now_mono_ms)) <= self._config.max_shift
        )
        by_number = {track.number: track for track in self._tracks}
        claimed: dict[int, int] = {}
        for _, index, number in pairs:
            if index not in claimed and number in by_number:
                claimed[index] = number
                by_number.pop(number).follow(faces[index].box, now_mono_ms)
        sightings = []
        for index, face in enumerate(faces):
            belongs = claimed.get(index) or self._begin(face, now_mono_ms)
            if belongs is not None:
                sightings.append(Sighting(track=belongs, face=face, seen_mono_ms=now_mono_ms))
        return tuple(sightings), ended

    def end_all(self) -> tuple[int, ...]:
        """End every track, because no more frames will come."""
        ended = tuple(track.number for track in self._tracks)
        self._tracks.clear()
        return ended

    def _end_lost(self, now_mono_ms: int) -> tuple[int, ...]:
        lost = [t for t in self._tracks if now_mono_ms - t.seen_mono_ms > self._config.lost_after_ms]
        self._tracks = [track for track in self._tracks if track not in lost]
        return tuple(track.number for track in lost)

    def _begin(self, face: Face, now_mono_ms: int) -> int | None:
        """A new track; None where there are as many as this board will follow."""
        if len(self._tracks) >= self._config.max_tracks:
            return None
        self._last_number += 1
        self._tracks.append(_Track(self._last_number, face.box, now_mono_ms))
        return self._last_number


def _distance(track: _Track, box: Box, now_mono_ms: int) -> float:
    """How far a face is from where the track was expected, in mean face widths; inf where it cannot be it."""
    if box.width_px <= 0 or track.box.width_px <= 0:
        return math.inf
    growth = box.width_px / track.box.width_px
    if not 1 / MAX_GROWTH <= growth <= MAX_GROWTH:
        return math.inf
    expected_x, expected_y = track.expected_centre(now_mono_ms)
    x, y = box.centre
    mean_width_px = math.sqrt(box.width_px) * math.sqrt(track.box.width_px)  # no product that could vanish
    return math.hypot(x - expected_x, y - expected_y) / mean_width_px
