"""`make torture-identity`: boards and fleets die at every named point of claim, rotation and fleet rotation.

Each life is one board and one death by SIGKILL; then the same is simply done again, as the
service manager or the administrator would. Right after its death a board must be able to
start with whatever identity it has; at its end it must have exactly one that works, and the
registry, the broker's files and the servers' must agree. Everything is real: Mosquitto with
mutual TLS, the commands of both sides in processes of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from demo.fleet_broker import fleet_at_broker
from edge.command import carry_out
from edge.evaluate.figures import Figure, commit, machine, one, write_json
from provisioning.fleet import Fleet
from torture import identity_scenes as scenes
from torture.identities import Programs
from torture.identity_mutations import MUTATIONS
from torture.identity_scenes import Torture, serve

LIVES = 10
"""How often it dies at each point."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Who dies at which points, and how."""

    name: str
    points: Sequence[StrEnum]
    life: Callable[[Fleet, Path, Torture, StrEnum, int], None]
    attended: bool
    """Whether somebody sits at the desk all the time."""
    fleet_each: bool = False
    """Whether each life needs a fleet of its own."""


SCENES: Mapping[str, Scene] = {
    scene.name: scene
    for scene in (
        Scene("claim", scenes.CLAIM, scenes.claim_dies, attended=True),
        Scene("stick", scenes.STICK, scenes.stick_dies, attended=True),
        Scene("renewal", scenes.RENEWAL, scenes.renewal_dies, attended=True),
        Scene("replacement", scenes.CLAIM, scenes.replacement_dies, attended=True),
        Scene("desk", scenes.DESK, scenes.desk_dies, attended=False),
        Scene("rotation", scenes.ROTATION, scenes.rotation_dies, attended=True),
        Scene("rotation-desk", scenes.ROTATION_DESK, scenes.rotation_desk_dies, attended=False),
        Scene("fleet", scenes.FLEET, scenes.fleet_dies, attended=False, fleet_each=True),
    )
}


def torture_scene(name: str, lives: int, torture: Torture, steps: Sequence[StrEnum] | None = None) -> None:
    """So many lives at each point."""
    scene = SCENES[name]
    for step in scene.points if steps is None else steps:
        if scene.fleet_each:
            for life in range(lives):
                _lives(scene, torture, step, [life])
        else:
            _lives(scene, torture, step, range(lives))
        print(f"{name}, {step}: {torture.kills[f'{name}, {step}']} deaths", flush=True)


def _lives(scene: Scene, torture: Torture, step: StrEnum, lives: Sequence[int]) -> None:
    with fleet_at_broker() as fleet:
        if not scene.attended:
            for life in lives:
                scene.life(fleet, fleet.folder.parent, torture, step, life)
            return
        with torture.programs.start("provision", serve(fleet)):
            for life in lives:
                scene.life(fleet, fleet.folder.parent, torture, step, life)


def main(arguments: Sequence[str] | None = None) -> int:
    """Torture; 0 if every board had one working identity at its end and every point was reached, else 1."""
    parser = argparse.ArgumentParser(prog="python -m torture.identity")
    parser.add_argument("--lives", type=int, default=LIVES, help="at each point, default %(default)s")
    parser.add_argument("--scene", action="append", choices=sorted(SCENES), help="default: all; repeatable")
    points = sorted({step.value for scene in SCENES.values() for step in scene.points})
    parser.add_argument("--at", action="append", choices=points, help="default: all of a scene; repeatable")
    parser.add_argument(
        "--mutation", choices=sorted(MUTATIONS), help="build this error in; the run must fail"
    )
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(arguments)
    return carry_out("torture", lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    torture, began_s = Torture(Programs(options.mutation)), time.monotonic()
    print(f"torture.identity: commit {commit()}, {machine()}", flush=True)
    if options.mutation:
        print(f"torture: with an error built in: {options.mutation}; it must be found", flush=True)
    for name in options.scene or SCENES:
        points = [step for step in SCENES[name].points if not options.at or step.value in options.at]
        torture_scene(name, options.lives, torture, points)
    for problem in torture.problems:
        print(f"PROBLEM {problem}")
    print(
        f"{sum(torture.kills.values())} deaths at {len(torture.kills)} points, {len(torture.problems)} problems, "
        f"{time.monotonic() - began_s:.0f} s"
    )
    if options.json is not None:
        write_json(options.json, "torture-identity", _figures(torture))
    return int(bool(torture.problems))


def _figures(torture: Torture) -> Mapping[str, Figure]:
    return {
        "deaths": one(sum(torture.kills.values()), ""),
        "points": one(len(torture.kills), ""),
        "fewest_at_a_point": one(min(torture.kills.values(), default=0), ""),
        "problems": one(len(torture.problems), ""),
    }


if __name__ == "__main__":
    sys.exit(main())
