"""A board keeps the newest revocation list of whoever issued its certificate, and believes no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from edge.check.findings import Verdict
from edge.check.judge import judge_revocations
from edge.errors import Refusal, TokenRefused
from edge.trust.revocations import (
    FILE,
    MAX_LISTS_BYTES,
    RevocationList,
    load_revocation_list,
    verify_revocation_list,
)
from edge.uplink.connection import MAX_INCOMING_BYTES
from edge.uplink.downlink import Incoming, Outgoing
from edge.uplink.sync import RevocationSync
from provisioning.authority import Authority, moment, pem
from tests.certificates import new_authority

NOW = moment(1_800_000_000)
NOW_S = NOW.timestamp()
DAY_S = 24 * 3600
KEY = ec.generate_private_key(ec.SECP256R1())


OURS, NEXT, NAMESAKE = (new_authority(f"Hadir fleet{number}", NOW) for number in ("", " 2", ""))
BOARD = OURS.issue_device(KEY.public_key(), "door-01", NOW)


def lists(number: int, *revoked: int, by: Authority = OURS) -> bytes:
    return pem(by.revocation_list([(serial, NOW) for serial in revoked], number, NOW)).encode()


class Board:
    """A board that holds list 5."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate(BOARD, OURS)
        self.authorities: tuple[str, ...] = (pem(OURS.root),)
        self.sync = RevocationSync("door-01", folder / "certificate.pem", folder, lambda: self.authorities)
        self.receive(lists(5))

    def certificate(self, certificate: x509.Certificate, issuer: Authority) -> None:
        (self.folder / "certificate.pem").write_text(pem(certificate) + issuer.chain)

    def receive(self, payload: bytes) -> None:
        self.sync.receive(Incoming("crl", payload, True), _nothing)

    @property
    def held(self) -> bytes:
        return (self.folder / FILE).read_bytes()


def _nothing(outgoing: Outgoing) -> None:
    raise AssertionError(f"nobody asked for {outgoing}")


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_newer_list_takes_the_place_of_the_one_before_and_outlives_a_restart(board: Board) -> None:
    board.receive(lists(6, 17))
    held = load_revocation_list(board.folder, OURS.certificate)
    assert held is not None
    assert (held.number, held.serials) == (6, frozenset({17}))


def test_during_a_change_of_the_fleets_keys_a_board_takes_the_list_of_its_own_authority(board: Board) -> None:
    """The broker has both, since boards have certificates of either."""
    board.receive(lists(6, by=NEXT) + lists(6))
    assert x509.load_pem_x509_crl(board.held).issuer == OURS.certificate.subject
    board.authorities = (pem(OURS.root), pem(NEXT.root))
    board.certificate(NEXT.issue_device(KEY.public_key(), "door-01", NOW), NEXT)
    board.receive(lists(6, by=NEXT) + lists(6))
    assert x509.load_pem_x509_crl(board.held).issuer == NEXT.certificate.subject


def of_another_kind(extension: x509.ExtensionType, *, critical: bool) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(OURS.certificate.subject)
    builder = builder.last_update(NOW).next_update(NOW + timedelta(days=9))
    return pem(builder.add_extension(extension, critical=critical).sign(OURS.key, SHA256())).encode()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"rubbish", Refusal.MALFORMED),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", Refusal.MALFORMED),
        (lists(6) + b"and more", Refusal.MALFORMED),
        (lists(6) * 3, Refusal.MALFORMED),
        (b"x" * (MAX_LISTS_BYTES + 1), Refusal.TOO_LARGE),
        # Good lists, of somebody else:
        (lists(6, by=NEXT), Refusal.UNKNOWN_KEY),
        (lists(6, by=NAMESAKE), Refusal.BAD_SIGNATURE),
        # Signed by the authority, and wrong in meaning:
        (lists(4), Refusal.BAD_CLAIMS),
        (lists(5, 17), Refusal.BAD_CLAIMS),
        (of_another_kind(x509.CRLNumber(9), critical=True), Refusal.BAD_CLAIMS),
        (of_another_kind(x509.DeltaCRLIndicator(3), critical=True), Refusal.BAD_CLAIMS),
        (
            of_another_kind(x509.AuthorityKeyIdentifier(b"x", None, None), critical=False),
            Refusal.MALFORMED,
        ),
    ],
)
def test_what_is_older_foreign_or_wrong_changes_nothing(
    board: Board, payload: bytes, reason: Refusal
) -> None:
    before = board.held
    with pytest.raises(TokenRefused) as refused:
        board.receive(payload)
    assert refused.value.reason is reason
    assert board.held == before


def test_one_flipped_bit_anywhere_changes_nothing(board: Board) -> None:
    before, good = board.held, lists(6, 17)
    for place in range(30, len(good) - 30, 37):
        altered = bytearray(good)
        altered[place] ^= 1
        with pytest.raises(TokenRefused):
            board.receive(bytes(altered))
    assert board.held == before


@given(st.binary(max_size=300))
def test_whatever_comes_in_is_refused_and_never_more_than_that(content: bytes) -> None:
    for payload in (content, b"-----BEGIN X509 CRL-----\n" + content + b"-----END X509 CRL-----\n"):
        with pytest.raises(TokenRefused):
            verify_revocation_list(payload, OURS.certificate)


@given(st.lists(st.integers(1, 12), max_size=8))
def test_numbers_only_rise_whatever_comes_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    board, highest = Board(tmp_path_factory.mktemp("board")), 5
    for number in numbers:
        try:
            board.receive(lists(number))
        except TokenRefused:
            assert number <= highest
        highest = max(highest, number)
        assert verify_revocation_list(board.held, OURS.certificate).number == highest


def test_the_same_list_again_and_a_cleared_message_are_no_news(board: Board) -> None:
    before = (board.folder / FILE).stat().st_mtime_ns
    board.receive(board.held)
    board.receive(b"")
    assert (board.folder / FILE).stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [b"", b"damaged", lists(99, by=NEXT)])
def test_a_list_that_cannot_be_used_any_more_gives_way_to_the_next(board: Board, content: bytes) -> None:
    (board.folder / FILE).write_bytes(content)
    board.receive(lists(6))
    assert verify_revocation_list(board.held, OURS.certificate).number == 6


def damage(board: Board) -> None:
    (board.folder / "certificate.pem").write_text("none")


def lose(board: Board) -> None:
    (board.folder / "certificate.pem").unlink()


def confuse(board: Board) -> None:
    board.authorities = (pem(NEXT.root),)


@pytest.mark.parametrize("spoil", [damage, lose, confuse])
def test_without_a_certificate_that_leads_to_the_fleet_no_list_is_believed(
    board: Board, spoil: Callable[[Board], None]
) -> None:
    before = board.held
    spoil(board)
    with pytest.raises(TokenRefused):
        board.receive(lists(6))
    assert board.held == before


def test_a_list_that_cannot_be_kept_is_told_and_stops_nothing(
    board: Board, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.uplink.sync.write_durably", full)
    board.receive(lists(6))
    assert f"{board.folder / FILE}: the revocation list cannot be kept (No space left" in caplog.text
    assert verify_revocation_list(board.held, OURS.certificate).number == 5


def test_a_large_fleets_list_has_room(board: Board) -> None:
    """A board's certificate is replaced after eight months and ends after twelve: a third of a certificate a board."""
    board.receive(lists(6, *(x509.random_serial_number() for _ in range(2_000))))
    assert len(verify_revocation_list(board.held, OURS.certificate).serials) == 2_000


# --- what the check says of it


def held(*revoked: int) -> RevocationList:
    return verify_revocation_list(lists(7, *revoked), OURS.certificate)


@pytest.mark.parametrize(
    ("days", "verdict", "words"),
    [
        (0, Verdict.OK, "number 7, until 2028-01-15; this board is not in it"),
        (365 - 31, Verdict.OK, "until"),
        (365 - 29, Verdict.WARNING, "ends on 2028-01-15"),
        (366, Verdict.FAILURE, "ended on 2028-01-15"),
    ],
)
def test_a_list_is_judged_by_its_end(days: int, verdict: Verdict, words: str) -> None:
    finding = judge_revocations(held(), BOARD.serial_number, NOW_S + days * DAY_S)
    assert (finding.check, finding.verdict) == ("crl", verdict)
    assert words in finding.found
    assert ("hadir-provision broker FLEET" in finding.remedy) == (verdict is not Verdict.OK)


def test_a_board_that_is_in_it_is_revoked() -> None:
    finding = judge_revocations(held(3, BOARD.serial_number), BOARD.serial_number, NOW_S)
    assert finding.verdict is Verdict.FAILURE
    assert "this board's certificate is revoked" in finding.found
    assert "hadir-provision replace FLEET DEVICE" in finding.remedy


def test_lists_are_no_larger_than_what_may_come_down() -> None:
    assert MAX_LISTS_BYTES <= MAX_INCOMING_BYTES
