"""A network camera, by RTSP over TCP."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import cv2
import numpy as np

from edge.board.clock import boottime_ms
from edge.camera import Camera, Origin
from edge.camera.view import RateLimit
from edge.errors import CameraUnavailable
from edge.records import Frame

OPEN_TIMEOUT_S = 10.0
"""FFMPEG looks at up to seven frames before it calls a stream open (below), and a camera that
encodes a key frame every few seconds lets it wait for the first."""

READ_TIMEOUT_S = 4.0
"""A camera that hangs has to be noticed within five seconds."""


FFMPEG_OPTIONS = "rtsp_transport;tcp|fpsprobesize;0"
"""OpenCV's own default is `rtsp_transport;tcp`. Without `fpsprobesize;0` FFMPEG guesses the frame rate
from twenty frames, which then come all at once. Measured at 10 frames a second, H.264, opening takes
0.95 s in place of 2.94 and 7 frames are late in place of 24. The 7 are needed to see whether frames
are reordered; `analyzeduration` would cut them short, but also streams whose first key frame is later."""

_OPTIONS_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class RtspCamera(Camera):
    """Reads the stream at `url`.

    Args:
        url: `rtsp://` or `rtsps://`; a user name and password in it never show in messages.
        frames_per_s: an upper limit on the rate; 0 takes the stream's own. What is beyond
            it is taken from the stream but not converted, so that nothing queues up.
        open_timeout_s: longest to wait until the stream runs.
        read_timeout_s: longest to wait for each frame.
        now_ms: CLOCK_BOOTTIME in milliseconds.
    """

    live = True
    origin = Origin.STREAM

    def __init__(
        self,
        url: str,
        *,
        frames_per_s: float = 0.0,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        now_ms: Callable[[], int] = boottime_ms,
    ) -> None:
        scheme, _, rest = url.partition("://")
        self._url = f"{scheme.lower()}://{rest}"  # FFMPEG knows it only so
        # Up to the last: whoever has / or @ in a password may not know that a URL wants them as %2F and %40.
        self._shown = re.sub(r"//.*@", "//", self._url)
        self._frames_per_s = frames_per_s
        self._limit = RateLimit(frames_per_s)
        self._open_timeout_ms = round(open_timeout_s * 1000)
        self._read_timeout_ms = round(read_timeout_s * 1000)
        self._now_ms = now_ms
        self._capture: cv2.VideoCapture | None = None
        self._number = 0

    def open(self) -> None:
        # OpenCV has no other way to hand options to FFMPEG, and reads this one whenever it opens.
        # Set once and left: a process has one camera, and what an administrator set stays.
        os.environ.setdefault(_OPTIONS_VARIABLE, FFMPEG_OPTIONS)
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            self._open_timeout_ms,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            self._read_timeout_ms,
        ]
        self._capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            self.close()
            raise CameraUnavailable(
                f"{self._shown}: the stream does not open; is the camera on, and the address right?"
            )
        self._limit = RateLimit(self._frames_per_s)
        self._number = 0

    def read(self) -> Frame | None:
        if self._capture is None:
            raise CameraUnavailable(f"{self._shown}: the stream is not open")
        while self._capture.grab():
            # When it arrived: the stream's own times count from an origin that nobody here knows. So the
            # frames that FFMPEG looked at while it opened the stream come all at once, up to a second late.
            now_ms = self._now_ms()
            if not self._limit.admits(now_ms):
                continue
            read, image = self._capture.retrieve()
            if not read:
                break
            self._number += 1
            return Frame(np.ascontiguousarray(image, np.uint8), now_ms, self._number)
        raise CameraUnavailable(f"{self._shown}: the stream stopped")

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
