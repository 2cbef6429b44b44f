"""A network camera, by RTSP over TCP."""

from __future__ import annotations

import re
from collections.abc import Callable

import cv2
import numpy as np

from edge.board.clock import boottime_ms
from edge.camera import Camera
from edge.errors import CameraUnavailable
from edge.records import Frame

OPEN_TIMEOUT_S = 10.0
"""FFMPEG looks at about twenty frames before it calls a stream open: two seconds at ten a second."""

READ_TIMEOUT_S = 4.0
"""A camera that hangs has to be noticed within five seconds."""


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

    def __init__(
        self,
        url: str,
        *,
        frames_per_s: float = 0.0,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        now_ms: Callable[[], int] = boottime_ms,
    ) -> None:
        self._url = url
        self._shown = re.sub(r"//[^/]*@", "//", url)
        self._interval_ms = 1000 / frames_per_s if frames_per_s else 0.0
        self._open_timeout_ms = round(open_timeout_s * 1000)
        self._read_timeout_ms = round(read_timeout_s * 1000)
        self._now_ms = now_ms
        self._capture: cv2.VideoCapture | None = None
        self._due_ms = 0.0
        self._number = 0

    def open(self) -> None:
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
        self._due_ms = 0.0
        self._number = 0

    def read(self) -> Frame | None:
        if self._capture is None:
            raise CameraUnavailable(f"{self._shown}: the stream is not open")
        while self._capture.grab():
            # When it arrived: the stream's own times count from an origin that nobody here knows. So the
            # frames that FFMPEG looked at while it opened the stream come all at once, up to 2 s late.
            now_ms = self._now_ms()
            if now_ms < self._due_ms - 0.1 * self._interval_ms:
                continue
            self._due_ms = max(self._due_ms, now_ms - self._interval_ms) + self._interval_ms
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
