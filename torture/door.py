"""A board to torture: its clip, its folder, its process, and a look at the outbox of a dead one."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from time import monotonic, sleep

from demo.boards import make_fleet
from demo.door import DEVICE, FRAMES_PER_S, set_up_board, templates, walk
from demo.people import sample_people
from demo.walkpast import write_clip
from edge.assembly import Eyes, open_eyes
from edge.config import RecognitionConfig
from edge.recognition.gallery import make_gallery
from provisioning.fleet import Fleet
from torture.aim import Aim, take_aim
from torture.plan import Target
from torture.verdict import History, Run, Snapshot

PERSON = "P44"
EMBEDDER = "sface"
"""Alone, because it starts faster; what is tortured comes after recognition."""

PASSES = 3
"""Attendances in a run of the daemon."""

FIRST_FRAME, FRAMES = 22, 6
"""Of a rendered walk of 48: near enough to be recognised at once, and no more of it than that."""

RUN_S = 60.0
"""A run takes about a second; one that takes so long hangs."""

SIGKILLED = -9

READY = " ready: "
"""In the daemon's log line that says that all is loaded."""

HUNG = 124
"""As timeout(1) says it."""

ROOT = Path(__file__).parent.parent
"""Neither this package nor `demo` is installed; they are found from here."""


@dataclass(frozen=True, slots=True)
class Door:
    """A fleet of one board, with somebody enrolled who walks past PASSES times a run."""

    folder: Path
    fleet: Fleet

    @property
    def devices(self) -> Path:
        return self.fleet.folder / "devices.jwks"

    def new_board(self, name: str, *, archive_kept: bool, changes: Sequence[tuple[str, str]] = ()) -> Path:
        """The board's folder once more, with no outbox in it yet; its configuration, with these texts replaced."""
        archive_days = 30 if archive_kept else 0
        board = self.folder / name
        shutil.copytree(self.fleet.folder / "boards" / DEVICE, board)
        path = board / "edge.toml"
        text = path.read_text(encoding="utf-8")
        for old, new in (("[events]\n", f"[events]\narchive_days = {archive_days}\n"), *changes):
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
        return path


def make_door(folder: Path, broker_url: str) -> Door:
    """Render the clip, enrol, sign: all that does not depend on how the board is going to die."""
    eyes = open_eyes(RecognitionConfig(embedder=EMBEDDER))
    clip = folder / "pass.avi"
    _render(eyes, clip)
    fleet = make_fleet(folder / "fleet", site="hq", devices=[DEVICE])
    enrolled = templates(eyes, {PERSON: sample_people()[PERSON][:2]})
    gallery = make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, enrolled)
    settings = f'pace = "fast"\n[recognition]\nembedder = "{EMBEDDER}"\n[decide]\ncooldown_s = 0'
    set_up_board(fleet, gallery, broker_url=broker_url, sources=[clip] * PASSES, settings=settings)
    return Door(folder, fleet)


@dataclass(frozen=True, slots=True)
class Death:
    """How a run ended, and what it said until then."""

    code: int
    """As subprocess has it: negative for a signal."""
    log: str
    seconds: float
    """From the line "ready" on."""

    @property
    def killed(self) -> bool:
        return self.code == SIGKILLED

    @property
    def told(self) -> int:
        return self.log.count(" attendance: track=")

    @property
    def last_line(self) -> str:
        return self.log.rstrip().rpartition("\n")[2]


@dataclass(frozen=True, slots=True)
class Shot:
    """A kill at a moment: so long after the daemon was ready."""

    after_s: float
    kill: Callable[[], object] | None = None
    """Kills another process; None for the daemon itself."""


class Life:
    """One outbox from its birth on, through every death of the daemon that owns it."""

    def __init__(self, config: Path, *, archive_kept: bool, mutation: str | None = None) -> None:
        self.history = History(archive_kept)
        self.aim = config.parent / "aim"
        """Where an aim at the daemon's points may appear."""
        self._config = config
        self._mutation = mutation

    def run_to_its_end(self) -> float:
        """No kill; how long it took, in seconds from "ready"."""
        death = self.live("")
        if death.code != 0:
            self._note(f"the daemon ended with exit code {death.code}: {death.last_line}")
        return death.seconds

    def kill_at(self, target: Target, random: Random) -> int:
        """Kill it at this point; which hit it was, or 0 if it never came by."""
        for hit in dict.fromkeys((random.choice(target.hits), target.hits[0])):
            take_aim(self.aim, Aim(target.step, hit))
            death = self.live(str(target))
            self.aim.unlink(missing_ok=True)
            if death.killed:
                return hit
            if death.code != 0:
                self._note(f"at {target} the daemon ended with exit code {death.code}: {death.last_line}")
                return 0
        return 0

    def kill_after(self, seconds: float) -> bool:
        """Kill it so long after it was ready; False if it had ended before."""
        death = self.live("random", Shot(seconds))
        if death.code not in (0, SIGKILLED):
            self._note(f"the daemon ended with exit code {death.code}: {death.last_line}")
        return death.killed

    def be_patient(self, drain_s: int) -> None:
        """From now on it waits longer, at each stop, for what is not yet delivered."""
        text = re.sub(r"drain_s = [0-9.]+", f"drain_s = {drain_s}", self._config.read_text(encoding="utf-8"))
        self._config.write_text(text, encoding="utf-8")

    @property
    def broken(self) -> bool:
        return bool(self.history.problems)

    def live(self, why: str, shot: Shot | None = None, begun: Callable[[int], object] | None = None) -> Death:
        """One run of the daemon, to whatever end; `begun` is told its process id."""
        first_seq = self.history.head_seq + 1
        mutation = ("--mutation", self._mutation) if self._mutation else ()
        command = (
            sys.executable,
            "-m",
            "torture.board",
            "--config",
            str(self._config),
            "--aim",
            str(self.aim),
        )
        death = watch((*command, *mutation), shot, begun)
        self.history.take(look_into(self._config.parent / "state" / "outbox.db"))
        killed_at = why if death.killed else ""
        self.history.runs.append(Run(killed_at, first_seq, self.history.head_seq, death.told))
        return death

    def _note(self, problem: str) -> None:
        self.history.problems.append(problem)


def look_into(outbox: Path) -> Snapshot | None:
    """What is committed in an outbox that nobody has open; None where no chain was born yet.

    Reads a copy, so that the next start finds the files exactly as the dead process left them.
    """
    with tempfile.TemporaryDirectory(prefix="hadir-look-") as name:
        copy = Path(name) / outbox.name
        for suffix in ("", "-wal"):
            part = outbox.with_name(outbox.name + suffix)
            if part.exists():
                shutil.copyfile(part, copy.with_name(part.name))
        if not copy.exists():
            return None
        database = sqlite3.connect(copy)
        try:
            return _snapshot(database)
        finally:
            database.close()


def _snapshot(database: sqlite3.Connection) -> Snapshot | None:
    if not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return None
    chain, seq, head_hash = database.execute("SELECT chain, seq, hash FROM head").fetchone()
    (waiting,) = database.execute("SELECT count(*) FROM event WHERE acked_real_ms IS NULL").fetchone()
    tokens = dict(database.execute("SELECT seq, token FROM event"))
    return Snapshot(chain, seq, head_hash, waiting, tokens)


def watch(
    command: Sequence[str], shot: Shot | None = None, begun: Callable[[int], object] | None = None
) -> Death:
    """Let a daemon live until it ends; `begun` is told its process id, and `shot` may kill it or another."""
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        hung = threading.Event()
        if begun is not None:
            begun(process.pid)

        def give_up() -> None:
            hung.set()
            process.kill()

        patience = threading.Timer(RUN_S, give_up)
        patience.start()
        began_s, said = monotonic(), []
        # Read from the stream to its end; communicate() goes past it, and what was read ahead with
        # the line "ready" would be missing.
        for line in process.stderr or ():
            said.append(line)
            if READY in line:
                began_s = monotonic()
                if shot is not None:
                    sleep(shot.after_s)
                    (shot.kill or process.kill)()
        code = process.wait()
        patience.cancel()
    return Death(HUNG if hung.is_set() else code, "".join(said), monotonic() - began_s)


def _render(eyes: Eyes, clip: Path) -> None:
    near = islice(walk(eyes, sample_people()[PERSON][2]), FIRST_FRAME, FIRST_FRAME + FRAMES)
    write_clip(clip, near, FRAMES_PER_S)
