"""How boards, desks and administrators die, scene by scene, and what is done afterwards; see `torture.identity`."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from edge.steps import IdentityStep
from edge.trust.admission import Purpose
from edge.trust.claim import Claim
from edge.uplink.outbox import Outbox
from provisioning.claims import add_claim, add_device
from provisioning.entries import ClaimState
from provisioning.fleet import Fleet
from provisioning.handover import Handover, Stage, uncertified
from provisioning.link import listener_of, spread
from provisioning.rotation import NAME, begin
from provisioning.serve import reported_keys
from provisioning.steps import DeskStep, FleetStep
from torture.identities import ROOT, RUN_S, Board, Programs

SIGKILLED = -9

_ASKING = (
    IdentityStep.CLAIM_KEPT,
    IdentityStep.KEY_MADE,
    IdentityStep.SEALING_KEY_MADE,
)
_STAGING = (
    IdentityStep.ANSWERED,
    IdentityStep.CERTIFICATE_WRITTEN,
    IdentityStep.KEYS_STORED,
    IdentityStep.AUTHORITIES_STORED,
    IdentityStep.STAGED,
    IdentityStep.CONFIGURATION_WRITTEN,
)
_TAKING = (
    IdentityStep.ACTIVATED,
    IdentityStep.CLEANED,
    IdentityStep.PROVEN,
    IdentityStep.CLAIM_FORGOTTEN,
)
CLAIM = (*_ASKING, IdentityStep.ASKING, IdentityStep.ASKED, *_STAGING, *_TAKING)
RENEWAL = (
    *CLAIM[: -len(_TAKING)],
    IdentityStep.SUCCESSION_SIGNED,
    IdentityStep.SUCCESSION_COMMITTED,
    *_TAKING,
)
SIGNING = (DeskStep.REQUEST_TAKEN, DeskStep.APPROVED, DeskStep.SPREAD)
STICK = (*_ASKING, *SIGNING, *_STAGING, *_TAKING)
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
ROTATION_DESK = (DeskStep.REPLY_TAKEN, DeskStep.SPREAD)
FLEET = tuple(FleetStep)


@dataclass(slots=True)
class Torture:
    """What was done, and what came of it."""

    programs: Programs = field(default_factory=Programs)
    kills: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Life:
    """One board's, with one death in it."""

    torture: Torture
    fleet: Fleet
    scene: str
    step: StrEnum
    number: int

    @property
    def device(self) -> str:
        """A board of its own."""
        letters = "".join(word[0] for word in self.scene.split("-"))
        return f"{letters}{self.number}-{self.step}"[:32]

    def died(self, code: int, board: Board | None = None) -> None:
        """Count a death, or say that there was none; look what it left on the board."""
        if code == SIGKILLED:
            self.torture.kills[f"{self.scene}, {self.step}"] += 1
        else:
            self.problem(f"was not reached (exit code {code})")
        if board is not None:
            for problem in board.whole():
                self.problem(f"right after it died: {problem}")

    def problem(self, what: str) -> None:
        """Something that should not be."""
        self.torture.problems.append(f"{self.scene}, {self.step}, life {self.number}: {what}")

    def until(self, condition: Callable[[], bool], what: str, limit_s: float = RUN_S) -> bool:
        """Whether it came about in time; a problem where it did not."""
        deadline_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline_s:
                self.problem(what)
                return False
            time.sleep(0.1)
        return True

    def judge(self, board: Board) -> None:
        """The board and everybody's files at its end."""
        self.until(board.spread, "broker and servers were not told what the registry says")
        for problem in board.problems():
            self.problem(problem)


def serve(fleet: Fleet) -> list[str]:
    """The arguments of somebody at the desk."""
    return ["serve", str(fleet.folder), "--auto"]


def new_board(life: Life, folder: Path, device: str | None = None) -> Board:
    """A blank board, registered, with its claim beside it."""
    board = blank_board(life, folder, device or life.device)
    claim = add_device(life.fleet, board.device, listener=listener_of(life.fleet), now_s=int(time.time()))
    hand_out(board, claim)
    return board


def blank_board(life: Life, folder: Path, device: str, name: str | None = None) -> Board:
    """One that nobody knows yet."""
    board = Board(life.torture.programs, life.fleet, device, folder / (name or device))
    board.folder.mkdir()
    board.config.write_text("[events]\ndrain_s = 0.5\n")  # nobody here sends receipts to wait for
    return board


def another_claim(board: Board, purpose: Purpose) -> None:
    """For a door whose board is known."""
    fleet = board.fleet
    hand_out(
        board,
        add_claim(fleet, board.device, purpose, listener=listener_of(fleet), now_s=int(time.time())),
    )


def hand_out(board: Board, claim: Claim) -> None:
    """Where the board finds it, once the broker knows."""
    spread(board.fleet, int(time.time()))
    board.claim.write_text(claim.file)


def used(board: Board) -> bool:
    """Whether all claims of its door are used up."""
    return all(claim.state is ClaimState.USED for claim in board.fleet.registry.claims(board.device))


def claim_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, number: int) -> None:
    """A board dies while it claims, and claims again."""
    life = Life(torture, fleet, "claim", step, number)
    board = new_board(life, folder)
    life.died(board.claims(step), board)
    come_in(life, board)
    life.judge(board)


def stick_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, number: int) -> None:
    """Request, signing or installing dies, and that command is given again."""
    life = Life(torture, fleet, "stick", step, number)
    board = new_board(life, folder)
    request, answer = str(board.folder / "request"), str(board.folder / "answer")
    died = False
    for program, arguments in (
        ("edge", ["request", *board.quiet, "--claim", str(board.claim), request]),
        ("provision", ["sign", str(fleet.folder), request, answer]),
        ("edge", ["install", *board.quiet, answer]),
    ):
        code = torture.programs.run(program, arguments, None if died else step)
        if code == SIGKILLED:
            died = True
            life.died(code, board)
            code = 0 if board.claim_is_gone else torture.programs.run(program, arguments)
        if code != 0:
            life.problem(f"{arguments[0]} ends with {code}")
    if not died:
        life.died(0)
    say_who_it_is(life, board)
    life.judge(board)


def renewal_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, number: int) -> None:
    """A board with an identity and a chain dies while it takes the next one by a claim."""
    life = Life(torture, fleet, "renewal", step, number)
    board = new_board(life, folder)
    come_in(life, board)
    begin_chain(life, board)
    old = board.kid()
    another_claim(board, Purpose.RENEW)
    life.died(board.claims(step), board)
    come_in(life, board)
    if board.kid() == old:
        life.problem("the board has its old key")
    life.judge(board)


def replacement_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, number: int) -> None:
    """Another board dies while it claims the door of a first, which is nobody then."""
    life = Life(torture, fleet, "replacement", step, number)
    first = new_board(life, folder)
    come_in(life, first)
    board = blank_board(life, folder, first.device, f"{first.device}-next")
    another_claim(board, Purpose.REPLACE)
    life.died(board.claims(step), board)
    come_in(life, board)
    life.judge(board)


def desk_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, number: int) -> None:
    """Whoever sits at the desk dies while a board claims, and somebody else sits down."""
    life = Life(torture, fleet, "desk", step, number)
    board = new_board(life, folder)
    programs = torture.programs
    with (
        programs.start("provision", serve(fleet), step) as desk,
        programs.start("edge", ["claim", *board.quiet, "--claim", str(board.claim)]),
    ):
        life.died(ended(desk))
    with programs.start("provision", serve(fleet)):
        come_in(life, board)
        life.judge(board)


def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code; 0 where it does not end by itself."""
    try:
        return process.wait(RUN_S)
    except subprocess.TimeoutExpired:
        return 0


def come_in(life: Life, board: Board) -> None:
    """Claim until it is done."""
    deadline_s = time.monotonic() + RUN_S
    while (code := board.claims()) != 0:
        if time.monotonic() > deadline_s:
            life.problem(f"the claim ends with {code}")
            return
    say_who_it_is(life, board)


def say_who_it_is(life: Life, board: Board) -> None:
    """Where it died between its identity and its first status: the daemon's own is as good."""
    if not used(board):
        with life.torture.programs.start("quiet", board.quiet):
            life.until(lambda: used(board), "the claim is not used up")


def begin_chain(life: Life, board: Board) -> None:
    """Its daemon runs until something stands in the chain."""

    def begun() -> bool:
        with Outbox(board.state / "outbox.db") as outbox:
            return outbox.head().seq > 0

    with life.torture.programs.start("quiet", board.quiet):
        life.until(begun, "the daemon records nothing")


def rotation_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, number: int) -> None:
    """A board dies while it changes its key, and starts again."""
    life = Life(torture, fleet, "rotation", step, number)
    board = new_board(life, folder)
    come_in(life, board)
    old = board.kid()
    begin(fleet, board.device, int(time.time()))
    code = 0
    while code == 0 and board.kid() == old:  # the point may lie before or after the restart of a rotation
        code = torture.programs.run("quiet", board.quiet, step)
    life.died(code, board)
    come_to_another_key(life, board, old)


def rotation_desk_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, number: int) -> None:
    """The desk dies while a board changes its key."""
    life = Life(torture, fleet, "rotation-desk", step, number)
    board = new_board(life, folder)
    with torture.programs.start("provision", serve(fleet)):
        come_in(life, board)
        life.until(board.spread, "broker and servers were not told of the first key")
    old = board.kid()
    begin(fleet, board.device, int(time.time()))
    with restarted(board), torture.programs.start("provision", serve(fleet), step) as desk:
        life.died(ended(desk), board)
    with torture.programs.start("provision", serve(fleet)):
        come_to_another_key(life, board, old)


def come_to_another_key(life: Life, board: Board, old: str | None) -> None:
    """Start its daemon again whenever it ends, until it is done."""
    deadline_s = time.monotonic() + RUN_S
    while not rotated(board, old):
        if time.monotonic() > deadline_s:
            life.problem("did not come to another key")
            return
        with life.torture.programs.start("quiet", board.quiet) as process:
            nudge(board, old, process)
    life.judge(board)


PATIENCE_S = 5.0
"""So long an administrator looks at a rotation that does not go on."""


def nudge(board: Board, old: str | None, process: subprocess.Popen[bytes]) -> None:
    """Until it restarts or is done; a command that came to nothing is given again, as an administrator would."""
    began_s = time.monotonic()
    settled_s = began_s
    while process.poll() is None and not rotated(board, old) and time.monotonic() < began_s + RUN_S / 4:
        last = board.fleet.registry.last_command(board.device, NAME)
        if last is None or last.status is None or board.kid() != old:
            settled_s = time.monotonic()
        given_up = last is not None and last.status in ("interrupted", "refused")
        if given_up or time.monotonic() > settled_s + PATIENCE_S:
            begin(board.fleet, board.device, int(time.time()))
        time.sleep(0.1)


def rotated(board: Board, old: str | None) -> bool:
    """Whether the fleet has seen it at work with another key."""
    keys = {key.kid: key for key in board.fleet.registry.device_keys(board.device)}
    return board.kid() != old and old is not None and keys[old].last_seq is not None


def fleet_dies(fleet: Fleet, folder: Path, torture: Torture, step: StrEnum, number: int) -> None:
    """The administrator's command dies while a fleet changes all its keys, and is given again; a board follows."""
    life, programs = Life(torture, fleet, "fleet", step, number), torture.programs
    board = new_board(life, folder, "door-01")
    with programs.start("provision", serve(fleet)):
        come_in(life, board)
    old = board.kid()
    with restarted(board), programs.start("provision", serve(fleet)):
        code = programs.run("provision", next_step(fleet), step)
        for _ in range(10):
            if code == SIGKILLED or Handover.of(fleet.refreshed()).stage is Stage.NONE:
                break
            code = programs.run("provision", next_step(fleet), step)
        life.died(code)
        deadline_s = time.monotonic() + 2 * RUN_S
        while not followed(fleet.refreshed(), board):
            if time.monotonic() > deadline_s:
                life.problem("the handover does not come to its end")
                return
            if Handover.of(fleet).stage is Stage.NONE and Handover.of(fleet).version > 0:
                time.sleep(0.5)  # done; the board has not reported it yet
            else:
                programs.run("provision", next_step(fleet))
        life.until(board.spread, "broker and servers were not told what the registry says")
    if board.kid() == old:
        life.problem("the board has its old key")
    life.judge(board)


def next_step(fleet: Fleet) -> list[str]:
    """What the administrator types: once the keys are switched, the last step."""
    last = Handover.of(fleet).stage in (Stage.SWITCHED, Stage.FINISHING)
    return ["rotate-fleet", str(fleet.folder), *(["--finish"] if last else []), "--wait-s", "30"]


def followed(fleet: Fleet, board: Board) -> bool:
    """Whether a handover is at its end, and the board with it."""
    done = Handover.of(fleet)
    reported = reported_keys(fleet).get(board.device, 0)
    return (
        done.stage is Stage.NONE and done.version > 0 and reported == done.version and not uncertified(fleet)
    )


@contextmanager
def restarted(board: Board) -> Iterator[None]:
    """A board whose service manager starts it again whenever it ends."""
    script = "import subprocess, sys\nwhile True:\n    subprocess.run(sys.argv[1:], check=False)\n"
    python, *command = board.programs.command("quiet", board.quiet)
    process = subprocess.Popen(
        [python, "-c", script, python, *command],
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
