"""Commands: each number once and in order, whatever is sent, however often, and whenever the power goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.board.clock import Clock, KernelClock
from edge.errors import CannotRecord, CommandRefused, Refusal, TokenRefused
from edge.steps import IdentityStep
from edge.trust.commands import COMMAND_TYP, Reply, Status, command_claims, verify_reply
from edge.trust.floor import TimeFloor
from edge.trust.identity import DeviceIdentity, device_urn
from edge.trust.jws import SigningKey, VerificationKey, sign
from edge.trust.tokens import REPLY_TYP
from edge.uplink.commands import FILE, Commands
from edge.uplink.downlink import Incoming, Outgoing
from tests.cuts import Cut, cut_once

FLEET = "urn:hadir:fleet:" + "F" * 43
NOW_S = 1_800_000_000
BOOT = "b7d0f3f4-0000-4000-8000-000000000001"
COMMAND, OTHER, BOARD = (SigningKey.generate() for _ in range(3))
IDENTITY = DeviceIdentity("door-01", "hq", BOARD)
JTI = "A" * 22


class FleetPublic:
    """The fleet's public keys, of which this is the only one that counts here."""

    def verification_keys(self, typ: str) -> dict[str, VerificationKey]:
        return {COMMAND.kid: COMMAND.verification_key(frozenset({typ}))}


@dataclass
class Board:
    """A board's receiver of commands, with one handler that counts."""

    folder: Path
    synced: bool = True
    now_s: int = NOW_S
    floor_s: int = 0
    done: list[Mapping[str, Any]] = field(default_factory=list)
    sent: list[Outgoing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        clock = Clock(lambda: KernelClock(self.synced, 5), lambda: self.now_s * 1000, lambda: 1000, BOOT)
        handlers = {"ping": self._count, "no": self._refuse}
        self.commands = Commands(
            self.folder, IDENTITY, FleetPublic(), clock, handlers, TimeFloor(self.folder, self.floor_s)
        )

    def _count(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        self.done.append(args)
        return {"count": len(self.done)}

    def _refuse(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        raise CommandRefused("no: not today")

    def receive(self, token: str) -> Reply:
        self.commands.receive(Incoming("command", token.encode(), False), self.sent.append)
        return self.last

    @property
    def last(self) -> Reply:
        outgoing = self.sent[-1]
        assert outgoing.topic == "reply"
        return verify_reply(
            outgoing.payload, {BOARD.kid: BOARD.verification_key(frozenset({REPLY_TYP}))}, "door-01"
        )


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def token(n: int = 1, key: SigningKey = COMMAND, typ: str = COMMAND_TYP, **changes: Any) -> str:
    claims = command_claims(
        FLEET,
        "door-01",
        jti=f"{n:022d}",
        n=n,
        name="ping",
        args={},
        now_s=NOW_S,
        expires_s=NOW_S + 60,
    )
    said = {name: value for name, value in {**claims, **changes}.items() if value is not ...}
    return sign(said, key, typ).compact


def test_a_command_is_carried_out_and_answered_by_the_board(board: Board) -> None:
    reply = board.receive(token(args={"x": 1}))
    assert (reply.status, reply.n, reply.command, reply.boot) == (Status.DONE, 1, f"{1:022d}", BOOT)
    assert reply.result == {"count": 1}
    assert board.done == [{"x": 1}]


def test_delivered_again_it_is_answered_alike_and_not_done_again(board: Board) -> None:
    first = token()
    board.receive(first)
    board.receive(first)
    board.start()
    board.receive(first)
    assert len(board.done) == 1
    assert len({outgoing.payload for outgoing in board.sent}) == 1


@pytest.mark.parametrize("n", [1, 2, 3])
def test_numbers_only_rise_also_over_a_restart(board: Board, n: int) -> None:
    board.receive(token(3))
    board.start()
    reply = board.receive(token(n, jti="B" * 22))
    assert reply.status is Status.REFUSED
    assert reply.reason == f"n = {n}: 3 was the last, and numbers only rise"
    assert reply.result == {"last_n": 3, "needs_boot": False}
    assert board.receive(token(7)).status is Status.DONE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "shell"}, "name: shell is not known here; no, ping are"),
        ({"name": "no"}, "no: not today"),
        ({"exp": NOW_S}, "exp: it has expired"),
        ({"exp": NOW_S - 86400}, "exp: it has expired"),
        ({"boot": "another"}, "boot: it is for another boot of this board"),
        (
            {"iat": NOW_S + 301, "exp": NOW_S + 400},
            "iat: it is ahead of this board's clock; is that of the fleet's machine right?",
        ),
    ],
)
def test_what_is_signed_and_not_to_be_done_is_refused_with_a_signed_reason(
    board: Board, changes: dict[str, Any], reason: str
) -> None:
    reply = board.receive(token(**changes))
    assert (reply.status, reply.reason) == (Status.REFUSED, reason)
    assert board.done == []
    assert board.receive(token(2)).status is Status.DONE


@pytest.mark.parametrize(
    ("compact", "reason"),
    [
        ("", Refusal.MALFORMED),
        ("a.b.c", Refusal.MALFORMED),
        ("A" * 20000, Refusal.TOO_LARGE),
        (token(key=OTHER), Refusal.UNKNOWN_KEY),
        (token(typ="hadir-gallery+jwt"), Refusal.WRONG_TYPE),
        (token()[:-6] + "AAAAAA", Refusal.BAD_SIGNATURE),
        # Signed by the fleet's command key, and wrong in meaning:
        (token(aud=device_urn("door-02")), Refusal.WRONG_AUDIENCE),
        (token(aud=[device_urn("door-01")]), Refusal.WRONG_AUDIENCE),
        (token(aud=...), Refusal.WRONG_AUDIENCE),
        (token(n=0), Refusal.BAD_CLAIMS),
        (token(n=-1, jti=JTI), Refusal.BAD_CLAIMS),
        (token(jti="x"), Refusal.BAD_CLAIMS),
        (token(jti=...), Refusal.BAD_CLAIMS),
        (token(exp=...), Refusal.BAD_CLAIMS),
        (token(exp="tomorrow"), Refusal.BAD_CLAIMS),
        (token(exp=True), Refusal.BAD_CLAIMS),
        (token(name="rm -rf /"), Refusal.BAD_CLAIMS),
        (token(name=["ping"]), Refusal.BAD_CLAIMS),
        (token(args=[]), Refusal.BAD_CLAIMS),
        (token(args="x"), Refusal.BAD_CLAIMS),
        (token(boot=7), Refusal.BAD_CLAIMS),
        (token(nbf=0), Refusal.BAD_CLAIMS),
        (token(iss=7), Refusal.BAD_CLAIMS),
    ],
)
def test_what_nobody_of_the_fleet_can_have_meant_gets_no_answer(
    board: Board, compact: str, reason: Refusal
) -> None:
    with pytest.raises(TokenRefused) as refused:
        board.receive(compact)
    assert refused.value.reason is reason
    assert (board.sent, board.done) == ([], [])
    assert not (board.folder / FILE).exists()


def test_a_time_in_the_far_future_does_not_make_every_later_command_an_expired_one(board: Board) -> None:
    """Regression: a command of a machine whose clock was wrong raised the time floor, and later ones were refused."""
    board.receive(token(1, iat=NOW_S + 10**9, exp=NOW_S + 2 * 10**9))
    assert board.receive(token(2)).status is Status.DONE


def test_a_good_clock_knows_better_than_a_time_floor_that_somebody_raised_too_far(tmp_path: Path) -> None:
    board = Board(tmp_path, floor_s=NOW_S + 10**9)
    assert board.receive(token()).status is Status.DONE


def test_a_board_without_a_clock_takes_what_is_harmless_and_what_names_its_boot(tmp_path: Path) -> None:
    board = Board(tmp_path, synced=False, now_s=0)
    assert board.receive(token(1)).status is Status.DONE
    refused = board.receive(token(2, name="no"))
    assert refused.reason is not None
    assert refused.reason.startswith("clock: this board does not know the time")
    named = board.receive(token(3, name="no", boot=BOOT))
    assert named.reason == "no: not today"
    assert board.receive(token(4, boot="another")).reason == "boot: it is for another boot of this board"


def test_a_board_without_a_clock_still_refuses_what_ended_before_it_last_knew_the_time(
    tmp_path: Path,
) -> None:
    board = Board(tmp_path, synced=False, now_s=0, floor_s=NOW_S + 60)
    assert board.receive(token(1, boot=BOOT)).reason == "exp: it has expired"
    assert board.receive(token(2, boot=BOOT, exp=NOW_S + 61)).status is Status.DONE


POINTS = (IdentityStep.COMMAND_NUMBERED, IdentityStep.COMMAND_DONE, IdentityStep.COMMAND_ANSWERED)


@pytest.mark.parametrize("point", POINTS)
def test_a_power_cut_at_any_step_never_has_a_command_done_twice(
    board: Board, point: IdentityStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_once(monkeypatch, point)
    with pytest.raises(Cut):
        board.receive(token())
    board.start()
    reply = board.receive(token())
    expected = Status.DONE if point is IdentityStep.COMMAND_ANSWERED else Status.INTERRUPTED
    assert reply.status is expected
    assert len(board.done) == (point is not IdentityStep.COMMAND_NUMBERED)


def test_the_last_answer_is_sent_again_after_a_start_because_nobody_knows_whether_it_arrived(
    board: Board,
) -> None:
    reply = board.receive(token())
    board.sent.clear()
    board.start()
    board.commands.connected(board.sent.append)
    board.commands.connected(board.sent.append)
    assert len(board.sent) == 1
    assert board.last == reply


def test_where_the_number_cannot_be_kept_nothing_is_done(board: Board) -> None:
    board.folder.joinpath(FILE).mkdir()  # in the way of the write, also for root
    with pytest.raises(CannotRecord, match="the command's number cannot be written"):
        board.receive(token())
    assert board.done == []


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"n": "1", "jti": "", "name": "", "reply": null}', b"\xff"]
)
def test_a_damaged_number_stops_the_board_rather_than_let_an_old_command_in(
    board: Board, content: bytes
) -> None:
    (board.folder / FILE).write_bytes(content)
    with pytest.raises(CannotRecord, match="number of the last command cannot be read"):
        board.start()


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.integers(-60, 120)), max_size=12))
def test_whatever_is_sent_in_whatever_order_each_number_is_done_at_most_once(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[int, bool, int]]
) -> None:
    board = Board(tmp_path_factory.mktemp("board"))
    carried_out: list[int] = []
    for n, restarted, left_s in sent:
        if restarted:
            board.start()
        before = len(board.done)
        board.receive(token(n, exp=NOW_S + left_s))
        if len(board.done) > before:
            carried_out.append(n)
    assert carried_out == sorted(set(carried_out))
