"""A camera that plays what was recorded: videos, GIFs, pictures and folders of pictures.

So the daemon runs, and is tested, on any machine. In live pace it behaves as a device
does: frames come at the recording's own rate, and whoever is slow misses some. Otherwise
every frame is given as soon as it is asked for, with the times that it would have had.

What can be read is played. A picture that cannot, and a clip that breaks off, are named
in a warning; a source of which nothing can be read is an InputError.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from edge.board.clock import boottime_ms
from edge.camera import Camera, Origin, is_stream
from edge.camera.pictures import MAX_PIXELS, PICTURE_FORMATS, PICTURE_SUFFIXES, read_picture
from edge.camera.view import RateLimit
from edge.errors import InputError
from edge.records import Frame, Image

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".m4v", ".avi", ".mkv", ".webm", ".mov", ".gif")
"""What is played out of a folder. A video named by itself may be called anything."""

VIDEO_FORMATS = "MP4, AVI, MKV, WebM, MOV and GIF"

PICTURES_PER_S = 10.0
"""For pictures, which have no rate of their own; a door camera's usual one."""

GAP_MS = 2000.0
"""Between two clips, and before one is played again: they were not filmed in one go, and
nobody should be followed from the last picture of one into the first of the next."""

PAUSE_MS = 30_000
"""A live reader that is later than this did not drop frames: the machine was suspended, and the
recording goes on where it was. Otherwise a loop would have to be decoded for the whole night."""

CLAIMED_SHARE = 0.9
"""A clip that gives fewer of the frames that its header claims is called cut off. Not 1, because
some containers only let the count be estimated from duration and rate."""


@dataclass(frozen=True, slots=True, eq=False)
class TimedImage:
    """A picture of a recording."""

    at_ms: float
    """From the beginning of the recording."""
    image: Image


Clip = Callable[[], Iterator[TimedImage]]
"""Plays one video, or pictures that belong together, from its beginning."""


class ReplayCamera(Camera):
    """Plays `sources`, one after the other.

    Args:
        sources: videos, pictures, and folders of either (in the order of their names, numbers
            by value). Pictures of one folder that follow each other are one clip.
        frames_per_s: an upper limit, above 0, on the rate; 0 takes the clip's own. Pictures
            are given at just this rate, or at PICTURES_PER_S.
        live: give frames when they are due, and none that is overdue once its successor is.
        repeat: begin again at the end, for ever.
        now_ms: CLOCK_BOOTTIME in milliseconds.
        wait: waits for so many seconds; True ends the reading, as `threading.Event.wait` does.
    """

    origin = Origin.RECORDING

    def __init__(
        self,
        sources: Sequence[str | Path],
        *,
        frames_per_s: float = 0.0,
        live: bool = True,
        repeat: bool = False,
        now_ms: Callable[[], int] = boottime_ms,
        wait: Callable[[float], bool | None] = time.sleep,
    ) -> None:
        self._sources = tuple(str(source) for source in sources)
        self._frames_per_s = frames_per_s
        self._live = live
        self._repeat = repeat
        self._now_ms = now_ms
        self._wait = wait
        self._images: Iterator[TimedImage] = iter(())
        self._ahead: TimedImage | None = None
        self._began_ms: int | None = None
        self._number = 0

    @property
    def live(self) -> bool:
        return self._live

    def open(self) -> None:
        clips = clips_of(self._sources, self._frames_per_s)
        self._images = play(clips, self._frames_per_s, repeat=self._repeat)
        # The first picture is read now, so that a file that cannot be played shows at once.
        self._ahead = next(self._images, None)
        self._began_ms = None
        self._number = 0

    def read(self) -> Frame | None:
        asked_ms = self._now_ms()
        if self._began_ms is None:
            self._began_ms = asked_ms
        newest = self._take()
        if newest is not None and self._live and asked_ms - self._due_ms(newest) > PAUSE_MS:
            self._began_ms = asked_ms - round(newest.at_ms)
        while newest is not None and self._live and self._due_ms(newest) < asked_ms:
            self._ahead = self._next()
            if self._ahead is None or self._due_ms(self._ahead) > asked_ms:
                break
            newest = self._take()
        if newest is None or self._stopped_before(self._due_ms(newest)):
            return None
        return Frame(newest.image, round(self._due_ms(newest)), self._number)

    def close(self) -> None:
        self._images = iter(())
        self._ahead = None

    def _take(self) -> TimedImage | None:
        """The next picture, which counts from now on."""
        image = self._next()
        self._ahead = None
        self._number += image is not None
        return image

    def _next(self) -> TimedImage | None:
        return self._ahead if self._ahead is not None else next(self._images, None)

    def _due_ms(self, image: TimedImage) -> float:
        return (self._began_ms or 0) + image.at_ms

    def _stopped_before(self, due_ms: float) -> bool:
        """Wait until a picture is due; True where a stop was asked for meanwhile."""
        early_ms = due_ms - self._now_ms()
        return self._live and early_ms > 0 and bool(self._wait(early_ms / 1000))


def clips_of(sources: Sequence[str], frames_per_s: float) -> tuple[Clip, ...]:
    """What the names stand for; the files' contents are looked at only when they are played.

    Raises:
        InputError: no source, a file or folder that is missing or empty, a stream among files.
    """
    if not sources:
        raise InputError(f"camera: no source; name videos ({VIDEO_FORMATS}), pictures or folders of them")
    paths = [path for source in sources for path in _files(source)]
    clips: list[Clip] = []
    for (is_picture, _), group in groupby(paths, key=lambda path: (_is_picture(path), path.parent)):
        if is_picture:
            clips.append(_pictures_clip(tuple(group), frames_per_s))
        else:
            clips += map(_video_clip, group)
    return tuple(clips)


def claimed_frames(sources: Sequence[str], frames_per_s: float) -> int:
    """About how many frames will be given, as the files' headers claim it; to show how far a reading is.

    Raises:
        InputError: as `clips_of`.
    """
    total = 0.0
    for path in (path for source in sources for path in _files(source)):
        if _is_picture(path):
            total += 1
            continue
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        claimed = max(0.0, capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0.0
        total += claimed * (min(1.0, frames_per_s / _rate(capture)) if frames_per_s else 1.0)
        capture.release()
    return round(total)


def play(clips: Iterable[Clip], frames_per_s: float, *, repeat: bool) -> Iterator[TimedImage]:
    """All clips as one recording, GAP_MS apart and thinned to at most `frames_per_s` (0: as they are)."""
    clips = tuple(clips)
    begin_ms = 0.0
    while True:
        for clip in clips:
            last_ms = begin_ms
            for picture in thin(clip(), frames_per_s):
                last_ms = begin_ms + picture.at_ms
                yield TimedImage(last_ms, picture.image)
            begin_ms = last_ms + GAP_MS
        if not repeat:
            return


def thin(images: Iterator[TimedImage], frames_per_s: float) -> Iterator[TimedImage]:
    """Leave out what comes sooner than the rate allows, evenly; 0 leaves out nothing."""
    limit = RateLimit(frames_per_s)
    return (picture for picture in images if limit.admits(picture.at_ms))


def video(path: Path) -> Iterator[TimedImage]:
    """The frames of a video or GIF, with the times that the file gives them.

    FFMPEG is named, because OpenCV's other readers of files have no times, or read GIFs
    without their delays; it reads GIFs alike in OpenCV 4.10 to 5.0.

    Raises:
        InputError: not a video, or one with larger frames than MAX_PIXELS.
    """
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        _check_video(path, capture)
        interval_ms = 1000 / _rate(capture)
        given, first_ms, last_ms = 0, 0.0, -interval_ms
        while (read := capture.read())[0]:
            stamp_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
            if not given:
                first_ms = stamp_ms
            # Some containers leave the time of a frame out, which then reads as zero.
            last_ms = stamp_ms - first_ms if stamp_ms - first_ms > last_ms else last_ms + interval_ms
            yield TimedImage(last_ms, np.ascontiguousarray(read[1], np.uint8))
            given += 1
        _check_end(path, given, capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()


def pictures(paths: Sequence[Path], frames_per_s: float) -> Iterator[TimedImage]:
    """Pictures as the frames of one clip; those that cannot be read leave a gap of their length.

    Raises:
        InputError: not one of them can be read.
    """
    interval_ms = 1000 / (frames_per_s or PICTURES_PER_S)
    unreadable: list[InputError] = []
    for position, path in enumerate(paths):
        try:
            yield TimedImage(position * interval_ms, read_picture(path))
        except InputError as error:
            log.warning("camera: left out: %s", error)
            unreadable.append(error)
    if len(unreadable) == len(paths):
        raise unreadable[0]


def _video_clip(path: Path) -> Clip:
    return lambda: video(path)


def _pictures_clip(paths: Sequence[Path], frames_per_s: float) -> Clip:
    return lambda: pictures(paths, frames_per_s)


def _files(source: str) -> tuple[Path, ...]:
    """The file, or what can be played of the folder, that goes by this name."""
    # Neither is repeated: there may be a password in it.
    if is_stream(source):
        raise InputError("camera: a stream (rtsp://…) cannot be played among other sources; name it alone")
    if "://" in source:
        scheme = source.partition("://")[0]
        raise InputError(
            f"camera: {scheme}://…: of addresses only rtsp:// and rtsps:// are played, and files by name"
        )
    if not source:
        raise InputError("camera: an empty name is none of a video, picture or folder")
    path = Path(source)
    try:
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder")
        if path.is_dir():
            return _playable_in(path)
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return (path,)


def _playable_in(folder: Path) -> tuple[Path, ...]:
    suffixes = PICTURE_SUFFIXES + VIDEO_SUFFIXES
    paths = tuple(
        sorted((path for path in folder.iterdir() if path.suffix.lower() in suffixes), key=_by_number)
    )
    if not paths:
        raise InputError(
            f"{folder}: nothing in this folder can be played; pictures may be {PICTURE_FORMATS}, "
            f"videos {VIDEO_FORMATS}"
        )
    return paths


def _by_number(path: Path) -> tuple[str | int, ...]:
    """Sorts frame2 before frame10: names and numbers by turns, so like is compared with like."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES


def _check_video(path: Path, capture: cv2.VideoCapture) -> None:
    if not capture.isOpened():
        raise InputError(
            f"{path}: cannot be played as a video (damaged, cut off, or another kind of file); "
            f"videos may be {VIDEO_FORMATS}, pictures {PICTURE_FORMATS}"
        )
    width, height = (round(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > MAX_PIXELS:
        allowed = f"up to {MAX_PIXELS // 1_000_000} megapixels are taken"
        raise InputError(f"{path}: its frames have {width} x {height} pixels; {allowed}")


def _rate(capture: cv2.VideoCapture) -> float:
    """Frames per second as the header claims; some claim none, or their time base (90,000)."""
    claimed = capture.get(cv2.CAP_PROP_FPS)
    return claimed if math.isfinite(claimed) and 0 < claimed <= 1000 else 25.0  # noqa: PLR2004


def _check_end(path: Path, given: int, claimed: float) -> None:
    if not given:
        raise InputError(f"{path}: the video has no frame that can be read")
    if given < CLAIMED_SHARE * claimed:
        log.warning("camera: %s broke off after %d of %.0f frames", path, given, claimed)
