"""A camera behind a GStreamer pipeline, above all CSI on a Jetson.

The wheels of OpenCV have no GStreamer, and the Jetson's camera source is only to be had
there. So a child process, `gst-launch-1.0 -q … ! fdsink`, writes raw pictures to a pipe.
The pipeline is handed over as a list of arguments: no shell reads it.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from typing import IO, cast

import numpy as np

from edge.board.clock import boottime_ms
from edge.camera import Camera, Origin
from edge.camera.view import RateLimit
from edge.errors import CameraUnavailable
from edge.records import Frame

PROGRAM = "gst-launch-1.0"

OPEN_TIMEOUT_S = 10.0
"""Until the first picture: NVIDIA's camera daemon takes two to three seconds, more after a crash."""

READ_TIMEOUT_S = 4.0
"""A camera that hangs has to be noticed within five seconds."""

END_TIMEOUT_S = 2.0
"""For the child to end by itself once asked, so that it can give the sensor back; then it is killed."""

STDERR_BYTES = 2000
"""How much of what the child said last is kept for the error's message."""

CHUNK_BYTES = 1 << 20

SENSOR_FRAMES_PER_S = 30
"""What every sensor mode of the Jetson's usual CSI cameras offers; the rate is limited afterwards."""


def csi_source(sensor: int, size: tuple[int, int]) -> str:
    """The elements for the CSI camera `sensor` of a Jetson, whose image processor scales to `size`."""
    width, height = size
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={SENSOR_FRAMES_PER_S}/1 ! "
        "nvvidconv ! video/x-raw,format=BGRx"
    )


def command(source: str, size: tuple[int, int]) -> list[str]:
    """Program and arguments that turn what `source` gives into BGR pictures of `size` on standard output.

    Raises:
        ValueError: `source` cannot be split into arguments, as by a quotation mark without its pair.
    """
    width, height = size
    # The queue keeps only the newest picture: a slow reader misses some, but sees none that is old.
    sink = (
        f"videoconvert ! videoscale ! video/x-raw,format=BGR,width={width},height={height} ! "
        "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0 ! fdsink fd=1"
    )
    return [PROGRAM, "-q", *shlex.split(source), "!", *shlex.split(sink)]


def origin_of(source: str) -> Origin:
    """Whether a pipeline's pictures come from a sensor one by one, or were compressed in relation to each other."""
    return Origin.STREAM if _VIDEO_CODEC.search(source) else Origin.SENSOR


_VIDEO_CODEC = re.compile(r"://|decodebin|26[45]|hevc|vp[89]|av1|mpeg|nvv4l2decoder|udpsrc|tcpclientsrc")
"""What is found in pipelines that receive or decode a stream. JPEG is not: it compresses each picture by itself."""


class GstreamerCamera(Camera):
    """Reads what a pipeline gives.

    Args:
        source: the pipeline's elements up to raw video, in gst-launch's words.
        size: width and height of the pictures; they are scaled if need be.
        frames_per_s: an upper limit; 0 takes what the pipeline gives.
        open_timeout_s: longest to wait for the first picture.
        read_timeout_s: longest to wait for each other.
        now_ms: CLOCK_BOOTTIME in milliseconds.
    """

    live = True

    def __init__(
        self,
        source: str,
        *,
        size: tuple[int, int],
        frames_per_s: float = 0.0,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        now_ms: Callable[[], int] = boottime_ms,
    ) -> None:
        self._source = source
        self._size = size
        self._frames_per_s = frames_per_s
        self._open_timeout_s = open_timeout_s
        self._read_timeout_s = read_timeout_s
        self._now_ms = now_ms
        # GStreamer begins each row of BGR at a multiple of four bytes (video-info.c).
        self._stride = (size[0] * 3 + 3) // 4 * 4
        self._child: _Child | None = None
        self._ahead: Frame | None = None
        self._limit = RateLimit(frames_per_s)
        self._number = 0

    @property
    def origin(self) -> Origin:
        return origin_of(self._source)

    def open(self) -> None:
        self._limit = RateLimit(self._frames_per_s)
        self._number = 0
        self._child = _Child(command(self._source, self._size))
        try:
            # The first picture is read now, so that a pipeline that cannot run shows at once.
            self._ahead = self._next(self._child, self._open_timeout_s)
        except CameraUnavailable:
            self.close()
            raise

    def read(self) -> Frame | None:
        if self._child is None:
            raise CameraUnavailable("gstreamer: the pipeline is not running")
        frame, self._ahead = self._ahead, None
        return frame if frame is not None else self._next(self._child, self._read_timeout_s)

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
        self._ahead = None

    def _next(self, child: _Child, timeout_s: float) -> Frame:
        width, height = self._size
        while True:
            data = child.read(self._stride * height, timeout_s)
            now_ms = self._now_ms()
            if self._limit.admits(now_ms):
                self._number += 1
                rows = np.frombuffer(data, np.uint8).reshape(height, self._stride)[:, : width * 3]
                return Frame(np.ascontiguousarray(rows).reshape(height, width, 3), now_ms, self._number)


class _Child:
    """The process, its two pipes, and the last that it said. Always ended by `end`."""

    def __init__(self, arguments: list[str]) -> None:
        try:
            # A session of its own: Ctrl-C at the daemon's terminal is for the daemon to pass on.
            self._process = subprocess.Popen(  # noqa: S603 - an administrator's own pipeline, and no shell
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise CameraUnavailable(
                f"gstreamer: {arguments[0]} cannot be started ({error.strerror}); "
                "install gstreamer1.0-tools and the plugins that the pipeline needs"
            ) from error
        self._pipes = cast(IO[bytes], self._process.stdout), cast(IO[bytes], self._process.stderr)
        self._pictures, self._words = (pipe.fileno() for pipe in self._pipes)
        self._said = b""
        self._selector = selectors.DefaultSelector()
        for pipe in (self._pictures, self._words):
            os.set_blocking(pipe, False)
            self._selector.register(pipe, selectors.EVENT_READ)

    def read(self, count: int, timeout_s: float) -> bytearray:
        """Just so many bytes of pictures.

        Raises:
            CameraUnavailable: they did not come in time, or the child ended; with what it said.
        """
        data = bytearray(count)
        view, filled = memoryview(data), 0
        until_s = time.monotonic() + timeout_s
        while filled < count:
            ready = self._selector.select(max(0.0, until_s - time.monotonic()))
            if not ready:
                raise CameraUnavailable(f"gstreamer: no picture for {timeout_s:g} s{self._last_words()}")
            pipes = {key.fd for key, _ in ready}
            if self._words in pipes:
                self._listen()
            if self._pictures in pipes:
                got = os.readv(self._pictures, [view[filled:]])
                if not got:
                    raise CameraUnavailable(f"gstreamer: the pipeline ended{self._last_words()}")
                filled += got
        return data

    def end(self) -> None:
        """Ask the child to end, kill it if it does not, and take it off the kernel's list in any case."""
        self._selector.close()
        # gst-launch takes SIGINT as a wish to stop the pipeline; at SIGTERM it would just die, and NVIDIA's
        # camera daemon might keep the sensor.
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in self._pipes:
            pipe.close()

    def _listen(self) -> bool:
        """Take what the child has said; False once there is nothing more."""
        try:
            words = os.read(self._words, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not words:
            self._selector.unregister(self._words)
            return False
        self._said = (self._said + words)[-STDERR_BYTES:]
        return True

    def _last_words(self) -> str:
        while self._words in self._selector.get_map() and self._listen():
            pass
        said = " ".join(self._said.decode(errors="replace").split())
        return f"; it said: {said}" if said else ""
