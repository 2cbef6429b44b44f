"""A look through the camera, in a process of its own: a device that hangs inside its driver can only be killed.

`python -m edge.check.look CONFIG` prints one JSON object, a `View` or an error; `look`
starts that and ends it, with all that it started, when its time is over.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.assembly import open_detector
from edge.camera import open_camera
from edge.check.judge import View
from edge.config import Config, RecognitionConfig, load_config
from edge.errors import CameraUnavailable, HadirError, ModelError
from edge.recognition.detect import Detector, check_image
from edge.recognition.manifest import load_manifest
from edge.recognition.quality import examine
from edge.records import Image, NoAttendance

LOOK_S = 1.5
"""Long enough for a camera's exposure to settle, and for noise to show that the picture moves."""

MAX_FRAMES = 60
"""A recording in fast pace would otherwise be decoded for the whole of LOOK_S."""

TILES = 8
SHARPNESS_WIDTH_PX = 640
"""Sharpness depends on scale: every picture is shrunk to this width first."""


def look(config: Path, timeout_s: float) -> View:
    """What the configured camera shows.

    Raises:
        CameraUnavailable: it does not open, stopped, or did nothing within the time.
        HadirError: a recording cannot be played; the message is the camera's own.
    """
    command = [sys.executable, "-m", "edge.check.look", str(config.absolute())]
    # A session of its own: what the camera starts (gst-launch) ends with it.
    with subprocess.Popen(  # noqa: S603 - this very program
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            answer, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise CameraUnavailable(
                f"camera: no picture within {timeout_s:.0f} s; check its cable, power and address, and restart it"
            ) from None
        finally:
            _end(process)
    return _understand(answer)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of it is gone already, as it should be


def _understand(answer: bytes) -> View:
    try:
        told: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise CameraUnavailable(
            "camera: its driver crashed; see `dmesg`, and try the camera with its own tool (v4l2-ctl, rpicam-hello)"
        ) from None
    if "error" in told:
        raise HadirError(told["error"])
    unfit = told.pop("unfit")
    return View(**told, unfit=None if unfit is None else NoAttendance(unfit))


def view(config: Config) -> View:
    """Open the camera, take pictures for LOOK_S and measure them. Raises HadirError."""
    detector = _detector(config.recognition)
    frames = 0
    moving = False
    first: Image | None = None
    last: Image | None = None
    faces: list[tuple[NoAttendance | None, float]] = []
    with open_camera(config.camera, threading.Event()) as camera:
        until_s = time.monotonic() + LOOK_S
        while frames < MAX_FRAMES and (frames == 0 or time.monotonic() < until_s):
            frame = camera.read()
            if frame is None:
                break
            last = frame.image
            check_image(last)
            first = last if first is None else first
            moving = moving or not np.array_equal(first, last)
            frames += 1
            for face in () if detector is None else detector.detect(last):
                faces.append((examine(last, face, config.quality), face.box.width_px))
    if last is None:
        raise CameraUnavailable("camera: it gave no picture at all; check its cable, or its file")
    # The one that comes nearest to being recognised: a good one before the others, then the widest.
    unfit, face_px = max(faces, key=lambda face: (face[0] is None, face[1]), default=(None, None))
    return View(
        width=last.shape[1],
        height=last.shape[0],
        frames=frames,
        brightness=float(last.mean()),
        sharpness=sharpness(last),
        moving=moving,
        face_px=face_px,
        unfit=unfit,
    )


def sharpness(image: Image) -> float:
    """Variance of the Laplacian in the sharpest of TILES x TILES tiles, at SHARPNESS_WIDTH_PX or below.

    Of the sharpest, because most of a door's view is bare wall; in focus, some edge of it
    is sharp.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    scale = SHARPNESS_WIDTH_PX / grey.shape[1]
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    tiles = [tile for row in np.array_split(edges, TILES) for tile in np.array_split(row, TILES, axis=1)]
    return max(float(tile.var()) for tile in tiles if tile.size)


def _detector(config: RecognitionConfig) -> Detector | None:
    """None where the models cannot be used, which another line says."""
    try:
        manifest = load_manifest(config.models_dir)
        return open_detector(manifest, manifest.embedder(config.embedder), config)
    except ModelError:
        return None


def main() -> None:
    """The process that `look` starts."""
    try:
        answer = asdict(view(load_config(Path(sys.argv[1]))))
    except (HadirError, OSError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
    # Libraries of cameras have threads that need not end; there is nothing left to put in order.
    os._exit(0)


if __name__ == "__main__":
    main()
