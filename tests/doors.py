"""A door to test at: a board with its folder, clips to watch, and the daemon as a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from demo import door
from demo.door import DEVICE, FRAMES_PER_S, templates, walk
from demo.walkpast import empty_corridor, write_clip
from edge.assembly import Eyes
from edge.recognition.gallery import make_gallery
from edge.records import Image, Vector
from provisioning.fleet import Fleet

__all__ = [
    "DEVICE",
    "FRAMES_PER_S",
    "Daemon",
    "daemon",
    "nobody",
    "save_clip",
    "set_up_board",
    "templates",
    "walk",
]


def nobody(seconds: float = 1.5, seed: int = 1) -> Iterator[Image]:
    """The empty corridor."""
    return empty_corridor(seed, int(seconds * FRAMES_PER_S))


def save_clip(path: Path, *scenes: Iterable[Image]) -> Path:
    """Scenes one after the other as a clip that the replay camera can play."""
    write_clip(path, (image for scene in scenes for image in scene), FRAMES_PER_S)
    return path


def set_up_board(
    fleet: Fleet,
    eyes: Eyes,
    enrolled: Mapping[str, Vector],
    *,
    broker_url: str,
    clip: Path,
    camera: str = 'pace = "fast"',
    extra: str = "",
    events: str = "",
) -> Path:
    """The first board with these people enrolled, watching a clip; returns its configuration's path."""
    gallery = make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, enrolled)
    return door.set_up_board(
        fleet, gallery, broker_url=broker_url, sources=[clip], settings=f"{camera}\n{extra}", events=events
    )


@dataclass
class Daemon:
    """A running `hadir-edge`, and what it has said."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def said(self, words: str) -> bool:
        """Whether it has said so, now or within a minute."""
        with self._changed:
            return self._changed.wait_for(lambda: any(words in line for line in self.lines), 60)

    def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        code = self.process.wait(60)
        self._reader.join(60)
        return code

    def log(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()


@contextmanager
def daemon(config: Path) -> Iterator[Daemon]:
    """`hadir-edge run` on this configuration; killed at the end if it still runs."""
    command = [sys.executable, "-m", "edge", "run", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        running = Daemon(process)
        try:
            yield running
        finally:
            process.kill()
            process.wait(60)
            running._reader.join(60)
