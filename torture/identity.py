"""`make torture-identity`: boards and fleets die at every named point of claim, rotation and fleet rotation.

Each life is one board and one death by SIGKILL; then the same is simply done again, as the
service manager or the administrator would. At its end the board must have exactly one
identity that works, and the registry must agree. Everything is real: Mosquitto with mutual
TLS, the commands of both sides in processes of their own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from demo.boards import PASSPHRASE
from demo.fleet_broker import fleet_at_broker
from edge.command import carry_out
from edge.evaluate.figures import Figure, commit, machine, one, write_json
from edge.steps import IdentityStep
from edge.trust.jws import parse_object
from edge.trust.protect import load_key_encryption_key
from edge.trust.store import IdentityStore
from edge.uplink.outbox import Outbox
from provisioning.claims import add_device
from provisioning.entries import ClaimState
from provisioning.fleet import Fleet
from provisioning.handover import Handover, Stage, uncertified
from provisioning.keys import PASSPHRASE as PASSPHRASE_VARIABLE
from provisioning.link import listener_of, spread
from provisioning.rotation import NAME, begin
from provisioning.serve import reported_keys
from provisioning.steps import DeskStep, FleetStep

LIVES = 10
"""How often it dies at each point."""

RUN_S = 60.0
"""A run takes about a second; one that takes so long hangs."""

SIGKILLED = -9
LOG = Path(tempfile.gettempdir()) / "hadir-torture-identity.log"
"""What all processes said, for whoever looks for the cause of a problem."""

ROOT = Path(__file__).parent.parent

CLAIM = (
    IdentityStep.CLAIM_KEPT,
    IdentityStep.KEY_MADE,
    IdentityStep.SEALING_KEY_MADE,
    IdentityStep.ASKING,
    IdentityStep.ASKED,
    IdentityStep.ANSWERED,
    IdentityStep.CERTIFICATE_WRITTEN,
    IdentityStep.KEYS_STORED,
    IdentityStep.AUTHORITIES_STORED,
    IdentityStep.STAGED,
    IdentityStep.CONFIGURATION_WRITTEN,
    IdentityStep.ACTIVATED,
    IdentityStep.CLEANED,
    IdentityStep.PROVEN,
    IdentityStep.CLAIM_FORGOTTEN,
)
DESK = (
    DeskStep.REQUEST_TAKEN,
    DeskStep.APPROVED,
    DeskStep.ANSWER_PUBLISHED,
    DeskStep.USED_UP,
    DeskStep.CLEARED,
    DeskStep.SPREAD,
)
ROTATION = (
    IdentityStep.COMMAND_NUMBERED,
    IdentityStep.KEY_MADE,
    IdentityStep.SEALING_KEY_MADE,
    IdentityStep.COMMAND_DONE,
    IdentityStep.COMMAND_ANSWERED,
    IdentityStep.CERTIFICATE_WRITTEN,
    IdentityStep.STAGED,
    IdentityStep.SUCCESSION_SIGNED,
    IdentityStep.SUCCESSION_COMMITTED,
    IdentityStep.ACTIVATED,
    IdentityStep.CLEANED,
)
FLEET = tuple(FleetStep)


@dataclass(slots=True)
class Torture:
    """What was done, and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def died(self, scene: str, step: StrEnum, code: int) -> None:
        """Count a death, or say that there was none."""
        if code == SIGKILLED:
            self.kills[f"{scene}, {step}"] += 1
        else:
            self.problems.append(f"{scene}, {step}: was not reached (exit code {code})")


@dataclass(frozen=True, slots=True)
class Board:
    """One board's folders, and its processes."""

    fleet: Fleet
    device: str
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "edge.toml"

    @property
    def claim(self) -> Path:
        return self.folder / "hadir-claim.json"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def kid(self) -> str | None:
        """Of the identity in use; None where there is none."""
        kek = load_key_encryption_key(self.state, {})
        current = IdentityStore(self.state, kek).current()
        return None if current is None else current.signing_key().kid

    def claims(self, kill_at: StrEnum | None = None) -> int:
        """`hadir-edge claim`; its exit code."""
        named = ["--claim", str(self.claim)] if self.claim.exists() else []
        return run("edge", ["claim", "--config", str(self.config), *named], kill_at)

    def problems(self) -> Iterator[str]:
        """What is wrong with it at the end of its life."""
        identities = [path.name for path in (self.state / "identity").iterdir() if not path.is_symlink()]
        if len(identities) != 1:
            yield f"{len(identities)} identities: {', '.join(identities)}"
        kid = self.kid()
        working = [
            k
            for k in self.fleet.registry.device_keys(self.device)
            if k.revoked_s is None and k.last_seq is None
        ]
        if [key.kid for key in working] != [kid]:
            yield f"the registry has {[key.kid for key in working]}, the board {kid}"
        good = [c for c in self.fleet.registry.certificates(self.device) if c.revoked_s is None]
        if not good:
            yield "no certificate is good"
        yield from self._chain_problems()

    def _chain_problems(self) -> Iterator[str]:
        """Every event is signed by the key that the chain handed over to, and none is missing."""
        outbox = Outbox(self.state / "outbox.db")
        expected, signer = 1, None
        for event in outbox.held(0, 1000):
            header, payload, _ = event.token.encode().split(b".")
            kid = str(parse_object(header, "header")["kid"])
            if event.seq != expected or signer not in (None, kid):
                yield f"seq {event.seq}: signed by {kid}, expected seq {expected} by {signer}"
            ((kind, said),) = parse_object(payload, "payload")["events"].items()
            signer = said["new_jwk"]["kid"] if kind.endswith(":key:1") else kid
            expected = event.seq + 1
        outbox.close()
        if signer not in (None, self.kid()):
            yield f"the chain ends with {signer}, the board has {self.kid()}"


def run(program: str, arguments: Sequence[str], kill_at: StrEnum | None = None, hit: int = 1) -> int:
    """One of the programs to its end, or its death; its exit code, negative for a signal."""
    with start(program, arguments, kill_at, hit) as process:
        try:
            return process.wait(RUN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


@contextmanager
def start(
    program: str, arguments: Sequence[str], kill_at: StrEnum | None = None, hit: int = 1
) -> Iterator[subprocess.Popen[bytes]]:
    """One of the programs in a process, ended with the block."""
    armed = [] if kill_at is None else ["--kill-at", kill_at.value, "--hit", str(hit)]
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "torture.killing", *armed, program, *arguments],
            cwd=ROOT,
            env=os.environ | {PASSPHRASE_VARIABLE: PASSPHRASE},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(RUN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], what: str, torture: Torture) -> bool:
    """Whether it came about in time; a problem where it did not."""
    deadline_s = time.monotonic() + RUN_S
    while not condition():
        if time.monotonic() > deadline_s:
            torture.problems.append(what)
            return False
        time.sleep(0.1)
    return True


def new_board(fleet: Fleet, folder: Path, device: str) -> Board:
    """A blank board, registered, with its claim beside it."""
    board = Board(fleet, device, folder / device)
    board.folder.mkdir()
    board.config.write_text("[events]\ndrain_s = 0.5\n")  # nobody here sends receipts to wait for
    claim = add_device(fleet, device, listener=listener_of(fleet), now_s=int(time.time()))
    spread(fleet, int(time.time()))
    board.claim.write_text(claim.file)
    return board


def used(fleet: Fleet, device: str) -> bool:
    """Whether a board's claim is used up."""
    return any(claim.state is ClaimState.USED for claim in fleet.registry.claims(device))


def serve(fleet: Fleet) -> list[str]:
    """The arguments of somebody at the desk."""
    return ["serve", str(fleet.folder), "--auto"]


def claim_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, life: int) -> None:
    """A board dies while it claims, and claims again."""
    board = new_board(fleet, folder, f"c{life}-{step}"[:32])
    torture.died("claim", step, board.claims(step))
    _come_in(board, torture, f"claim, {step}, life {life}")


def desk_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, life: int) -> None:
    """Whoever sits at the desk dies while a board claims, and somebody else sits down."""
    board = new_board(fleet, folder, f"d{life}-{step}"[:32])
    with start("provision", serve(fleet), step) as desk, _claiming(board):
        torture.died("desk", step, desk.wait(RUN_S))
    with start("provision", serve(fleet)):
        _come_in(board, torture, f"desk, {step}, life {life}")


@contextmanager
def _claiming(board: Board) -> Iterator[None]:
    with start("edge", ["claim", "--config", str(board.config), "--claim", str(board.claim)]):
        yield


def _come_in(board: Board, torture: Torture, what: str) -> None:
    deadline_s = time.monotonic() + RUN_S
    while (code := board.claims()) != 0:
        if time.monotonic() > deadline_s:
            torture.problems.append(f"{what}: the claim ends with {code}")
            return
    if not used(board.fleet, board.device):
        # It died between its identity and its first status: the daemon's own is as good.
        with start("quiet", ["--config", str(board.config)]):
            until(lambda: used(board.fleet, board.device), f"{what}: the claim is not used up", torture)
    torture.problems += [f"{what}: {problem}" for problem in board.problems()]


def rotation_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, life: int) -> None:
    """A board dies while it changes its key, and starts again."""
    what = f"rotation, {step}, life {life}"
    board = new_board(fleet, folder, f"r{life}-{step}"[:32])
    _come_in(board, torture, what)
    old = board.kid()
    quiet = ["--config", str(board.config)]
    begin(fleet, board.device, int(time.time()))
    code = 0
    while code == 0 and board.kid() == old:  # the point may lie before or after the restart of a rotation
        code = run("quiet", quiet, step)
    torture.died("rotation", step, code)
    deadline_s = time.monotonic() + RUN_S
    while not _rotated(board, old):
        if time.monotonic() > deadline_s:
            torture.problems.append(f"{what}: did not come to another key")
            return
        with start("quiet", quiet) as process:
            _nudge(board, old, process)
    torture.problems += [f"{what}: {problem}" for problem in board.problems()]


def _nudge(board: Board, old: str | None, process: subprocess.Popen[bytes]) -> None:
    """Until it restarts or is done; an interrupted command is given again, as an administrator would."""
    deadline_s = time.monotonic() + RUN_S / 4
    while process.poll() is None and not _rotated(board, old) and time.monotonic() < deadline_s:
        last = board.fleet.registry.last_command(board.device, NAME)
        if board.kid() == old and last is not None and last.status in ("interrupted", "refused"):
            begin(board.fleet, board.device, int(time.time()))
        time.sleep(0.1)


def _rotated(board: Board, old: str | None) -> bool:
    keys = {key.kid: key for key in board.fleet.registry.device_keys(board.device)}
    return board.kid() != old and old is not None and keys[old].last_seq is not None


def fleet_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, life: int) -> None:
    """The administrator's command dies while a fleet changes all its keys, and is given again; a board follows."""
    what = f"fleet rotation, {step}, life {life}"
    board = new_board(fleet, folder, "door-01")
    with start("provision", serve(fleet)):
        _come_in(board, torture, what)
    old = board.kid()
    with _restarted(board), start("provision", serve(fleet)):
        code = run("provision", _next_step(fleet), step)
        for _ in range(10):
            if code == SIGKILLED or Handover.of(fleet.refreshed()).stage is Stage.NONE:
                break
            code = run("provision", _next_step(fleet), step)
        torture.died("fleet rotation", step, code)
        deadline_s = time.monotonic() + 2 * RUN_S
        while not _followed(fleet.refreshed(), board):
            if time.monotonic() > deadline_s:
                torture.problems.append(f"{what}: the handover does not come to its end")
                return
            if Handover.of(fleet).stage is Stage.NONE and Handover.of(fleet).version > 0:
                time.sleep(0.5)  # done; the board has not reported it yet
            else:
                run("provision", _next_step(fleet))
    if board.kid() == old:
        torture.problems.append(f"{what}: the board has its old key")
    torture.problems += [f"{what}: {problem}" for problem in board.problems()]


def _next_step(fleet: Fleet) -> list[str]:
    """What the administrator types: once the keys are switched, the last step."""
    last = Handover.of(fleet).stage in (Stage.SWITCHED, Stage.FINISHING)
    return ["rotate-fleet", str(fleet.folder), *(["--finish"] if last else []), "--wait-s", "30"]


def _followed(fleet: Fleet, board: Board) -> bool:
    done = Handover.of(fleet)
    reported = reported_keys(fleet).get(board.device, 0)
    return (
        done.stage is Stage.NONE and done.version > 0 and reported == done.version and not uncertified(fleet)
    )


@contextmanager
def _restarted(board: Board) -> Iterator[None]:
    """A board whose service manager starts it again whenever it ends."""
    script = "import subprocess, sys\nwhile True:\n    subprocess.run(sys.argv[1:], check=False)\n"
    command = [sys.executable, "-m", "torture.quiet", "--config", str(board.config)]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, 15)
        process.wait()


Scene = Callable[[Fleet, Path, Torture, StrEnum, int], None]

SCENES: Mapping[str, tuple[Sequence[StrEnum], Scene, bool]] = {
    "claim": (CLAIM, claim_dies, True),
    "desk": (DESK, desk_dies, False),
    "rotation": (ROTATION, rotation_dies, True),
    "fleet": (FLEET, fleet_dies, False),
}
"""By name: the points, a life, and whether somebody sits at the desk all the time."""


def torture_scene(name: str, lives: int, torture: Torture, steps: Sequence[StrEnum] | None = None) -> None:
    """So many lives at each point. A fleet that changes its keys is a new one each time."""
    points, scene, attended = SCENES[name]
    for step in steps or points:
        with fleet_at_broker() as fleet:
            if name != "fleet":
                _lives(scene, fleet, step, lives, torture, attended=attended)
        if name == "fleet":
            for life in range(lives):
                with fleet_at_broker() as fleet:
                    scene(fleet, fleet.folder.parent, torture, step, life)
        print(f"{name}, {step}: {torture.kills[_scene_name(name, step)]} deaths", flush=True)


def _scene_name(name: str, step: StrEnum) -> str:
    return f"{'fleet rotation' if name == 'fleet' else name}, {step}"


def _lives(
    scene: Scene, fleet: Fleet, step: StrEnum, lives: int, torture: Torture, *, attended: bool
) -> None:
    if not attended:
        for life in range(lives):
            scene(fleet, fleet.folder.parent, torture, step, life)
        return
    with start("provision", serve(fleet)):
        for life in range(lives):
            scene(fleet, fleet.folder.parent, torture, step, life)


def main(arguments: Sequence[str] | None = None) -> int:
    """Torture; 0 if every board had one working identity at its end and every point was reached, else 1."""
    parser = argparse.ArgumentParser(prog="python -m torture.identity")
    parser.add_argument("--lives", type=int, default=LIVES, help="at each point, default %(default)s")
    parser.add_argument("--scene", action="append", choices=sorted(SCENES), help="default: all; repeatable")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(arguments)
    return carry_out("torture", lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    torture, began_s = Torture(), time.monotonic()
    print(f"torture.identity: commit {commit()}, {machine()}", flush=True)
    for name in options.scene or SCENES:
        torture_scene(name, options.lives, torture)
    for problem in torture.problems:
        print(f"PROBLEM {problem}")
    print(
        f"{sum(torture.kills.values())} deaths at {len(torture.kills)} points, {len(torture.problems)} problems, "
        f"{time.monotonic() - began_s:.0f} s"
    )
    if options.json is not None:
        figures: dict[str, Figure] = {
            "deaths": one(sum(torture.kills.values()), ""),
            "points": one(len(torture.kills), ""),
            "problems": one(len(torture.problems), ""),
        }
        write_json(options.json, "torture-identity", figures)
    return int(bool(torture.problems))


if __name__ == "__main__":
    sys.exit(main())
