"""Light to frames: one file per device behind one small protocol.

A device's library is imported only in its own file, and only once that device was chosen,
so that a board without it still runs with another.
"""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import Protocol, Self

from edge.config import CameraConfig
from edge.records import Frame

STREAM_SCHEMES = ("rtsp://", "rtsps://")


def is_stream(source: str) -> bool:
    """Whether a source is a stream and not a file: in whatever case its scheme is written (RFC 3986, section 3.1)."""
    return source.lower().startswith(STREAM_SCHEMES)


class Origin(StrEnum):
    """How a camera's pictures came about, which decides what a still or dark one means."""

    SENSOR = "sensor"
    """Each comes from a sensor of this board by itself: noise makes any two of them differ."""
    STREAM = "stream"
    """Compressed elsewhere: an encoder repeats what hardly changed, so a quiet scene can stand still."""
    RECORDING = "recording"
    """Whatever somebody recorded or drew."""


class Camera(Protocol):
    """Gives frames until it is closed. Building one neither opens nor checks anything.

    Owned by one thread; `close` may be called from there only, and more than once.
    """

    @property
    def live(self) -> bool:
        """Whether time goes on without the reader: frames that come too fast may be dropped."""
        ...

    @property
    def origin(self) -> Origin:
        """How its pictures come about."""
        ...

    def open(self) -> None:
        """Begin to give frames, from the first one where there is a first.

        Raises:
            CameraUnavailable: the device or stream does not open; it may later.
            InputError: a file that a person named cannot be played.
        """
        ...

    def read(self) -> Frame | None:
        """The next frame, as soon as there is one; None where no more will come.

        None means that a recording is over or that a stop was asked for. A device or
        stream has no end, and raises instead.

        Raises:
            CameraUnavailable: the device or stream stopped.
            InputError: a file that is due next cannot be played.
        """
        ...

    def close(self) -> None:
        """Let go of the device or file."""
        ...

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_camera(settings: CameraConfig, stop: threading.Event) -> Camera:
    """The camera that the configuration names; entering its context opens it.

    `stop` ends a `read` that waits for a recording's next frame.
    """
    from edge.camera.view import View, ViewedCamera  # noqa: PLC0415 - which imports this module

    camera, view = _camera_of(settings, stop), View.of(settings)
    return camera if view == View() else ViewedCamera(camera, view)


def _camera_of(settings: CameraConfig, stop: threading.Event) -> Camera:
    # Imported here: a board has only the libraries of its own camera.
    size = (settings.width, settings.height)
    if settings.kind == "picamera":
        from edge.camera.picamera import PiCamera  # noqa: PLC0415

        return PiCamera(int(settings.device), size=size, frames_per_s=settings.frames_per_s)
    if settings.kind == "v4l2":
        from edge.camera.v4l2 import V4l2Camera  # noqa: PLC0415

        return V4l2Camera(settings.device, size=size, frames_per_s=settings.frames_per_s)
    if settings.kind == "gstreamer":
        from edge.camera.gstreamer import GstreamerCamera, csi_source  # noqa: PLC0415

        source = settings.pipeline or csi_source(int(settings.device), size)
        return GstreamerCamera(source, size=size, frames_per_s=settings.frames_per_s)
    if len(settings.sources) == 1 and is_stream(settings.sources[0]):
        from edge.camera.rtsp import RtspCamera  # noqa: PLC0415

        return RtspCamera(settings.sources[0], frames_per_s=settings.frames_per_s)
    from edge.camera.replay import ReplayCamera  # noqa: PLC0415

    return ReplayCamera(
        settings.sources,
        frames_per_s=settings.frames_per_s,
        live=settings.pace == "real",
        repeat=settings.at_end == "repeat",
        wait=stop.wait,
    )
