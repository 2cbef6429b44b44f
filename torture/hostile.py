"""Hostile messages on every topic that the server and a board read: nobody falls, none is believed, none is lost.

A Mosquitto without any rights, which is the worst case; `hadir-central run`; boards whose
honest events go on in between; and a real daemon that is sent old and forged receipts
while it waits for its own. Exits 0 only if every honest event is stored and receipted,
and every hostile one is kept as evidence, known already, or never counted.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from demo.boards import add_board
from demo.door import DEVICE
from edge.errors import HadirError
from edge.evaluate.figures import Figure, commit, machine, one, write_json
from edge.trust.identity import DeviceIdentity, load_signing_key
from edge.trust.jws import encode_base64url, parse_object, token_hash
from torture.door import Death, Door, Life, make_door
from torture.forgeries import AHEAD, KNOWN, WAITING, Hostile, Party, World, events, receipts, said
from torture.receipts import ANY_BROKER, LAST_DRAIN_S, Rig, new_life, rig

MESSAGES = 10_000
"""On each topic."""

HONEST = 300
"""Events of each honest board, among the hostile ones."""

HONEST_BOARDS = ("door-02", "door-03", "door-04")
REVOKED, LIMITED, EARLY = "door-07", "door-08", "door-09"

FLEET_USES = ("receipt", "command", "gallery", "provision")

IN_FLIGHT = 1000
SETTLED_S = 240.0
"""Until the server has dealt with everything: a refused token costs it a few statements more than another."""


@dataclass(slots=True)
class Outcome:
    """What was sent, and what came of it."""

    sent: Counter[str] = field(default_factory=Counter)
    """By topic."""
    signed: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    honest: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Wire:
    """A client that publishes in order and never more than a window ahead, and hears every receipt."""

    def __init__(self, port: int) -> None:
        self.receipts: dict[str, list[bytes]] = {}
        self._room = threading.Semaphore(IN_FLIGHT)
        self._changed = threading.Condition()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="hostile", protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(IN_FLIGHT)
        self._client.on_publish = lambda *_: self._room.release()
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("hadir/v1/+/down/receipt", 1)

    def publish(self, topic: str, payload: bytes) -> None:
        self._room.acquire()
        self._client.publish(topic, payload, qos=1)

    def publish_all(self, messages: Sequence[Hostile]) -> None:
        for message in messages:
            self.publish(message.topic, message.payload)

    def wait_for_receipt(self, device: str, seq: int, timeout_s: float) -> bool:
        """Whether a receipt for so much came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._covered(device) >= seq, timeout_s)

    def _covered(self, device: str) -> int:
        return max((_claims(token)["seq"] for token in self.receipts.get(device, [])), default=0)

    def _heard(self, _: object, __: object, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.receipts.setdefault(message.topic.split("/")[2], []).append(bytes(message.payload))
            self._changed.notify_all()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    made = Wire(port)
    try:
        yield made
    finally:
        made.close()


def run(folder: Path, seed: int, *, messages: int, honest: int = HONEST) -> Outcome:
    """Flood the server on its three topics, then a board on its one."""
    outcome = Outcome()
    began_s = time.monotonic()
    door = make_door(folder, ANY_BROKER)
    for device in (*HONEST_BOARDS, REVOKED, LIMITED, EARLY):
        add_board(door.fleet, device)
    _limit(door)
    random = Random(seed)  # noqa: S311 - to be repeatable, not unguessable
    world = _world(door, random)
    with rig(door, folder / "rig") as running, wire(running.port) as line:
        running.wait_until_ready()
        server = running.server.pid
        hostile = _flood_server(outcome, world, line, messages, honest)
        life = _flood_board(outcome, world, door, running, line, messages)
        if running.server.pid != server:
            outcome.problems.append("the server did not live through it")
    outcome.problems += [*running.broker.problems, *running.server.problems, *life.history.problems]
    _judge(outcome, running.database, world, hostile)
    outcome.seconds = time.monotonic() - began_s
    return outcome


def _limit(door: Door) -> None:
    """What the registry says of the two keys that may not speak."""
    registry = json.loads(door.devices.read_text(encoding="utf-8"))
    for entry in registry["keys"]:
        if entry["device"] == REVOKED:
            entry["revoked_at"] = 1_700_000_000
        if entry["device"] == LIMITED:
            entry["chain"] = "Z" * 22
    door.devices.write_text(json.dumps(registry), encoding="utf-8")


def _world(door: Door, random: Random) -> World:
    def party(device: str) -> Party:
        key = load_signing_key(door.fleet.board_folder(device) / "device.pem")
        chain = encode_base64url(random.randbytes(16))
        return Party(DeviceIdentity(device, door.fleet.site, key), chain, [])

    return World(
        [party(device) for device in HONEST_BOARDS],
        party(REVOKED),
        party(LIMITED),
        party(EARLY),
        {use: door.fleet.signing_key(use) for use in FLEET_USES},
        random,
        time.time(),
    )


def _flood_server(
    outcome: Outcome, world: World, line: Wire, messages: int, honest: int
) -> dict[str, list[Hostile]]:
    for party in world.parties:  # something must be there before it can be forged
        for _ in range(5):
            line.publish(party.topic(), party.go_on(int(world.now_s)).compact.encode())
    world.early.go_on(int(world.now_s))
    line.publish(world.early.topic(), world.early.tokens[0].compact.encode())
    hostile = {
        "event": events(world, messages),
        "status": said(world, "status", messages),
        "health": said(world, "health", messages),
    }
    everything = [one for kind in hostile.values() for one in kind]
    world.random.shuffle(everything)
    # In the order in which its own chain was made: an event that is only dated wrongly has its place.
    early = iter([each for each in hostile["event"] if each.allowed == {AHEAD}])
    every = max(1, len(everything) // honest)
    for number, drawn in enumerate(everything):
        message = next(early) if drawn.allowed == {AHEAD} else drawn
        line.publish(message.topic, message.payload)
        if number % every == 0:
            for party in world.parties:
                line.publish(party.topic(), party.go_on(int(world.now_s)).compact.encode())
    for party in world.parties:
        if not line.wait_for_receipt(party.device, len(party.tokens), SETTLED_S):
            outcome.problems.append(f"{party.device}: no receipt for its {len(party.tokens)} honest events")
        outcome.honest += len(party.tokens)
    for kind, some in hostile.items():
        outcome.sent[kind] = len(some)
        outcome.signed[kind] = sum(one.signed for one in some)
    return hostile


def _flood_board(outcome: Outcome, world: World, door: Door, running: Rig, line: Wire, messages: int) -> Life:
    """The real daemon, with an outbox that has been receipted before, gets them while it runs."""
    life = new_life(door, running, "flooded", archive_kept=True)
    life.run_to_its_end()
    life.be_patient(LAST_DRAIN_S)
    before = life.history
    key = load_signing_key(door.fleet.board_folder(DEVICE) / "device.pem")
    board = Party(DeviceIdentity(DEVICE, door.fleet.site, key), before.chain or "", [])
    genuine = [token for token in line.receipts.get(DEVICE, []) if _claims(token)["chain"] == before.chain]
    hostile = receipts(world, board, genuine, messages)
    half = messages // 2
    line.publish_all(hostile[:half])
    flood = threading.Thread(target=line.publish_all, args=(hostile[half:],))
    death = life.live("", begun=lambda _: flood.start())
    flood.join()
    outcome.sent["receipt"] = len(hostile)
    outcome.signed["receipt"] = sum(one.signed for one in hostile)
    outcome.problems += _unmoved(life, death, before.chain)
    outcome.honest += life.history.head_seq
    return life


def _unmoved(life: Life, death: Death, chain: str | None) -> Iterator[str]:
    if death.code != 0:
        yield f"the board ended with exit code {death.code}: {death.last_line}"
    if life.history.chain != chain:
        yield "the board believed a forged receipt, and gave its chain up"
    if life.history.waiting:
        yield f"the board believed nothing, also no genuine receipt: {life.history.waiting} events wait"
    if "Traceback" in death.log:
        yield "the board has shown a traceback"


def _judge(outcome: Outcome, path: Path, world: World, hostile: Mapping[str, Sequence[Hostile]]) -> None:
    """Hold the database against what was sent."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        kept: dict[str, str] = dict(database.execute("SELECT sha256, reason FROM evidence").fetchall())
        stored = {row[0]: row[1:] for row in database.execute(_STORED)}
    finally:
        database.close()
    honest = {token.hash for party in world.parties for token in party.tokens}
    for hashed in honest:
        if not stored.get(hashed, (False,))[0]:
            outcome.problems.append(f"an honest event is not believed: {hashed}")
    for kind, some in hostile.items():
        for message in some:
            fate = fate_of(message, kept, stored, honest)
            outcome.fates[f"{kind}: {fate}"] += 1
            if fate not in message.allowed:
                outcome.problems.append(f"{kind}, {message.family}: {fate}, and may not be")


_STORED = (
    "SELECT event.hash, event.seq <= chain.seq AND (chain.held_from IS NULL OR event.seq < chain.held_from),"
    " event.quality FROM event JOIN chain ON chain.id = event.chain_id"
)


def fate_of(
    message: Hostile, kept: Mapping[str, str], stored: Mapping[str, tuple[bool, str]], honest: set[str]
) -> str:
    """The reason under which it is kept as evidence; or known, waiting, ahead, believed or lost."""
    reason = kept.get(sha256(message.payload).hexdigest())
    if reason is not None:
        return reason
    hashed = _hash_of(message.payload)
    if hashed not in stored:
        return "lost"
    counted, quality = stored[hashed]
    if hashed in honest:
        return KNOWN
    if not counted:
        return WAITING
    return "believed" if quality == "synced" else AHEAD


def _hash_of(payload: bytes) -> str:
    try:
        return token_hash(payload.decode("ascii"))
    except UnicodeDecodeError:
        return ""


def _claims(token: bytes) -> dict[str, Any]:
    return parse_object(token.split(b".")[1], "payload")


def report(outcome: Outcome) -> str:
    """For people: what was sent, what came of it, what was wrong."""
    lines = [
        f"{kind:8} {count:6} sent, {outcome.signed[kind]:6} of them signed by a key that exists"
        for kind, count in outcome.sent.items()
    ]
    lines += [f"{fate:32} {count:6}" for fate, count in sorted(outcome.fates.items())]
    lines += [f"{key:24} {figure.value:>8.0f} {figure.unit}" for key, figure in figures(outcome).items()]
    shown = Counter(outcome.problems)
    lines += [f"FAIL  {problem} ({count} times)" for problem, count in shown.items()]
    if not shown:
        lines.append("ok    nobody fell, no hostile message was believed, none was lost")
    return "\n".join(lines)


def figures(outcome: Outcome) -> Mapping[str, Figure]:
    """For programs, and for the table in docs/figures.md."""
    counts = {
        **{f"hostile_{kind}": count for kind, count in outcome.sent.items()},
        "signed": outcome.signed.total(),
        "honest_events": outcome.honest,
        "problems": len(outcome.problems),
    }
    return {key: one(count, "") for key, count in counts.items()} | {"duration_s": one(outcome.seconds, "s")}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nobody fell, none was believed and none was lost, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m torture.hostile", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--seed", type=int, help="the same messages again; printed by each run")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="on each topic, default %(default)s")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    try:
        with tempfile.TemporaryDirectory(prefix="hadir-hostile-") as folder:
            print(f"hostile: commit {commit()}, {machine()}; seed {seed}", flush=True)
            outcome = run(Path(folder), seed, messages=options.messages)
    except HadirError as error:
        print(f"hostile: {error}", file=sys.stderr)
        return error.exit_code
    print(report(outcome))
    if options.json is not None:
        write_json(options.json, "hostile", figures(outcome))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
