"""`make demo`: the main job, from photographs to verified events, on a broker of its own.

Everything is the real thing: the commands of the README run as processes of their own, the
daemon replays a clip as its camera, and what is printed as received is what the central
consumer printed. Exits 0 only if exactly one verified attendance arrived, for the person
who was enrolled, and the stranger was looked at properly and recognised as nobody.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from demo.boards import PASSPHRASE, configured_board
from demo.broker import embedded_broker
from demo.consumer import listening
from demo.door import DEVICE, FRAMES_PER_S, WALK_FRAMES, walk
from demo.people import sample_people
from demo.walkpast import empty_corridor, write_clip
from edge.assembly import open_eyes
from edge.command import carry_out
from edge.config import RecognitionConfig
from edge.errors import InputError
from edge.records import Image
from provisioning.fleet import open_fleet
from provisioning.keys import PASSPHRASE_FILE

GAP_FRAMES = 18
"""A second and a half of empty corridor: longer than a track survives, so that the two never share one."""

MIN_GOOD_FRAMES = 3
EXPECTED_EVENTS = 2
"""The daemon's start, and one attendance."""

TRACK_ENDED = re.compile(r"track ended: track=(\d+) frames=(\d+) good_frames=(\d+) outcome=(\S+)")


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is enrolled, from what, and who walks past."""

    enrolled: str
    photos: tuple[Path, ...]
    walks: Path
    """The enrolled person's picture that the first walk is rendered from."""
    stranger: Path


@dataclass(frozen=True, slots=True)
class TrackSeen:
    """A track as the daemon's log told of it."""

    number: int
    good_frames: int
    outcome: str


def main() -> int:
    """Play the demo; 0 if it went as it must."""
    options = _parser().parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    return carry_out("demo", lambda: _play_in_a_folder(options.swap, seed))


def _play_in_a_folder(swap: bool, seed: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="hadir-demo-"))
    try:
        return _play(swap, seed, folder)
    finally:
        shutil.rmtree(folder)


def _play(swap: bool, seed: int, folder: Path) -> int:
    say(f"sample people: public-domain portraits (fetched once); seed {seed}")
    cast = choose_cast(sample_people(), swap)
    say(f"rendering two walk-pasts: first {cast.enrolled}, then a stranger")
    clip = folder / "door.avi"
    render(cast, seed, clip)
    with embedded_broker() as url:
        say(f"broker: {url} (embedded, MQTT 5)")
        fleet = folder / "fleet"
        os.environ[PASSPHRASE_FILE] = str(_passphrase(folder))
        run_command("hadir-provision", "init", str(fleet), "--site", "hq")
        config = configured_board(open_fleet(fleet), DEVICE, broker_url=url, sources=[clip])
        run_command("hadir-provision", "enrol", str(fleet), cast.enrolled, *map(str, cast.photos))
        with listening(url, fleet / "devices.jwks") as central:
            say("hadir-edge run: the daemon watches the door")
            tracks = watch_door(config)
            central.wait_for(EXPECTED_EVENTS)
    say("what hadir-central received and verified:")
    for event in central.events:
        print("   ", describe(event))
    return report(cast, central.events, tracks)


def _passphrase(folder: Path) -> Path:
    """The file that the commands read the fleet's passphrase from."""
    path = folder / "passphrase"
    path.touch(mode=0o600)
    path.write_text(f"{PASSPHRASE}\n", encoding="utf-8")
    return path


def choose_cast(people: dict[str, tuple[Path, ...]], swap: bool) -> Cast:
    """Enrol one of the two sample people and let the other be the stranger.

    One has three portraits: two enrol, the third walks. The other has a single one, so it
    is enrolled from that and walks from that, rendered small, blurred and noisy.
    """
    first, second = sorted(people)
    many, single = people[first], people[second]
    if swap:
        return Cast(enrolled=second, photos=single[:1], walks=single[0], stranger=many[-1])
    return Cast(enrolled=first, photos=many[:-1], walks=many[-1], stranger=single[0])


def render(cast: Cast, seed: int, clip: Path) -> None:
    """Both walks with an empty corridor between and after them, as one clip."""
    eyes = open_eyes(RecognitionConfig(embedder="sface"))
    scenes = chain(
        walk(eyes, cast.walks, seed),
        empty_corridor(seed, GAP_FRAMES),
        walk(eyes, cast.stranger, seed + 1),
        empty_corridor(seed + 1, GAP_FRAMES),
    )
    write_clip(clip, _with_progress(scenes, 2 * (WALK_FRAMES + GAP_FRAMES)), FRAMES_PER_S)


def watch_door(config: Path) -> tuple[TrackSeen, ...]:
    """Run the real daemon until its clip is over; what it said of each track."""
    tracks = []
    with subprocess.Popen(
        (program("hadir-edge"), "run", "--config", str(config)), stderr=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            print("   ", line.rstrip(), flush=True)
            ended = TRACK_ENDED.search(line)
            if ended:
                tracks.append(TrackSeen(int(ended[1]), int(ended[3]), ended[4]))
    if daemon.returncode != 0:
        raise InputError(f"hadir-edge ended with exit code {daemon.returncode}; its last lines above say why")
    return tuple(tracks)


def describe(event: Mapping[str, Any]) -> str:
    """An event in a line, from what the consumer printed as JSON."""
    if not event["believed"]:
        return f"{event['verdict']}: {event.get('detail', '')}"
    when = event["seen_s"] if event["seen_s"] is not None else event["arrived_s"]
    clock = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    word = "seen" if event["seen_s"] is not None else "arrived"
    who = f"{event['person']} {event['direction']}" if event["person"] else ""
    return f"verified  {event['device']}  seq {event['seq']}  {event['event']:<10}  {who:<8}  {word} {clock}"


def report(cast: Cast, received: Sequence[Mapping[str, Any]], tracks: Sequence[TrackSeen]) -> int:
    """Hold what arrived against what must have."""
    attendances = [event for event in received if event["believed"] and event["event"] == "attendance"]
    expected = [event for event in attendances if event["person"] == cast.enrolled]
    attended = [track for track in tracks if track.outcome == "attendance"]
    strangers = [
        track
        for track in tracks
        if attended and track.number > attended[0].number and track.good_frames >= MIN_GOOD_FRAMES
    ]
    checks = {
        f"exactly one verified attendance arrived, for {cast.enrolled}": len(attendances)
        == len(expected)
        == 1,
        "exactly one track became an attendance": len(attended) == 1,
        f"the stranger was seen in at least {MIN_GOOD_FRAMES} good frames and matched nobody": bool(strangers)
        and all(track.outcome == "no-match" for track in strangers),
    }
    for sentence, holds in checks.items():
        print(f"{'ok  ' if holds else 'FAIL'}  {sentence}")
    return 0 if all(checks.values()) else 1


def say(text: str) -> None:
    """Progress, for whoever watches."""
    print(f"==> {text}", flush=True)


def program(name: str) -> str:
    """A command of this project, from the environment that runs the demo."""
    return str(Path(sys.executable).parent / name)


def run_command(name: str, *arguments: str) -> None:
    """Run one of the README's commands and show what it prints."""
    say(" ".join((name, arguments[0])))
    result = subprocess.run((program(name), *arguments), stdout=subprocess.PIPE, text=True, check=False)
    print("".join(f"    {line}\n" for line in result.stdout.splitlines()), end="", flush=True)
    if result.returncode != 0:
        raise InputError(f"{name} {arguments[0]} ended with exit code {result.returncode}")


def _with_progress(images: Iterator[Image], count: int) -> Iterator[Image]:
    for number, image in enumerate(images, 1):
        if sys.stderr.isatty():
            print(f"\r    frame {number} of {count}", end="" if number < count else "\n", file=sys.stderr)
        yield image


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--swap", action="store_true", help="enrol the other person; the result swaps")
    parser.add_argument("--seed", type=_seed, help="render the same walks again")
    return parser


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, 0 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
