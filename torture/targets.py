"""Who gets hostile messages about who somebody is: a desk, a board that waits for its answer, a board at work."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from edge.assembly import open_trust
from edge.board.clock import Clock
from edge.claiming import Places, claim_identity, keep_claim, take_up
from edge.commanding import Surroundings, handlers
from edge.config import load_config
from edge.errors import TokenRefused
from edge.trust.admission import Admission
from edge.trust.claim import Claim
from edge.trust.floor import TimeFloor
from edge.trust.jws import parse_object
from edge.trust.protect import load_key_encryption_key, make_key_file
from edge.trust.seal import KeyEncryptionKey
from edge.trust.store import Identity, IdentityStore
from edge.uplink.claim import believed, topic
from edge.uplink.client import Client, Incoming
from edge.uplink.commands import FILE, Commands
from edge.uplink.downlink import Downlink, Outgoing
from edge.uplink.downlink import Incoming as Down
from edge.uplink.outbox import Outbox
from edge.uplink.sync import KeysSync
from provisioning.claims import Listener, approve, receive_request
from provisioning.fleet import Fleet
from provisioning.serve import Desk
from torture.quiet import clock_of


class Silent:
    """In the place of the desk's connection: whatever is published goes nowhere."""

    def publish(self, *message: Any, **options: Any) -> None: ...


class DeskTarget:
    """Where boards present a claim."""

    def __init__(self, fleet: Fleet, claim: str) -> None:
        self._fleet = fleet
        self._claim = claim
        listener = Listener("mqtts://localhost", "localhost:8884", "")
        self._desk = Desk(fleet, cast(Client, Silent()), listener, auto=False, tell=lambda line: None)

    def offer(self, payload: bytes) -> str | None:
        """At the desk, which says in its log why it does not believe it, and once by itself for the reason."""
        try:
            receive_request(self._fleet, self._claim, payload, int(time.time()))
        except TokenRefused as refused:
            self._desk.take(Incoming(f"{topic(self._claim)}/request", payload, retained=True))
            return refused.reason
        return None

    def files(self) -> str:
        return hash_of(self._fleet.folder, frozenset())

    def answer(self, listener: Listener) -> bytes:
        """What the board gets that asked."""
        return approve(self._fleet, self._claim, listener=listener, now_s=int(time.time())).response or b""


class WaitingBoard:
    """A board that asked, and waits for its answer."""

    def __init__(self, folder: Path, claim: Claim) -> None:
        self._places = Places(folder / "edge.toml", folder / "state")
        self._claim = keep_claim(self._places, claim.file.encode())
        make_key_file(self._places.state_dir)
        self._kek = cast(KeyEncryptionKey, load_key_encryption_key(self._places.state_dir, {}))
        asked: list[tuple[bytes, Callable[[bytes], Admission]]] = []
        claim_identity(self._places, claim, self._kek, lambda _, *what: asked.append(what))
        self.request, self._open = asked[0]
        self._reason, self._answer = "", b""

    @property
    def config(self) -> Path:
        return self._places.config

    @property
    def identity(self) -> Identity:
        """With the keys that it made."""
        return IdentityStore(self._places.state_dir, self._kek).named(f"claim-{self._claim.id}")

    def offer(self, payload: bytes) -> str | None:
        """As the broker's answer."""
        if believed(self._claim, payload, self._opened) is None:
            return self._reason
        self._answer = payload
        return None

    def _opened(self, payload: bytes) -> Admission:
        try:
            return self._open(payload)
        except TokenRefused as refused:
            self._reason = refused.reason
            raise

    def files(self) -> str:
        return hash_of(self._places.config.parent, frozenset())

    def take_up(self) -> None:
        """Become the board of the answer that was believed last."""
        places, kek = self._places, self._kek
        identity = claim_identity(places, self._claim, kek, lambda _, __, opened: opened(self._answer))
        take_up(places, IdentityStore(places.state_dir, kek), cast(Identity, identity), Clock())


def let_in(fleet: Fleet, folder: Path, claim: Claim, listener: Listener) -> Identity:
    """A board's whole way; its identity."""
    board, desk = WaitingBoard(folder, claim), DeskTarget(fleet, claim.id)
    desk.offer(board.request)
    board.offer(desk.answer(listener))
    board.take_up()
    return board.identity


class ListeningBoard:
    """What a daemon has behind its connection: its keys documents and its commands, with the real handlers."""

    def __init__(self, file: Path) -> None:
        config, clock = load_config(file), clock_of("good")
        device, trust = config.device, open_trust(config)
        self._state_dir = device.state_dir
        self._outbox = Outbox(device.state_dir / "outbox.db")
        sync = KeysSync(
            trust.keys, device.root_thumbprint, device.keys_file, trust.store.current(), lambda: None
        )
        around = Surroundings(
            config=file,
            state_dir=device.state_dir,
            identity=trust.identity,
            store=trust.store,
            outbox=self._outbox,
            clock=clock,
            protection=trust.protection,
            keys=lambda: sync.keys,
            announce=lambda: None,
            restart=threading.Event(),
        )
        floor = TimeFloor(device.state_dir, 0)
        commands = Commands(device.state_dir, trust.identity, sync, clock, handlers(around), floor)
        self._downlink = Downlink([sync, commands])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outbox.close()

    def offer(self, last: str, payload: bytes) -> str | None:
        """As a message of `down/`: the reason why it is not believed, or why a command is not carried out."""
        before, sent = Counter(self._downlink.refused), list[Outgoing]()
        self._downlink.deliver(Down(last, payload, False), sent.append)
        for reason in self._downlink.refused - before:
            return reason
        for outgoing in sent:
            said = parse_object(outgoing.payload.split(b".")[1], "payload")
            if said["status"] != "done":
                return f"refused: {said['reason'].partition(':')[0]}"
        return None

    def files(self) -> str:
        """But for the outbox, which nobody writes here, the last number, which a refusal may use up, and the time."""
        return hash_of(
            self._state_dir, frozenset({FILE, "time-floor", "outbox.db", "outbox.db-wal", "outbox.db-shm"})
        )

    def of(self, last: str) -> Topic:
        """Whoever takes this topic of `down/`."""
        return Topic(self, last)


@dataclass(frozen=True, slots=True)
class Topic:
    """One of a board's topics."""

    board: ListeningBoard
    last: str

    def offer(self, payload: bytes) -> str | None:
        return self.board.offer(self.last, payload)

    def files(self) -> str:
        return self.board.files()


def hash_of(folder: Path, spared: frozenset[str]) -> str:
    """Of every file's name and content below a folder."""
    seen = sha256()
    for path in sorted(folder.rglob("*")):
        if path.name not in spared and path.is_file():
            content = path.read_bytes()
            seen.update(f"{path.relative_to(folder)} {len(content)} ".encode() + content)
    return seen.hexdigest()
