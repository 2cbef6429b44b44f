"""Keys that come down are taken if they are newer and from the root; the time floor only rises."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DiskFull, Refusal, TokenRefused
from edge.files import unwritable
from edge.steps import IdentityStep
from edge.trust.fleetkeys import FleetKeys, load_keys_document, sign_keys_document
from edge.trust.floor import FILE, STEP_S, TimeFloor
from edge.trust.jws import SigningKey
from edge.trust.store import IdentityStore
from edge.uplink.downlink import Incoming, Outgoing
from edge.uplink.sync import KeysSync
from provisioning.authority import pem
from tests.cuts import Cut, cut_once
from tests.test_admission import AUTHORITY, FOREIGN

NOW_S = 1_800_000_000
ROOT, COMMAND, NEXT = (SigningKey.generate() for _ in range(3))


def document(version: int, key: SigningKey = COMMAND, root: SigningKey = ROOT, authority: str = "") -> bytes:
    authorities = [authority or pem(AUTHORITY.root)]
    return sign_keys_document(
        root, {"command": key}, version=version, now_s=NOW_S, authorities=authorities
    ).encode()


class Board:
    """A board's copy of the keys, with an identity that has version 5."""

    def __init__(self, folder: Path) -> None:
        self.store = IdentityStore(folder, None)
        self.identity = self.store.begin("claim-k3v8abcdef")
        self.identity.put_certificate(("x",))
        self.identity.put_keys(document(5), (pem(AUTHORITY.root),))
        self.store.activate(self.identity)
        self.changes = 0
        self.start()

    def start(self) -> None:
        self.sync = KeysSync(
            self.held, ROOT.kid, self.identity.folder / "keys.jws", self.identity, self._changed
        )

    @property
    def held(self) -> FleetKeys:
        return load_keys_document(self.identity.folder / "keys.jws", ROOT.kid)

    def _changed(self) -> None:
        self.changes += 1

    def receive(self, payload: bytes) -> None:
        self.sync.receive(Incoming("keys", payload, True), _nothing)


def _nothing(outgoing: Outgoing) -> None:
    raise AssertionError(f"nobody asked for {outgoing}")


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_newer_document_is_durable_before_it_is_used_and_told_of(board: Board) -> None:
    board.receive(document(6, NEXT))
    assert (board.sync.version, board.changes) == (6, 1)
    assert board.held.version == 6
    assert list(board.sync.verification_keys("hadir-command+jwt")) == [NEXT.kid]


def test_the_brokers_authorities_come_with_it(board: Board) -> None:
    board.receive(document(6, authority=pem(FOREIGN.root)))
    assert (board.identity.folder / "ca.pem").read_text() == pem(FOREIGN.root)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"nothing", Refusal.MALFORMED),
        (b"a.b.c", Refusal.MALFORMED),
        (document(9, root=SigningKey.generate()), Refusal.UNKNOWN_KEY),
        (document(6)[:-8] + b"AAAAAAAA", Refusal.BAD_SIGNATURE),
        # Signed by the root, and wrong in meaning:
        (document(4), Refusal.BAD_CLAIMS),
        (document(5, NEXT), Refusal.BAD_CLAIMS),
        (document(0), Refusal.BAD_CLAIMS),
        (document(7) + b"\n" + document(6), Refusal.BAD_CLAIMS),
        (document(6, authority="no certificate"), Refusal.BAD_CLAIMS),
        (b"\n".join(document(n) for n in range(6, 20)), Refusal.MALFORMED),
    ],
)
def test_what_is_older_foreign_or_wrong_changes_nothing(
    board: Board, payload: bytes, reason: Refusal
) -> None:
    with pytest.raises(TokenRefused) as refused:
        board.receive(payload)
    assert refused.value.reason is reason
    assert (board.sync.version, board.held.version, board.changes) == (5, 5, 0)


def test_the_same_document_again_and_a_cleared_message_are_no_news(board: Board) -> None:
    board.receive((board.identity.folder / "keys.jws").read_bytes())
    board.receive(b"")
    assert board.changes == 0


@pytest.mark.parametrize("point", [IdentityStep.KEYS_STORED, IdentityStep.AUTHORITIES_STORED])
def test_a_power_cut_between_keys_and_authorities_is_mended_at_the_next_start(
    board: Board, point: IdentityStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_once(monkeypatch, point)
    with pytest.raises(Cut):
        board.receive(document(6, authority=pem(FOREIGN.root)))
    board.start()
    assert board.sync.version == 6
    assert (board.identity.folder / "ca.pem").read_text() == pem(FOREIGN.root)


@given(st.lists(st.integers(1, 12), max_size=8))
def test_versions_only_rise_whatever_comes_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, versions: list[int]
) -> None:
    board = Board(tmp_path_factory.mktemp("board"))
    highest = 5
    for version in versions:
        before = board.sync.version
        try:
            board.receive(document(version))
        except TokenRefused:
            assert version <= before
        highest = max(highest, version)
        assert board.sync.version == board.held.version == highest


def test_the_time_floor_only_rises_and_lasts(tmp_path: Path) -> None:
    floor = TimeFloor(tmp_path, NOW_S)
    floor.raise_to(NOW_S - 1)
    assert floor.seconds == NOW_S
    floor.raise_to(NOW_S + STEP_S)
    floor.raise_to(NOW_S + 1)
    assert floor.seconds == NOW_S + STEP_S
    assert TimeFloor(tmp_path, 0).seconds == NOW_S + STEP_S


@pytest.mark.parametrize("content", [b"", b"soon", b"9" * 100, b"\xff"])
def test_a_damaged_time_floor_leaves_what_this_version_knows(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert TimeFloor(tmp_path, NOW_S).seconds == NOW_S


def test_a_time_floor_that_cannot_be_kept_still_counts(tmp_path: Path) -> None:
    floor = TimeFloor(tmp_path / "missing", NOW_S)
    floor.raise_to(NOW_S + 2 * STEP_S)
    assert floor.seconds == NOW_S + 2 * STEP_S


def test_a_full_disk_is_told_apart() -> None:
    assert isinstance(unwritable("x", OSError(28, "No space left on device")), DiskFull)
    assert not isinstance(unwritable("x", OSError(5, "Input/output error")), DiskFull)
