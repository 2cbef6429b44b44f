"""The desk at the broker: answers claims, sees boards arrive, sends commands and takes their answers.

One connection, one loop. Approving and commanding happen in other processes too; the registry
is where they meet, so this looks there for what is to be published. The broker lets in one
client of a name, so a fleet has one desk at a time: `hadir-provision serve`, or for a moment
a command that finds it empty. Everything can be stopped and started again at any time: taking
a request or an answer twice, or sending a command twice, changes nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge.errors import BrokerUnavailable, InputError, Refusal, RetryLater, TokenRefused
from edge.files import remove_durably
from edge.trust.admission import Purpose
from edge.trust.jws import parse_members
from edge.trust.members import take
from edge.uplink.client import Client, Incoming
from provisioning.claims import Listener, Outcome, Received, approve, receive_request, take_status
from provisioning.commands import name_boot, take_reply, topic_of
from provisioning.entries import Claim, ClaimState, Given
from provisioning.fleet import KEYS_VERSION, Fleet
from provisioning.handout import LISTS, Handout, end_of
from provisioning.link import connect, listener_of, spread
from provisioning.rotation import begin, due, go_on
from provisioning.steps import DeskStep, reached

log = logging.getLogger(__name__)

LOCK_FILE = "desk.lock"
SERVING, COMMANDING = "serve", "a command"
"""Who sits at the desk: for as long as boards may come, or until an answer is there."""

CLAIM_FILE = "hadir-claim.json"
"""In a board's folder, unless it was written elsewhere; of no use once the board has come."""

REPORTED = "keys-of:"
"""Before a board's id, in the registry's settings."""

TOPICS = "hadir/v1"
FILTERS = (f"{TOPICS}/claim/+/request", f"{TOPICS}/+/up/status", f"{TOPICS}/+/up/reply")

LOOK_S = 0.5
"""How often to look for what was approved elsewhere."""

ROTATE_S = 3600.0
"""How often to look for certificates that are two thirds through."""

GRACE_S = 0.3
"""Whoever took an answer may be about to give the command that it leads to."""

SPREAD_S = 2.0
"""Files are written anew at most so often while boards keep coming."""

Tell = Callable[[str], None]
"""Prints a line for the administrator."""


class Desk:
    """Where boards present their claims. `auto` approves without asking, for a roll-out that somebody watches.

    `owing`: whoever sat here before may have changed the registry without writing the files that follow from it.
    """

    def __init__(
        self,
        fleet: Fleet,
        client: Client,
        listener: Listener,
        *,
        auto: bool,
        tell: Tell,
        owing: bool = False,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._fleet = fleet
        self._client = client
        self._listener = listener
        self._auto = auto
        self._tell = tell
        self._owing = owing
        self._now_s = now_s
        self._published: set[str] = set()
        self._complained: set[tuple[str, str]] = set()
        self._spread_due_s: float | None = None
        self._busy = True
        self._handout = Handout(fleet, client)

    def run(self, stop: Callable[[], bool]) -> None:
        """Until `stop` says so, or the fleet has another root.

        Raises:
            BrokerUnavailable: the connection ends.
            RetryLater: the registry cannot be written now.
        """
        if self._owing:
            spread(self._fleet, self._now())
        self._client.subscribe(FILTERS)
        next_look_s = next_rotate_s = 0.0
        while not stop():
            message = self._client.receive(0.0 if self._busy else LOOK_S)
            self._busy = message is not None
            if message is not None:
                self.take(message)
            now_s = time.monotonic()
            if now_s >= next_look_s:
                if self._fleet.refreshed() != self._fleet:
                    break
                self._handout.look(now_s)
                self.publish_answers()
                self.send_commands()
                next_look_s = now_s + LOOK_S
            if now_s >= next_rotate_s:
                self.rotate_what_is_due()
                next_rotate_s = now_s + ROTATE_S
            if self._spread_due_s is not None and (message is None or now_s >= self._spread_due_s):
                self.spread()
        self.spread()

    def take(self, message: Incoming) -> None:
        """One message; nothing is raised for what is in it.

        Raises RetryLater where the registry cannot be written now: whoever sits down next gets the message again, from
        the broker or because the board is asked again.
        """
        levels = message.topic.split("/")
        if not message.payload or len(levels) != 5:  # noqa: PLR2004 - hadir/v1/claim/ID/request, …/ID/up/status
            return
        try:
            if levels[2] == "claim":
                self._take_request(levels[3], message.payload)
            elif levels[4] == "status":
                self._take_status(levels[2], message.payload)
            else:
                self._take_reply(levels[2], message.payload)
        except TokenRefused as refused:
            new = self._complain(message.topic, refused)
            if levels[2] == "claim":
                self._clear_claim(levels[3])
                if refused.reason is Refusal.EXPIRED and new:
                    self._changed()  # the broker lets it in still, and its board would wait for ever
        except InputError as error:
            log.warning("%s: %s", message.topic, error)

    def publish_answers(self) -> None:
        """Publish what was approved, here or elsewhere, and is not published yet."""
        for claim in self._fleet.registry.claims():
            if claim.state is ClaimState.ISSUED and claim.claim not in self._published:
                self._publish(claim)

    def send_commands(self) -> None:
        """Send what boards were told, here or elsewhere; after a restart once more, which boards know by its id."""
        for given in self._fleet.registry.open_commands(self._now()):
            if given.jti not in self._published:
                self._published.add(given.jti)
                self._client.publish(topic_of(given), given.token, expiry_s=given.expires_s - self._now())

    def _send_again(self, device: str) -> None:
        """A board came: what it was told before its first connection, no broker kept for it."""
        self._published -= {
            given.jti for given in self._fleet.registry.open_commands(self._now()) if given.device == device
        }

    def rotate_what_is_due(self) -> None:
        """Tell boards to make their next key, long before the certificate of this one ends."""
        for device in due(self._fleet, self._now()):
            begin(self._fleet, device, self._now())
            self._tell(f"{device}: its certificate is two thirds through; told to make its next key")

    def spread(self) -> None:
        """Write what servers and the broker must know, where anything changed."""
        if self._spread_due_s is not None:
            self._spread_due_s = None
            spread(self._fleet, self._now())
            reached(DeskStep.SPREAD)

    def _take_request(self, claim_id: str, content: bytes) -> None:
        received = receive_request(self._fleet, claim_id, content, self._now())
        reached(DeskStep.REQUEST_TAKEN)
        match received.outcome:
            case Outcome.ALERT:
                self._raise_alert(received)
            case Outcome.ANSWERED:
                self._publish(received.claim)
            case Outcome.PENDING if self._auto:
                approved = approve(self._fleet, claim_id, listener=self._listener, now_s=self._now())
                reached(DeskStep.APPROVED)
                self._publish(approved)
                self._changed()
                self._tell(f"{received.claim.device}: approved ({received.detail})")
            case Outcome.PENDING:
                self._tell(
                    f"{received.claim.device}: claim {claim_id} waits for `approve`: {received.detail}"
                )

    def _take_status(self, device: str, payload: bytes) -> None:
        status = parse_members(payload, "status")
        arrival = take_status(self._fleet, device, take(status, "head", str), self._now())
        self._note_keys(device, status.get("keys"))
        if status.get("state") == "online":
            self._send_again(device)
        if arrival is None:
            return
        self._changed()
        if arrival.claim is None:
            self._tell(f"{device}: works with its new key {arrival.kid}")
            return
        reached(DeskStep.USED_UP)
        self._clear_claim(arrival.claim.claim)
        reached(DeskStep.CLEARED)
        remove_durably(self._fleet.board_folder(device) / CLAIM_FILE)
        self._tell(f"{device}: arrived; claim {arrival.claim.claim} is used up")

    def _note_keys(self, device: str, version: object) -> None:
        """How new a board's keys document is: what is signed with newer keys it could not believe."""
        if type(version) is not int or version > self._fleet.registry.counter(KEYS_VERSION):
            return  # not ours: whoever counts up must not fill the audit
        if version > reported_keys(self._fleet).get(device, 0):
            with self._fleet.change("keys-reported", device, now_s=self._now(), version=version) as change:
                change.set(f"{REPORTED}{device}", version)

    def _take_reply(self, device: str, payload: bytes) -> None:
        answered = take_reply(self._fleet, device, payload, self._now())
        if answered is None:
            return
        reached(DeskStep.REPLY_TAKEN)
        reply, given = answered.reply, answered.given
        self._tell(
            f"{device}: {given.name} {given.n}: {reply.status}{f': {reply.reason}' if reply.reason else ''}"
        )
        if name_boot(self._fleet, answered, self._now()) is not None:
            return
        if go_on(self._fleet, answered, self._now()) is not None:
            self._changed()

    def _raise_alert(self, received: Received) -> None:
        claim = received.claim
        self._clear_claim(claim.claim)
        self._changed()
        self._tell(f"ALERT {claim.device}: claim {claim.claim} was {received.detail}; nothing was issued")
        log.error("claim %s of %s: %s", claim.claim, claim.device, received.detail)

    def _publish(self, claim: Claim) -> None:
        if claim.response is None:
            return
        if claim.purpose is Purpose.REPLACE and claim.claim not in self._published:
            # The board before may have been revoked: until the broker has read that the door has another one, it
            # would not let that one in.
            spread(self._fleet, self._now())
        left_s = max(60, claim.expires_s - self._now())
        self._client.publish(
            f"{TOPICS}/claim/{claim.claim}/response", claim.response, retain=True, expiry_s=left_s
        )
        self._published.add(claim.claim)
        reached(DeskStep.ANSWER_PUBLISHED)

    def _clear_claim(self, claim_id: str) -> None:
        """Nothing of it stays at the broker, whoever had published it."""
        for last in ("request", "response"):
            self._client.publish(f"{TOPICS}/claim/{claim_id}/{last}", b"", retain=True)

    def _changed(self) -> None:
        if self._spread_due_s is None:
            self._spread_due_s = time.monotonic() + SPREAD_S

    def _complain(self, topic: str, refused: TokenRefused) -> bool:
        """Once for each topic and reason: whoever can publish there must not fill the log. Whether it was now."""
        if (topic, refused.reason) in self._complained or len(self._complained) >= 1000:  # noqa: PLR2004
            return False
        self._complained.add((topic, refused.reason))
        log.warning("%s: not believed, and nothing was changed: %s", topic, refused)
        return True

    def _now(self) -> int:
        return int(self._now_s())


def reported_keys(fleet: Fleet) -> dict[str, int]:
    """By board, the version of the keys document that it last said it had."""
    found = {}
    for device in fleet.active_devices():
        version = fleet.registry.setting(f"{REPORTED}{device.device}")
        if isinstance(version, int):
            found[device.device] = version
    return found


@contextmanager
def at_the_desk(fleet: Fleet, who: str = COMMANDING) -> Iterator[bool]:
    """Whether the desk was empty: then it is ours until the end, however that comes (flock(2))."""
    descriptor = os.open(fleet.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, who.encode())
            yield True
    finally:
        os.close(descriptor)


def who_sits_there(fleet: Fleet) -> str:
    """Who sat down at the desk last."""
    return (fleet.folder / LOCK_FILE).read_text(encoding="utf-8")


def hand_out(fleet: Fleet) -> str:
    """Have the broker keep the newest keys and revocation list for each board; what came of it, or is left to do."""
    boards, given = len(fleet.active_devices()), f"the revocation list until {end_of(fleet, LISTS):%Y-%m-%d}"
    with at_the_desk(fleet) as empty:
        if not empty:
            return f"`hadir-provision serve`, which runs, gives boards {given} within the hour"
        try:
            with connect(fleet) as client:
                if Handout(fleet, client).look(time.monotonic()):
                    return f"{boards} board(s) were given {given}"
            why = "see above"
        except BrokerUnavailable as error:
            why = str(error)
    return f"{boards} board(s) are still to be given {given}, by `hadir-provision serve`: {why}"


def await_answer(fleet: Fleet, given: Given, wait_s: float, tell: Tell) -> Given:
    """Have a command sent, and wait for its answer, or that of the command that its answer led to.

    Raises:
        RetryLater: no answer in time; the command waits for the board until it expires.
        BrokerUnavailable: as it says.
    """
    deadline_s = time.monotonic() + wait_s
    settled_s: list[float] = []

    def over() -> bool:
        now_s = time.monotonic()
        if _last(fleet, given).status is None:
            settled_s.clear()
            return now_s >= deadline_s
        settled_s.append(now_s)
        return now_s - settled_s[0] >= GRACE_S

    attend(fleet, over, tell)
    answered = _last(fleet, given)
    if answered.status is None:
        raise RetryLater(
            f"{given.device}: {given.name}: no answer within {wait_s:g} s; it waits for the board at the broker, "
            "until it expires"
        )
    return answered


def attend(fleet: Fleet, over: Callable[[], bool], tell: Tell) -> None:
    """Until it is over, see that somebody is at the desk: ourselves, where nobody is. Raises BrokerUnavailable."""
    with at_the_desk(fleet) as empty:
        if empty:
            with connect(fleet) as client:
                Desk(fleet, client, listener_of(fleet), auto=False, tell=tell).run(over)
        while not over():
            time.sleep(LOOK_S / 5)


def _last(fleet: Fleet, given: Given) -> Given:
    """What whoever takes the answers gave next: for a boot, or the second half of a rotation; else the same."""
    return fleet.registry.last_command(given.device, given.name) or given
