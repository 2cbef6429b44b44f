"""`make torture`: the real daemon dies at every named point and at random moments, and no event is lost or doubled.

Each of several outboxes is killed once at each point and then runs to its good end; one
more is killed at random moments. One consumer, `hadir-central listen`, follows them all
over a real broker. Exits 0 only if every event of every chain was believed there exactly
once and in order, and every point was reached.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic

from demo.consumer import Listening, listening
from edge.errors import HadirError
from edge.evaluate.figures import Figure, commit, machine, one, write_json
from torture.broker import Broker, real_broker
from torture.door import PASSES, Door, Life, make_door
from torture.mutations import MUTATIONS
from torture.plan import Target, in_one_life, targets
from torture.verdict import Verdict, judge, strangers

LIVES = 10
"""How often the daemon is killed at each point."""

RANDOM_KILLS = 200
"""Kills at moments that nobody chose."""

ARRIVAL_S = 20.0
"""From a good end, after which the broker has everything, to the consumer; it takes milliseconds."""


@dataclass(slots=True)
class Torture:
    """What was done, and what came of it."""

    points: tuple[Target, ...]
    hits: dict[Target, Counter[int]] = field(default_factory=dict)
    random_kills: int = 0
    lives: list[Life] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def problems_in_all(self) -> list[str]:
        of_lives = [
            f"outbox {number}: {problem}"
            for number, verdict in enumerate(self.verdicts, 1)
            for problem in verdict.problems
        ]
        return [*of_lives, *self.problems]


def main(arguments: Sequence[str] | None = None) -> int:
    """Torture; 0 if nothing was lost or doubled and every point was reached, else 1."""
    options = _parser().parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    try:
        with tempfile.TemporaryDirectory(prefix="hadir-torture-") as folder, real_broker() as broker:
            print(f"torture: commit {commit()}, {machine()}; {broker.name}; seed {seed}", flush=True)
            if options.mutation:
                print(f"torture: with an error built in: {options.mutation}; it must be found", flush=True)
            torture = run(
                make_door(Path(folder), broker.url),
                broker,
                Random(seed),  # noqa: S311 - to be repeatable, not unguessable
                lives=options.lives,
                random_kills=options.random,
                mutation=options.mutation,
            )
    except HadirError as error:
        print(f"torture: {error}", file=sys.stderr)
        return error.exit_code
    print(report(torture))
    if options.json is not None:
        write_json(options.json, "torture", figures(torture))
    return 1 if torture.problems_in_all else 0


def run(
    door: Door, broker: Broker, random: Random, *, lives: int, random_kills: int, mutation: str | None = None
) -> Torture:
    """Every life in turn, with one consumer over all of them."""
    torture = Torture(targets(PASSES))
    began_s = monotonic()
    with listening(broker.url, door.devices) as central:
        for number in range(lives):
            # In every second one acknowledged events are deleted at once, so that head and rows part.
            kept = number % 2 == 1
            board = door.new_board(f"board-{number + 1}", archive_kept=kept)
            life = Life(board, archive_kept=kept, mutation=mutation)
            _at_each_point(torture, life, random)
            _end(torture, life, central)
            _tell(torture, f"outbox {number + 1} of {lives}: killed at each of {len(torture.points)} points")
        if random_kills:
            board = door.new_board("board-random", archive_kept=True)
            life = Life(board, archive_kept=True, mutation=mutation)
            _at_random(torture, life, random, random_kills)
            _end(torture, life, central)
    torture.verdicts = [judge(life.history, central.events) for life in torture.lives]
    torture.problems += strangers([life.history.chain for life in torture.lives], central.events)
    torture.seconds = monotonic() - began_s
    return torture


def _at_each_point(torture: Torture, life: Life, random: Random) -> None:
    for target in in_one_life(torture.points, random):
        hit = life.kill_at(target, random)
        if life.broken:
            return
        if hit:
            torture.hits.setdefault(target, Counter())[hit] += 1
        else:
            torture.problems.append(f"{target}: never reached")


def _at_random(torture: Torture, life: Life, random: Random, kills: int) -> None:
    """Moments are equally likely from the end of loading to the end of an undisturbed run."""
    whole_s = life.run_to_its_end()
    while torture.random_kills < kills and not life.broken:
        if life.kill_after(random.uniform(0, whole_s)):
            torture.random_kills += 1
            if torture.random_kills % 20 == 0:
                _tell(torture, f"{torture.random_kills} of {kills} random kills")


def _end(torture: Torture, life: Life, central: Listening) -> None:
    """Let it run to its good end, and wait until the consumer has what the broker has."""
    torture.lives.append(life)
    if not life.broken:
        life.run_to_its_end()
    expected = sum(each.history.head_seq for each in torture.lives)
    # What went wrong will not arrive, and need not be waited for.
    central.wait_for(expected, 1.0 if life.broken else ARRIVAL_S)


def _tell(torture: Torture, what: str) -> None:
    events = sum(life.history.head_seq for life in torture.lives)
    print(f"{what}; {events} events in whole chains so far", file=sys.stderr, flush=True)


def report(torture: Torture) -> str:
    """For people: hits at each point, sums, and what was wrong."""
    width = max(len(str(target)) for target in torture.points)
    lines = [f"{'point':{width}}  kills  at hit (times)"]
    for target in torture.points:
        hits = torture.hits.get(target, Counter())
        said = ", ".join(f"{hit} ({count})" for hit, count in sorted(hits.items()))
        lines.append(f"{target!s:{width}}  {hits.total():5}  {said}")
    lines += [f"{key:22} {figure.value:>8.0f} {figure.unit}" for key, figure in figures(torture).items()]
    lines += [f"FAIL  {problem}" for problem in torture.problems_in_all]
    if not torture.problems_in_all:
        lines.append("ok    every event of every chain was believed exactly once and in order")
    return "\n".join(lines)


def figures(torture: Torture) -> Mapping[str, Figure]:
    """For programs, and for the table in docs/figures.md."""
    verdicts = torture.verdicts
    counts = {
        "points": len(torture.points),
        "kills_at_points": sum(hits.total() for hits in torture.hits.values()),
        "fewest_kills_at_a_point": min(torture.hits.get(t, Counter()).total() for t in torture.points),
        "random_kills": torture.random_kills,
        "outboxes": len(torture.lives),
        "events": sum(verdict.events for verdict in verdicts),
        "attendances": sum(verdict.attendances for verdict in verdicts),
        "attendances_told": sum(verdict.told for verdict in verdicts),
        "redelivered": sum(verdict.redelivered for verdict in verdicts),
        "lost": sum(verdict.lost for verdict in verdicts),
        "doubled": sum(verdict.doubled for verdict in verdicts),
        "problems": len(torture.problems_in_all),
    }
    return {key: one(count, "") for key, count in counts.items()} | {"duration_s": one(torture.seconds, "s")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m torture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--seed", type=int, help="the same order and moments again; printed by each run")
    parser.add_argument("--lives", type=int, default=LIVES, help="kills at each point, default %(default)s")
    parser.add_argument("--random", type=int, default=RANDOM_KILLS, help="random kills, default %(default)s")
    parser.add_argument(
        "--mutation", choices=sorted(MUTATIONS), help="build this error in; the run must fail"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
