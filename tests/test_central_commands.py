"""The commands that ask the database and put a person's word into it, as their users run them."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, update

from central.cli import main
from central.query import day, who_was_in
from central.store import tables
from central.store.database import reading, writing
from demo.central import write_config
from edge.records import Direction
from edge.trust.jws import SigningKey
from provisioning.fleet import KEYS_FILE, Fleet
from tests.office import NOW_MS, UNSYNCED, Chain, Office, message, register
from tests.test_central import altered

Ask = Callable[..., tuple[int, str, str]]
"""Runs a command with these arguments: exit code, output, and what it said beside it."""


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def office(database: Engine, chain: Chain, tmp_path: Path) -> Office:
    return Office(database, register(tmp_path / "devices.jwks", chain))


@pytest.fixture
def config(fleet: Fleet, office: Office, database_url: str, tmp_path: Path) -> Path:
    path = write_config(
        tmp_path,
        "mqtt://127.0.0.1:9",
        devices=office.devices,
        keys=fleet.folder / KEYS_FILE,
        root_thumbprint=fleet.root_thumbprint,
        receipt_key=SigningKey.generate(),
        database_url=database_url,
    )
    path.write_text(path.read_text() + '\n[report]\ntimezone = "Asia/Jakarta"\n')
    return path


@pytest.fixture
def ask(config: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(command: str, *options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([command, "--config", str(config), *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return asked


def objects(ask: Ask, command: str, *options: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in ask(command, "--format", "json", *options)[1].splitlines()]


# events


def test_events_are_told_with_how_they_are_believed_and_how_good_their_time_is(
    ask: Ask, office: Office, chain: Chain
) -> None:
    office.take(chain.start(), chain.attend())
    first, second = objects(ask, "events")
    assert (first["event"], second["event"], second["person"], second["direction"]) == (
        "start",
        "attendance",
        "E1042",
        "in",
    )
    assert (second["at"], second["quality"], second["belief"]) == (
        "2025-11-24 23:00:00.000+07:00",
        "synced",
        "counted",
    )
    assert (second["seq"], second["hash"]) == (2, chain.tokens[1].hash)


def test_a_day_is_one_of_the_sites_time_zone(ask: Ask, office: Office, chain: Chain) -> None:
    office.take(chain.start())
    chain.later(3700)
    office.now_s += 3700
    office.take(chain.attend())  # 00:01 of the 25th in Jakarta, the 24th still in UTC
    assert [event["seq"] for event in objects(ask, "events", "--day", "2025-11-24")] == [1]
    assert [event["seq"] for event in objects(ask, "events", "--day", "2025-11-25")] == [2]


def test_a_day_in_which_clocks_change_has_its_own_length() -> None:
    span = day(datetime(2025, 10, 26, tzinfo=UTC).date(), ZoneInfo("Europe/Berlin"))
    assert (span.end_ms - span.begin_ms) // 3_600_000 == 25


def test_one_board_alone(ask: Ask, office: Office, chain: Chain) -> None:
    other = Chain("door-02", chain="B" * 22)
    register(office.devices, chain, other)
    office.look_around()
    office.take(chain.start(), other.start())
    assert [event["device"] for event in objects(ask, "events", "--device", "door-02")] == ["door-02"]


def test_a_table_is_for_people_and_csv_for_spreadsheets(ask: Ask, office: Office, chain: Chain) -> None:
    office.take(chain.start(), chain.attend())
    lines = ask("events")[1].splitlines()
    assert lines[0].split()[:4] == ["at", "quality", "err_ms", "device"]
    assert "E1042" in lines[2]
    assert "hash" not in lines[0]
    raw = ask("events", "--format", "csv")[1]
    rows = list(csv.DictReader(io.StringIO(raw)))
    assert [row["person"] for row in rows] == ["", "E1042"]
    assert rows[1]["hash"] == chain.tokens[1].hash


def test_asking_makes_no_database_where_none_is(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: a mistyped place was an empty database from then on, of which all was well."""
    register(tmp_path / "devices.jwks", Chain())
    config = write_config(
        tmp_path,
        "mqtt://127.0.0.1:9",
        devices=tmp_path / "devices.jwks",
        keys=fleet.folder / KEYS_FILE,
        root_thumbprint=fleet.root_thumbprint,
        receipt_key=SigningKey.generate(),
        database_url="sqlite:///mistyped.db",
    )
    assert main(["verify", "--config", str(config)]) == 69
    assert "mistyped.db: there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "mistyped.db").exists()
    assert main(["migrate", "--config", str(config)]) == 0
    assert main(["verify", "--config", str(config)]) == 0


def test_nothing_stored_prints_nothing(ask: Ask) -> None:
    for form in ("table", "csv", "json"):
        assert ask("events", "--format", form) == (0, "", "")


def test_what_no_clock_dates_is_listed_with_its_bounds(ask: Ask, office: Office, chain: Chain) -> None:
    chain.clock = UNSYNCED
    office.take(chain.start(), chain.attend())
    found = objects(ask, "events", "--undated")
    assert [(event["seq"], event["at"], event["quality"]) for event in found] == [
        (1, None, "unknown"),
        (2, None, "unknown"),
    ]
    assert "latest" in ask("events", "--undated")[1].splitlines()[0]


def test_events_are_followed_as_they_are_stored(office: Office, chain: Chain, config: Path) -> None:
    """A process of its own, which is told of nothing: it looks."""
    command = [
        sys.executable,
        "-m",
        "central.cli",
        "events",
        "--config",
        str(config),
        "--follow",
        "--format",
        "json",
    ]
    office.take(chain.start())
    office.now_s = datetime.now(UTC).timestamp() + 5
    with subprocess.Popen([*command, "--day", "2025-11-24"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["seq"] == 1
            office.take(chain.attend(), chain.attend())
            assert [json.loads(process.stdout.readline())["seq"] for _ in range(2)] == [2, 3]
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()


# who


def test_who_was_in_gives_first_in_and_last_out(ask: Ask, office: Office, chain: Chain) -> None:
    office.take(chain.start())
    chain.real_ms -= 12 * 3_600_000  # 11:00 in Jakarta
    for person, direction in (
        ("E1", "in"),
        ("E2", "in"),
        ("E1", "out"),
        ("E1", "in"),
        ("E1", "out"),
        ("E3", "both"),
    ):
        chain.later(60)
        office.take(chain.attend(person, Direction(direction)))
    assert objects(ask, "who", "--day", "2025-11-24") == [
        {
            "person": "E1",
            "first_in": "2025-11-24 11:01:00.000+07:00",
            "last_out": "2025-11-24 11:05:00.000+07:00",
        },
        {"person": "E2", "first_in": "2025-11-24 11:02:00.000+07:00", "last_out": None},
        {
            "person": "E3",
            "first_in": "2025-11-24 11:06:00.000+07:00",
            "last_out": "2025-11-24 11:06:00.000+07:00",
        },
    ]
    assert ask("who", "--day", "2025-11-23")[1] == ""


def test_what_waits_or_is_held_or_has_no_time_is_nobodys_presence(
    ask: Ask, office: Office, chain: Chain
) -> None:
    office.take(chain.start())
    clone = chain.fork()
    office.take(chain.attend("E1"), clone.attend("E2"))
    assert ask("who", "--day", "2025-11-24")[1] == ""
    other = Chain(chain="B" * 22, key=chain.key)
    other.start()
    office.take(other.attend("E3"))
    assert ask("who", "--day", "2025-11-24")[1] == "", "its start has not come"
    office.now_s = NOW_MS / 1000
    third = Chain(chain="C" * 22, key=chain.key, clock=UNSYNCED)
    office.take(third.start(), third.attend("E4"))
    _, out, err = ask("who", "--day", "2025-11-24")
    assert (out, "1 attendances that arrived that day have no time" in err) == ("", True)


# verify, reconcile, alerts


def test_verify_ends_with_0_where_all_is_whole_and_with_1_where_not(
    ask: Ask, office: Office, chain: Chain
) -> None:
    office.take(chain.start(), chain.attend())
    code, out, _ = ask("verify", "--format", "json")
    assert (code, json.loads(out)["whole"], json.loads(out)["events"]) == (0, True, 2)
    with writing(office.engine) as connection:
        connection.execute(update(tables.event).where(tables.event.c.seq == 2).values(person="E9"))
    code, out, _ = ask("verify", "--format", "json")
    assert (code, json.loads(out)["problems"]) == (1, "seq 2: person is not what the token says")


@pytest.mark.parametrize("command", ["verify", "reconcile"])
def test_of_a_board_that_is_not_there_nothing_is_proven(
    ask: Ask, office: Office, chain: Chain, command: str
) -> None:
    """Regression: a mistyped name was whole, with exit code 0."""
    office.take(chain.start())
    assert ask(command, "--device", "door-01")[0] == 0
    code, out, err = ask(command, "--device", "door-10")
    assert (code, out) == (65, "")
    assert "device door-10: nothing of it is stored" in err


def test_verify_knows_the_keys_that_chains_have_handed_over(ask: Ask, office: Office, chain: Chain) -> None:
    office.take(chain.start(), chain.hand_over(SigningKey.generate()), chain.attend())
    assert ask("verify")[0] == 0


def test_reconcile_says_from_where_each_board_must_send_again(ask: Ask, office: Office, chain: Chain) -> None:
    office.take(chain.start())
    assert ask("reconcile") == (0, "", "")
    chain.attend()
    chain.attend()
    office.take(chain.status())
    code, out, err = ask("reconcile", "--format", "json")
    assert code == 1
    found = json.loads(out)
    assert (found["device"], found["missing"], found["ranges"], found["resend_from"]) == (
        "door-01",
        2,
        "2-3",
        2,
    )
    assert err == f"door-01, chain {chain.chain}: on the board, `hadir-edge resend --from 2`\n"


def test_alerts_are_listed_until_they_are_closed(ask: Ask, office: Office, chain: Chain) -> None:
    office.take(chain.start(), chain.tamper("covered"))
    (alert,) = objects(ask, "alerts")
    assert (alert["kind"], alert["device"], alert["seq"], alert["count"]) == ("tamper", "door-01", 2, 1)
    assert str(alert["first_ms"]).endswith("+07:00")
    words = ("--who", "Ada", "--why", "went there")
    assert ask("close", "--kind", "tamper", "--device", "door-01", *words)[1] == "closed: 1\n"
    assert objects(ask, "alerts") == []
    (alert,) = objects(ask, "alerts", "--all")
    assert alert["closed_why"] == "Ada: went there"
    assert ask("close", "--kind", "tamper", "--device", "door-01", *words)[0] == os.EX_DATAERR


# a person's word


def test_release_lets_quarantined_events_count_and_says_what_it_did(
    ask: Ask, office: Office, chain: Chain
) -> None:
    office.take(chain.start())
    register(office.devices, chain, revoked_at=1)
    office.look_around()
    chain.attend("E8")
    office.take(chain.attend(), chain.message(2), message(chain.device, altered(chain.tokens[2].compact)))
    code, out, _ = ask(
        "release",
        "--device",
        "door-01",
        f"--chain={chain.chain}",
        "--seq",
        "2-",
        "--who",
        "Ada",
        "--why",
        "checked",
    )
    assert (code, out.splitlines()[0]) == (
        0,
        "released: 2 out of quarantine; what is held in that range counts from now on",
    )
    assert out.splitlines()[1].startswith("still not believed: seq 3: bad-signature")
    assert [event["belief"] for event in objects(ask, "events")] == ["counted"] * 3


def test_a_date_puts_an_event_into_its_day(ask: Ask, office: Office, chain: Chain) -> None:
    chain.clock = UNSYNCED
    office.take(chain.start(), chain.attend("E5"))
    place = ("--device", "door-01", f"--chain={chain.chain}", "--seq", "1-2")
    words = ("--who", "Ada", "--why", "the guard's book")
    assert ask("date", *place, "--at", "2025-11-20T08:00:00+07:00", *words)[:2] == (0, "dated: 2\n")
    (present,) = objects(ask, "who", "--day", "2025-11-20")
    assert (present["person"], present["first_in"]) == ("E5", "2025-11-20 08:00:00.000+07:00")
    assert {event["quality"] for event in objects(ask, "events")} == {"attested"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["events", "--day", "yesterday"], "'yesterday' must be a day, YYYY-MM-DD"),
        (["who", "--day", "9999-12-31"], "'9999-12-31' must be a day from 1970 to 2999"),
        (["events", "--device", "../x"], "'../x' is no device id"),
        (["events", "--format", "xml"], "invalid choice"),
        (["release", "--seq", "0"], "'0' must be N, N-M or N-"),
        (["release", "--seq", "5-3"], "'5-3' ends before it begins"),
        (["release", "--chain", "short"], "'short' is no chain"),
        (["date", "--at", "2025-11-20T08:00:00"], "has no offset"),
        (["date", "--at", "noon"], "'noon' must be a moment"),
    ],
)
def test_what_cannot_be_meant_is_said_by_the_command_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_migrate_says_where_the_database_is(ask: Ask, database: Engine) -> None:
    code, out, _ = ask("migrate")
    assert (code, out.endswith(": schema 0002\n")) == (0, True)


def test_what_is_held_of_one_of_two_chains_does_not_hold_the_other(office: Office, chain: Chain) -> None:
    office.take(chain.start())
    clone = chain.fork()
    office.take(chain.attend("E1"), clone.attend("E2"))
    other = Chain(chain="B" * 22, key=chain.key)
    office.take(other.start(), other.attend("E3"))
    span = day(datetime(2025, 11, 24, tzinfo=UTC).date(), ZoneInfo("UTC"))
    with reading(office.engine) as connection:
        assert [found.person for found in who_was_in(connection, span)] == ["E3"]
