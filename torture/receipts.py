"""Board, server and broker die, each at every point between frame and receipt; what was stored is counted at the end.

One Mosquitto that keeps nothing, one `hadir-central run` on SQLite, both started again when
they die; outboxes as in the torture of the board alone, with `delivery = "receipt"`. Exits
0 only if every event of every outbox is stored exactly once, in a whole chain, and receipted.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic

from central.steps import Step as CentralStep
from demo.central import write_config
from demo.mosquitto import free_port, program, version
from edge.errors import BrokerUnavailable, HadirError
from edge.evaluate.figures import Figure, commit, machine, one, write_json
from edge.steps import Step
from provisioning.fleet import KEYS_FILE
from torture.aim import Aim, take_aim
from torture.central import MUTATIONS as SERVER_MUTATIONS
from torture.door import PASSES, ROOT, Door, Life, Shot, make_door
from torture.kept import Kept
from torture.mutations import MUTATIONS, WITH_RECEIPTS
from torture.stored import read_stored
from torture.verdict import Verdict, judge, strangers

LIVES = 10
"""How often each of the three dies at each point."""

RANDOM_KILLS = 200
"""Kills at moments that nobody chose, of one of the three that nobody chose."""

WORKERS = 3
"""Most of the time everybody waits for a process to come back."""

SERVES = " consuming from "
"""In the server's log line that says that it takes events."""

TRIES = 5
"""A point of the server is not reached in each run: its events may have come in the run before."""

BOARD_STEPS = (
    Step.ATTENDANCE_DECIDED,
    Step.POSITION_TAKEN,
    Step.SIGNED,
    Step.INSERTED,
    Step.HEAD_MOVED,
    Step.COMMITTED,
    Step.ATTENDANCE_TOLD,
    Step.EVENT_READ,
    Step.HANDED_OVER,
    Step.PUBACK_RECEIVED,
    Step.RECEIPT_VERIFIED,
    Step.RECEIPT_WRITTEN,
    Step.RECEIPT_KEPT,
)
"""What an event comes by on the board, from the frame that decides to the receipt that covers it."""

BOARD, SERVER, BROKER = VICTIMS = ("board", "server", "broker")

ANY_BROKER = "mqtt://127.0.0.1:1"
"""In the configuration that all boards are copied from; each gets its own broker's."""

IMPATIENT = (
    ('delivery = "broker"', 'delivery = "receipt"'),
    ("[events]\n", "[events]\ndrain_s = 2.5\n"),
    ("[broker]\n", "[broker]\nretry_min_s = 0.05\nretry_max_s = 0.5\n"),
)
"""Settings of a board whose server is often away. The 2 s for which it waits for a retained receipt, that a broker may
have lost, are part of its stop."""

LAST_DRAIN_S = 30
"""How long its last run waits for receipts: longer than the 10 s after which a board sends again."""

LAST_RUNS = 5


@dataclass(frozen=True, slots=True)
class Target:
    """A point, and who dies when it is come by."""

    step: Step | CentralStep
    victim: str

    @property
    def of_server(self) -> bool:
        return isinstance(self.step, CentralStep)

    def __str__(self) -> str:
        return f"{'server' if self.of_server else 'board'} at {self.step}: {self.victim} dies"


TARGETS = tuple(Target(step, victim) for step in (*BOARD_STEPS, *CentralStep) for victim in VICTIMS)


@dataclass(slots=True)
class Outcome:
    """What was done, and what came of it."""

    hits: Counter[Target] = field(default_factory=Counter)
    random: Counter[str] = field(default_factory=Counter)
    verdicts: list[Verdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Outcome) -> None:
        """What another worker did besides."""
        self.hits += other.hits
        self.random += other.random
        self.verdicts += other.verdicts
        self.problems += other.problems

    @property
    def problems_in_all(self) -> list[str]:
        return [*(problem for verdict in self.verdicts for problem in verdict.problems), *self.problems]


@dataclass(frozen=True, slots=True)
class Rig:
    """A broker and a server that are started again whenever they die."""

    broker: Kept
    server: Kept
    server_config: Path
    server_aim: Path
    port: int

    @property
    def database(self) -> Path:
        return self.server_config.parent / "central.db"

    def victim(self, name: str) -> Kept:
        return self.broker if name == BROKER else self.server

    def wait_until_ready(self) -> bool:
        """Whether both serve; where not, there is no use in going on."""
        return all(kept.wait_until_ready() for kept in (self.broker, self.server))


@contextmanager
def rig(door: Door, folder: Path, mutation: str | None = None) -> Iterator[Rig]:
    """Start a broker and a server of their own for this door's boards. Raises BrokerUnavailable without Mosquitto."""
    path = program()
    if path is None:
        raise BrokerUnavailable("mosquitto is not installed (apt install mosquitto)")
    port = free_port()
    fleet = door.fleet
    config = write_config(
        folder,
        f"mqtt://127.0.0.1:{port}",
        devices=door.devices,
        keys=fleet.folder / KEYS_FILE,
        root_thumbprint=fleet.root_thumbprint,
        receipt_key=fleet.signing_key("receipt"),
    )
    aim = folder / "aim"
    options = ("--mutation", mutation) if mutation else ()
    server = (sys.executable, "-m", "torture.central", "--config", str(config), "--aim", str(aim), *options)
    with _broker(path, port) as broker:
        running = Rig(
            broker, Kept("server", server, folder / "log", lambda said: SERVES in said), config, aim, port
        )
        try:
            yield running
        finally:
            running.server.stop()


@contextmanager
def _broker(path: str, port: int) -> Iterator[Kept]:
    """It saves every second, so that a retained receipt mostly outlives it; messages in flight do not."""
    with tempfile.TemporaryDirectory(prefix="hadir-broker-") as name:
        folder = Path(name)
        folder.chmod(0o777)  # Mosquitto becomes another user where root starts it
        settings = folder / "mosquitto.conf"
        settings.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\n"
        )
        broker = Kept(
            "broker", (path, "-c", str(settings)), folder / "log", lambda _: _listens(port), as_nobody=True
        )
        try:
            if not broker.wait_until_ready():
                raise BrokerUnavailable(f"mosquitto does not start: {broker.problems[0]}")
            yield broker
        finally:
            broker.stop()


def run(
    folder: Path,
    seed: int,
    *,
    lives: int,
    random_kills: int,
    workers: int = 1,
    ways: int = len(TARGETS),
    mutation: str | None = None,
) -> Outcome:
    """Every life, shared among workers that each have a broker and a server; `ways` to die in each."""
    began_s = monotonic()
    door = make_door(folder, ANY_BROKER)
    outcome = Outcome()
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(
                _work,
                door,
                folder / f"worker-{worker}",
                Random(f"{seed} {worker}"),  # noqa: S311 - to be repeatable, not unguessable
                range(worker, lives, workers),
                len(range(worker, random_kills, workers)),
                ways,
                mutation,
            )
            for worker in range(workers)
        ]
        for job in jobs:
            outcome.add(job.result())
    outcome.seconds = monotonic() - began_s
    return outcome


def _work(
    door: Door,
    folder: Path,
    random: Random,
    lives: Sequence[int],
    random_kills: int,
    ways: int,
    mutation: str | None,
) -> Outcome:
    """Some lives in turn, with one broker and one server over all of them."""
    outcome = Outcome()
    lived: list[Life] = []
    of_server = mutation if mutation in SERVER_MUTATIONS else None
    of_board = None if of_server else mutation
    with rig(door, folder, of_server) as running:
        for number in lives:
            life = new_life(
                door, running, f"{folder.name}-{number + 1}", archive_kept=number % 2 == 1, mutation=of_board
            )
            lived.append(life)
            for target in random.sample(TARGETS, ways):
                _at_point(outcome, running, life, target, random)
            _end(running, life)
            _tell(f"outbox {number + 1}: {ways} ways to die, {life.history.head_seq} events")
        if random_kills:
            life = new_life(door, running, f"{folder.name}-random", archive_kept=True, mutation=of_board)
            lived.append(life)
            _at_random(outcome, running, life, random, random_kills)
            _end(running, life)
            _tell(f"{random_kills} random kills, {life.history.head_seq} events")
    outcome.problems += [*running.broker.problems, *running.server.problems]
    stored = read_stored(running.database)
    outcome.verdicts = [judge(life.history, stored.findings) for life in lived]
    outcome.problems += strangers([life.history.chain for life in lived], stored.findings)
    outcome.problems += [*stored.problems, *_unproven(running.server_config)]
    return outcome


def _unproven(config: Path) -> Iterator[str]:
    """What the server's own proof of its chains says against them."""
    command = (sys.executable, "-m", "central.cli", "verify", "--config", str(config))
    proof = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if proof.returncode != 0:
        yield f"hadir-central verify: {proof.returncode}: {proof.stdout}{proof.stderr}"


def new_life(door: Door, running: Rig, name: str, *, archive_kept: bool, mutation: str | None = None) -> Life:
    """A board of its own with no outbox yet, whose broker is this rig's."""
    changes = (*IMPATIENT, (ANY_BROKER, f"mqtt://127.0.0.1:{running.port}"))
    config = door.new_board(name, archive_kept=archive_kept, changes=changes)
    return Life(config, archive_kept=archive_kept, mutation=mutation)


def _at_point(outcome: Outcome, running: Rig, life: Life, target: Target, random: Random) -> None:
    """Let the board run with this aim, until it was shot."""
    for attempt in range(TRIES):
        if life.broken or not running.wait_until_ready():
            return
        hit = 1 if attempt else random.randint(1, 2 if target.of_server else PASSES)
        if _shot(running, life, target, hit):
            outcome.hits[target] += 1
            return
    outcome.problems.append(f"{target}: never reached")


def _shot(running: Rig, life: Life, target: Target, hit: int) -> bool:
    path = running.server_aim if target.of_server else life.aim
    comes_by = SERVER if target.of_server else BOARD

    def begun(board: int) -> None:
        others = {BOARD: board, SERVER: running.server.pid, BROKER: running.broker.pid}
        victim = 0 if target.victim == comes_by else others[target.victim]
        take_aim(path, Aim(target.step.value, hit, victim))

    life.live(str(target), begun=begun)
    try:
        path.unlink()
    except FileNotFoundError:
        return True
    return False


def _at_random(outcome: Outcome, running: Rig, life: Life, random: Random, kills: int) -> None:
    """Moments are equally likely from the end of loading to the end of an undisturbed run."""
    running.wait_until_ready()
    whole_s = life.run_to_its_end()
    while outcome.random.total() < kills and not life.broken and running.wait_until_ready():
        victim = random.choice(VICTIMS)
        kill = None if victim == BOARD else running.victim(victim).kill
        death = life.live("random", Shot(random.uniform(0, whole_s), kill))
        if death.killed or victim != BOARD:
            outcome.random[victim] += 1


def _end(running: Rig, life: Life) -> None:
    """Let it run to its good end, with time for the last receipt."""
    life.be_patient(LAST_DRAIN_S)
    for _ in range(LAST_RUNS):
        if life.broken or not running.wait_until_ready():
            return
        life.run_to_its_end()
        if not life.history.waiting:
            return


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def report(outcome: Outcome) -> str:
    """For people: kills at each point, sums, and what was wrong."""
    steps = dict.fromkeys(target.step for target in TARGETS)
    width = max(len(step) for step in steps)
    lines = [f"{'point':{width}}  " + "  ".join(f"{victim:>6}" for victim in VICTIMS)]
    for step in steps:
        kills = (outcome.hits[Target(step, victim)] for victim in VICTIMS)
        lines.append(f"{step:{width}}  " + "  ".join(f"{count:6}" for count in kills))
    lines += [f"{key:24} {figure.value:>8.0f} {figure.unit}" for key, figure in figures(outcome).items()]
    lines += [f"FAIL  {problem}" for problem in outcome.problems_in_all]
    if not outcome.problems_in_all:
        lines.append("ok    every event is stored exactly once, in a whole chain, and receipted")
    return "\n".join(lines)


def figures(outcome: Outcome) -> Mapping[str, Figure]:
    """For programs, and for the table in docs/figures.md."""
    verdicts = outcome.verdicts
    counts = {
        "points": len({target.step for target in TARGETS}),
        "ways_to_die": len(TARGETS),
        "kills_at_points": outcome.hits.total(),
        "fewest_kills": min(outcome.hits[target] for target in TARGETS),
        **{f"random_kills_{victim}": outcome.random[victim] for victim in VICTIMS},
        "outboxes": len(verdicts),
        "events": sum(verdict.events for verdict in verdicts),
        "attendances_told": sum(verdict.told for verdict in verdicts),
        "lost": sum(verdict.lost for verdict in verdicts),
        "doubled": sum(verdict.doubled for verdict in verdicts),
        "problems": len(outcome.problems_in_all),
    }
    return {key: one(count, "") for key, count in counts.items()} | {"duration_s": one(outcome.seconds, "s")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Torture; 0 if everything is stored once and every point was reached, else 1."""
    options = _parser().parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    try:
        with tempfile.TemporaryDirectory(prefix="hadir-torture-") as folder:
            broker = version(program() or "")
            print(f"torture: commit {commit()}, {machine()}; Mosquitto {broker}; seed {seed}", flush=True)
            outcome = run(
                Path(folder),
                seed,
                lives=options.lives,
                random_kills=options.random,
                workers=options.workers,
                ways=options.ways,
                mutation=options.mutation,
            )
    except HadirError as error:
        print(f"torture: {error}", file=sys.stderr)
        return error.exit_code
    print(report(outcome))
    if options.json is not None:
        write_json(options.json, "torture-receipts", figures(outcome))
    return 1 if outcome.problems_in_all else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m torture.receipts", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--seed", type=int, help="the same order and moments again; printed by each run")
    parser.add_argument("--lives", type=int, default=LIVES, help="kills at each point, default %(default)s")
    parser.add_argument("--random", type=int, default=RANDOM_KILLS, help="random kills, default %(default)s")
    parser.add_argument(
        "--ways", type=int, default=len(TARGETS), help="so many of the ways to die in each life, default all"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=WORKERS,
        help="so many at a time, each with its own broker and server, default %(default)s",
    )
    parser.add_argument(
        "--mutation",
        choices=sorted({*MUTATIONS, *WITH_RECEIPTS, *SERVER_MUTATIONS}),
        help="build this error in; the run must fail",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
