"""What ends soon is told a month before, and what has ended as well."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge.errors import KeyFileError
from provisioning.cli import main
from provisioning.expiry import warnings
from provisioning.fleet import Fleet
from provisioning.handout import HANDED_OUT
from provisioning.revoke import revoke
from tests.test_backup import certified

DAY_S = 24 * 3600
NOW_S = int(time.time())


def words(fleet: Fleet, days: float) -> str:
    return "\n".join(warnings(fleet, NOW_S + int(days * DAY_S)))


def test_a_new_fleet_has_nothing_to_warn_of(fleet: Fleet) -> None:
    assert warnings(fleet, NOW_S) == ()


def test_the_revocation_list_is_warned_of_thirty_days_before_it_ends(fleet: Fleet) -> None:
    assert "crl.pem" not in words(fleet, 365 - 31)
    assert "crl.pem: ends on" in words(fleet, 365 - 29)
    assert "then the broker lets no board in; run `hadir-provision broker`" in words(fleet, 365 - 29)
    assert "crl.pem: ended on" in words(fleet, 366)
    fleet.write_revocation_list(NOW_S + 364 * DAY_S)
    assert "crl.pem" not in words(fleet, 366)


def test_the_list_that_boards_were_given_is_warned_of_as_long_as_there_are_boards(fleet: Fleet) -> None:
    """The broker's may be newer, and boards warn by theirs."""
    lists = (fleet.folder / "ca" / "crl.pem").read_bytes()
    (fleet.folder / "ca" / HANDED_OUT).write_bytes(lists)
    fleet.write_revocation_list(NOW_S + 364 * DAY_S)
    assert "that boards were given" not in words(fleet, 365 - 31)
    assert "the revocation list that boards were given: ends on" in words(fleet, 365 - 29)
    assert "run `hadir-provision broker`, or `hadir-provision serve`" in words(fleet, 366)
    for board in fleet.active_devices():
        revoke(fleet, board.device, now_s=NOW_S)
    assert "that boards were given" not in words(fleet, 365 - 29)


def test_provisionings_own_certificate_and_the_authority_are_warned_of(fleet: Fleet) -> None:
    assert "certificate of provision: ends" in words(fleet, 2 * 365 - 29)
    assert "certificate of issuing: ends" in words(fleet, 9 * 365 + 10)
    assert "rotate-fleet" in words(fleet, 9 * 365 + 10)


def test_a_board_that_did_not_rotate_is_named_once_and_a_revoked_one_never(fleet: Fleet) -> None:
    certified(fleet, "door-01")
    certified(fleet, "door-01")
    certified(fleet, "door-02")
    with fleet.change("revoke", "door-02", now_s=NOW_S) as change:
        change.revoke_device("door-02")
    said = words(fleet, 400)
    assert said.count("door-01") == 1
    assert "door-02" not in said


def test_a_list_that_cannot_be_read_is_named(fleet: Fleet) -> None:
    (fleet.folder / "ca" / "crl.pem").write_bytes(b"damaged")
    with pytest.raises(KeyFileError, match=r"crl\.pem: the revocation list cannot be read; run"):
        warnings(fleet, NOW_S)


def test_every_command_tells_on_standard_error(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.write_revocation_list(NOW_S - 350 * DAY_S)
    assert main(["list", str(fleet.folder)]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"warning: {Path(fleet.folder) / 'ca' / 'crl.pem'}: ends on")
    assert "warning" not in said.out


def test_a_clock_that_is_set_back_is_told(fleet: Fleet) -> None:
    assert "clock" not in words(fleet, 0)
    with fleet.change("label", "door-01", now_s=NOW_S + 3 * DAY_S):
        pass
    assert "this machine's clock is 72 hours behind the newest entry of the audit" in words(fleet, 0)
