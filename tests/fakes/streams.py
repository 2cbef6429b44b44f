"""Real GStreamer for tests, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("rtsp_server.py")
SYSTEM_PYTHON = "/usr/bin/python3"


def need_gst_launch() -> None:
    """Skip where GStreamer's command is not installed."""
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("gst-launch-1.0 is not installed (gstreamer1.0-tools)")


def need_rtsp_server() -> None:
    """Skip where the system's Python has no binding of GStreamer's RTSP server."""
    program = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        found = subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"there is no {SYSTEM_PYTHON}")
    if found.returncode:
        pytest.skip("no gir1.2-gst-rtsp-server-1.0 and python3-gi for the system's Python")


@contextmanager
def rtsp_stream(launch: str, port: int = 0) -> Iterator[int]:
    """Serve a pipeline at rtsp://127.0.0.1:<port>/door; yields the port. Killed without a word at the end."""
    need_rtsp_server()
    command = [SYSTEM_PYTHON, str(SERVER), str(port), launch]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
            process.wait(20)


def pictures_pipeline(first: Path) -> str:
    """Elements that show frame8.png, frame9.png and so on of a folder, ten a second, as raw video."""
    pattern = first.with_name("frame%d.png")
    return (
        f"multifilesrc location={pattern} start-index=8 stop-index=13 "
        "caps=image/png,framerate=10/1 ! pngdec ! videoconvert"
    )
