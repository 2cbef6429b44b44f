"""Light to frames: one file per device behind one small protocol.

A device's library is imported only in its own file, and only once that device was chosen,
so that a board without it still runs with another.
"""

from __future__ import annotations

import threading
from typing import Protocol, Self

from edge.config import CameraConfig
from edge.records import Frame

STREAM_SCHEMES = ("rtsp://", "rtsps://")


class Camera(Protocol):
    """Gives frames until it is closed. Building one neither opens nor checks anything.

    Owned by one thread; `close` may be called from there only, and more than once.
    """

    @property
    def live(self) -> bool:
        """Whether time goes on without the reader: frames that come too fast may be dropped."""
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
    # Imported here: a board has only the libraries of its own camera.
    if len(settings.sources) == 1 and settings.sources[0].startswith(STREAM_SCHEMES):
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
