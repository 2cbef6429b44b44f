"""Rendered replays as attacks to measure: clips of live people, shown on a phone before an empty scene."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from edge.evaluate.dataset import FindsFaces
from edge.evaluate.looks import Look, Seen, Track
from edge.evaluate.presentations import Frames, Presentation
from edge.evaluate.replays import FRAME_PX, draw_held, fill_screen, hold_up
from edge.records import Image

KIND = "rendered-replay"

LENGTH = 14
"""Frames of a replay: those of the longest window, and some in which the face is not found."""

STEP_MS = 80
"""Between two frames, as at a door camera of 12.5 frames a second."""

FACE_WIDTHS = (1.5, 3.5)
"""Width of the screen in widths of the face on it: from a portrait to somebody from the waist up. Set, not measured."""

SCENES_EVERY = 25
MOST_SCENES = 8
"""Of every so many frames of the live clips one, in which nobody is found, is shown around a screen, up to so many.
Set, not measured."""

SEED = 30107
"""Of everything that is drawn; with the number of a replay it gives that replay again."""

STORED_QUALITY = 95
"""JPEG quality, 0 to 100, of the pictures on the screen until they are shown. Set: it leaves no visible trace."""


def rendered_replays(seen: Seen, count: int, detector: FindsFaces) -> list[Presentation]:
    """So many replays, spread over the live videos that were looked at; none where there are none."""
    tracks = [
        track
        for track in seen.tracks
        if track.presentation.live and not track.presentation.photographs and len(track.looks) >= LENGTH
    ]
    if not tracks:
        return []
    videos = [p for p in seen.presentations if p.live and not p.photographs]
    scenes = empty_scenes(videos, detector)
    chosen: dict[str, list[tuple[int, Track]]] = defaultdict(list)
    for number in range(count):
        track = tracks[number % len(tracks)]
        chosen[track.presentation.name].append((number, track))
    return [replay for shown in chosen.values() for replay in _of_one_clip(shown, scenes)]


def empty_scenes(videos: Sequence[Presentation], detector: FindsFaces) -> list[Image]:
    """Pictures in which nobody's face is found, to hold a phone up in; a plain wall where there are none."""
    found = [
        cv2.resize(image, FRAME_PX, interpolation=cv2.INTER_AREA)
        for video in videos
        for number, (_, image) in enumerate(video.frames())
        if number % SCENES_EVERY == 0 and not detector.detect(image)
    ]
    places = np.linspace(0, len(found) - 1, min(MOST_SCENES, len(found))).round().astype(int)
    return [np.asarray(found[place], np.uint8) for place in places] or [_wall()]


def _wall() -> Image:
    across = np.linspace(120, 180, FRAME_PX[0])[np.newaxis, :, np.newaxis]
    return np.broadcast_to(across, (FRAME_PX[1], FRAME_PX[0], 3)).astype(np.uint8)


def _of_one_clip(shown: Sequence[tuple[int, Track]], scenes: Sequence[Image]) -> list[Presentation]:
    """The clip is decoded once for all of its replays."""
    plans = {number: _plan(number, track) for number, track in shown}
    screens = _screens(shown[0][1].presentation, plans)
    return [
        _presentation(track.presentation, number, screens[number], scenes[number % len(scenes)])
        for number, track in shown
    ]


def _plan(number: int, track: Track) -> tuple[tuple[Look, ...], float]:
    """Which looks are shown, and how large the face is on the screen."""
    rng = np.random.default_rng([SEED, number, 0])
    first = int(rng.integers(0, len(track.looks) - LENGTH + 1))
    return track.looks[first : first + LENGTH], rng.uniform(*FACE_WIDTHS)


def _screens(
    presentation: Presentation, plans: Mapping[int, tuple[tuple[Look, ...], float]]
) -> dict[int, list[bytes]]:
    """What each replay has on its screen, as JPEG, by its number."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for number, (looks, _) in plans.items():
        for look in looks:
            wanted[look.frame].append(number)
    screens: dict[int, list[bytes]] = defaultdict(list)
    for frame, (_, image) in enumerate(presentation.frames()):
        for number in wanted.get(frame, ()):
            looks, widths = plans[number]
            box = looks[0].box  # the recording is cut once, and whoever is in it moves within
            screen = fill_screen(image, box.centre, box.width_px, widths)
            _, data = cv2.imencode(".jpg", screen, [cv2.IMWRITE_JPEG_QUALITY, STORED_QUALITY])
            screens[number].append(data.tobytes())
    return screens


def _presentation(source: Presentation, number: int, screens: Sequence[bytes], scene: Image) -> Presentation:
    def frames() -> Frames:
        return _shown(number, screens, scene)

    name = f"{KIND} {number} of {source.name}"
    return Presentation(name, KIND, source.group, frames, photographs=False)


def _shown(number: int, screens: Sequence[bytes], scene: Image) -> Iterator[tuple[float, Image]]:
    rng = np.random.default_rng([SEED, number, 1])
    held = draw_held(rng)
    for step, data in enumerate(screens):
        picture = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        yield float(step * STEP_MS), hold_up(picture, scene, held, step * STEP_MS / 1000, rng)
