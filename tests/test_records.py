"""What the registry tells an administrator: lists, one board, names, and who did what."""

from __future__ import annotations

import json
import sqlite3

import pytest

from demo.boards import add_board
from edge.errors import InputError, KeyFileError
from edge.records import Direction
from provisioning.cli import main
from provisioning.fleet import Fleet

NOW_S = 1_764_000_000


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_every_board_and_consumer_has_a_line(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    with fleet.change("test", "x", now_s=NOW_S) as change:
        change.add_device("door-03", "lab", Direction.OUT, label="Back door")
        change.add_consumer("central-1")
        change.revoke_device("door-02")
    lines = said(capsys, "list", str(fleet.folder)).splitlines()
    assert [line.split()[0] for line in lines] == ["door-01", "door-02", "door-03", "central-1"]
    assert "active" in lines[0]
    assert "revoked 2025-11-24" in lines[1]
    assert "waits for its claim" in lines[2]
    assert lines[2].endswith("Back door")


def test_one_board_is_shown_with_all_that_is_known(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    (key,) = fleet.registry.device_keys("door-01")
    with fleet.change("test", "x", now_s=NOW_S) as change:
        change.bind_key(key.kid, chain="c" * 22, first_seq=1, protection="host")
    text = said(capsys, "show", str(fleet.folder), "door-01")
    assert f"key          {key.kid}: chain {'c' * 22} from 1, protected by host" in text
    assert "site         hq, direction in" in text


def test_a_board_that_is_not_there_is_named(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["show"], ["label"]):
        arguments = [*command, str(fleet.folder), "door-99", *(["x"] if command == ["label"] else [])]
        assert main(arguments) == InputError.exit_code
        assert "door-99" in capsys.readouterr().err


def test_a_label_changes_and_the_id_does_not(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "label", str(fleet.folder), "door-01", "Main entrance")
    assert said(capsys, "list", str(fleet.folder)).splitlines()[0].endswith("Main entrance")
    said(capsys, "label", str(fleet.folder), "door-01", "")
    assert fleet.registry.device("door-01").label == ""


def test_the_audit_tells_everything_and_its_head(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "audit", str(fleet.folder))
    assert [line.split("  ")[3] for line in text.splitlines()[:-1]] == [
        "init",
        "crl",
        "device-add",
        "device-add",
    ]
    entries = [json.loads(line) for line in said(capsys, "audit", str(fleet.folder), "--json").splitlines()]
    assert text.splitlines()[-1].startswith(f"head {entries[-1]['hash']}: note it elsewhere")


def test_a_head_that_was_noted_is_found_again_unless_entries_were_cut_off(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, last = fleet.registry.audit()
    add_board(fleet, "door-03")
    assert main(["audit", str(fleet.folder), "--head", last.hash]) == 0
    *_, newest = fleet.registry.audit()
    with sqlite3.connect(fleet.folder / "registry.db") as raw:
        raw.execute("DROP TRIGGER audit_is_not_deleted")
        raw.execute("DELETE FROM audit WHERE n = ?", (newest.n,))
    assert main(["audit", str(fleet.folder)]) == 0, "a chain that was cut short is a chain"
    assert main(["audit", str(fleet.folder), "--head", newest.hash]) == InputError.exit_code
    assert "entries were cut off" in capsys.readouterr().err


def test_an_audit_that_was_edited_is_an_error(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(fleet.folder / "registry.db") as raw:
        raw.executescript("DROP TRIGGER audit_is_not_changed; UPDATE audit SET who = 'nobody' WHERE n = 2")
    assert main(["audit", str(fleet.folder)]) == KeyFileError.exit_code
    assert "broken at entry 2" in capsys.readouterr().err
