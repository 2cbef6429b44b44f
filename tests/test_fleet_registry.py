"""The registry: changes are whole and audited, counters only rise, nothing is given out twice."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import InputError, KeyFileError, RetryLater
from edge.records import Direction
from edge.trust.admission import Purpose
from edge.trust.jws import SigningKey
from provisioning.authority import Role
from provisioning.entries import ClaimState
from provisioning.registry import MAX_LABEL_CHARACTERS, Change, Registry, create_registry
from provisioning.schema import SCHEMA, SCHEMA_VERSION
from tests.test_authority import AUTHORITY, NOW, PUBLIC

NOW_S = 1_764_000_000


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return create_registry(tmp_path / "registry.db")


def change(registry: Registry, action: str = "test", subject: str = "x") -> AbstractContextManager[Change]:
    return registry.change(action, subject, who="tester", now_s=NOW_S)


def add_door(registry: Registry, device: str = "door-01") -> str:
    key = SigningKey.generate()
    with change(registry, "device-add", device) as made:
        made.add_device(device, "hq", Direction.IN, settings={"camera": "v4l2"})
        made.add_key(key.kid, device, key.public_jwk)
        made.add_certificate(AUTHORITY.issue_device(PUBLIC, device, NOW), Role.DEVICE, device)
    return key.kid


def test_a_board_with_its_key_and_certificate_is_read_back(registry: Registry) -> None:
    kid = add_door(registry)
    device = registry.device("door-01")
    assert (device.site, device.direction, device.settings) == ("hq", Direction.IN, {"camera": "v4l2"})
    (key,) = registry.device_keys("door-01")
    assert (key.kid, key.chain, key.revoked_s) == (kid, None, None)
    (issued,) = registry.certificates("door-01")
    assert (issued.role, issued.name) == (Role.DEVICE, "door-01")
    assert issued.not_after_s > NOW_S


def test_what_failed_in_the_middle_leaves_nothing_and_no_entry(registry: Registry) -> None:
    def fail(made: Change) -> None:
        made.add_device("door-01", "hq", Direction.IN)
        made.next("keys-version")
        made.add_device("door-01", "hq", Direction.IN)

    with pytest.raises(InputError), change(registry) as made:
        fail(made)
    assert registry.devices() == ()
    assert registry.counter("keys-version") == 0
    assert list(registry.audit()) == []


def test_a_key_belongs_to_one_board_once(registry: Registry) -> None:
    """A thief who has his own board's key registered for another door would be two doors."""
    add_door(registry)
    (key,) = registry.device_keys()
    add_door(registry, "door-02")
    with pytest.raises(InputError, match="is registered already"), change(registry) as made:
        made.add_key(key.kid, "door-02", key.jwk)


def test_a_serial_number_is_given_out_once(registry: Registry) -> None:
    certificate = AUTHORITY.issue_device(PUBLIC, "door-01", NOW)
    with change(registry) as made:
        made.add_certificate(certificate, Role.DEVICE, "door-01")
    with pytest.raises(InputError, match="given out before"), change(registry) as made:
        made.add_certificate(certificate, Role.DEVICE, "door-01")


def test_revoking_a_board_revokes_all_that_was_its(registry: Registry) -> None:
    add_door(registry)
    with change(registry) as made:
        made.add_claim("C1", "door-01", Purpose.RENEW, secret=b"s", password="p", expires_s=NOW_S + 1)
    with change(registry) as made:
        made.revoke_device("door-01")
    assert registry.device("door-01").revoked_s == NOW_S
    assert [key.revoked_s for key in registry.device_keys()] == [NOW_S]
    assert [issued.revoked_s for issued in registry.certificates()] == [NOW_S]
    assert [claim.state for claim in registry.claims()] == [ClaimState.CANCELLED]
    with change(registry) as made:
        made.reinstate_device("door-01")
    assert registry.device("door-01").revoked_s is None
    assert [key.revoked_s for key in registry.device_keys()] == [NOW_S], "the old key stays revoked"


def test_one_key_or_certificate_is_revoked_alone_and_keeps_its_first_time(registry: Registry) -> None:
    kid = add_door(registry)
    (issued,) = registry.certificates()
    with change(registry) as made:
        made.revoke_key(kid)
        made.revoke_certificate(issued.serial)
    with registry.change("again", "x", who="tester", now_s=NOW_S + 9) as made:
        made.revoke_key(kid)
        made.revoke_certificate(issued.serial)
    assert registry.device_keys()[0].revoked_s == NOW_S
    assert registry.certificates()[0].revoked_s == NOW_S
    assert registry.device("door-01").revoked_s is None


def test_a_key_is_bound_to_its_part_of_a_chain(registry: Registry) -> None:
    kid = add_door(registry)
    with change(registry) as made:
        made.bind_key(kid, chain="c" * 22, first_seq=1, protection="file")
        made.bind_key(kid, last_seq=8)
    (key,) = registry.device_keys()
    assert (key.chain, key.first_seq, key.last_seq, key.protection) == ("c" * 22, 1, 8, "file")


def test_a_claim_moves_on_and_keeps_what_it_has(registry: Registry) -> None:
    add_door(registry)
    with change(registry) as made:
        made.add_claim("C1", "door-01", Purpose.FIRST, secret=b"s", password="p", expires_s=NOW_S + 1)
        made.update_claim("C1", ClaimState.PENDING, request="token", request_kid="kid")
        made.update_claim("C1", ClaimState.ISSUED, response=b"sealed")
    claim = registry.claim("C1")
    assert claim is not None
    assert (claim.state, claim.request, claim.request_kid, claim.response) == (
        ClaimState.ISSUED,
        "token",
        "kid",
        b"sealed",
    )
    assert registry.claim("C2") is None
    assert registry.claims("door-02") == ()


@pytest.mark.parametrize(
    "act",
    [
        lambda made: made.label("door-99", "x"),
        lambda made: made.bind_key("nobody", chain="x"),
        lambda made: made.revoke_key("nobody"),
        lambda made: made.revoke_certificate(5),
        lambda made: made.revoke_consumer("central-9"),
        lambda made: made.update_claim("C9", ClaimState.USED),
    ],
)
def test_what_is_not_there_cannot_be_changed(registry: Registry, act: Callable[[Change], None]) -> None:
    with pytest.raises(InputError, match="not in this fleet"), change(registry) as made:
        act(made)


def test_a_board_that_is_not_there_is_named(registry: Registry) -> None:
    with pytest.raises(InputError, match="device 'door-99': not in this fleet"):
        registry.device("door-99")


@pytest.mark.parametrize("label", ["a\nb", "\x1b[31mred", "x" * (MAX_LABEL_CHARACTERS + 1)])
def test_a_label_that_cannot_be_shown_in_a_line_is_refused(registry: Registry, label: str) -> None:
    add_door(registry)
    with pytest.raises(InputError, match="printable"), change(registry) as made:
        made.label("door-01", label)
    with change(registry) as made:
        made.label("door-01", "Haupteingang, Süd")
    assert registry.device("door-01").label == "Haupteingang, Süd"


@given(st.lists(st.one_of(st.none(), st.integers(0, 10**6)), max_size=20))
def test_a_counter_only_rises_whatever_is_asked(asked: list[int | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        counters_rise(create_registry(Path(folder) / "registry.db"), asked)


def counters_rise(registry: Registry, asked: list[int | None]) -> None:
    seen = 0
    for value in asked:
        with change(registry) as made:
            now = made.next("n") if value is None else made.at_least("n", value)
        assert now >= seen + (value is None)
        assert registry.counter("n") == now
        seen = now
    registry.close()


def test_the_database_itself_refuses_to_lower_a_counter(registry: Registry, tmp_path: Path) -> None:
    with change(registry) as made:
        made.at_least("n", 7)
    raw = sqlite3.connect(tmp_path / "registry.db")
    with pytest.raises(sqlite3.IntegrityError, match="only rises"):
        raw.execute("UPDATE counters SET value = 6")
    raw.close()


def test_settings_are_remembered(registry: Registry) -> None:
    assert registry.setting("broker") is None
    with change(registry) as made:
        made.set("broker", {"host": "a"})
        made.set("broker", {"host": "b", "port": 8883})
    assert registry.setting("broker") == {"host": "b", "port": 8883}


def test_consumers_come_and_go(registry: Registry) -> None:
    with change(registry) as made:
        made.add_consumer("central-1")
        made.add_certificate(AUTHORITY.issue_consumer(PUBLIC, "central-1", NOW), Role.CONSUMER, "central-1")
    with pytest.raises(InputError, match="in this fleet already"), change(registry) as made:
        made.add_consumer("central-1")
    with change(registry) as made:
        made.revoke_consumer("central-1")
    assert [consumer.revoked_s for consumer in registry.consumers()] == [NOW_S]
    assert [issued.revoked_s for issued in registry.certificates("central-1")] == [NOW_S]


def test_two_programs_change_it_one_after_the_other(tmp_path: Path) -> None:
    create_registry(tmp_path / "registry.db").close()

    def count(times: int = 25) -> None:
        registry = Registry(tmp_path / "registry.db")
        for _ in range(times):
            with change(registry) as made:
                made.next("n")
        registry.close()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registry = Registry(tmp_path / "registry.db")
    assert registry.counter("n") == 100
    assert len(list(registry.audit())) == 100


def test_the_audit_tells_who_did_what_in_order(registry: Registry) -> None:
    add_door(registry)
    with registry.change("label", "door-01", who="ana@desk", now_s=NOW_S + 5, label="x") as made:
        made.detail["more"] = 1
    first, second = registry.audit()
    assert (first.n, first.action, first.subject, first.who) == (1, "device-add", "door-01", "tester")
    assert (second.who, second.at_s, second.detail) == ("ana@desk", NOW_S + 5, {"label": "x", "more": 1})


def test_the_audit_refuses_to_be_changed(registry: Registry, tmp_path: Path) -> None:
    add_door(registry)
    with sqlite3.connect(tmp_path / "registry.db") as raw:
        for statement in ("DELETE FROM audit", "UPDATE audit SET who = 'nobody'"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                raw.execute(statement)


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE audit SET who = 'somebody else' WHERE n = 2",
        "UPDATE audit SET at_s = at_s - 1 WHERE n = 2",
        "DELETE FROM audit WHERE n = 2",
        "UPDATE audit SET n = 9 WHERE n = 2",
        "UPDATE audit SET detail = '{}' WHERE n = 2",
    ],
)
def test_an_audit_that_was_edited_in_the_file_is_found_out(
    registry: Registry, tmp_path: Path, forgery: str
) -> None:
    for number in range(3):
        with registry.change("act", str(number), who="tester", now_s=NOW_S, number=number):
            pass
    with sqlite3.connect(tmp_path / "registry.db") as raw:
        raw.executescript(f"DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted; {forgery}")
    with pytest.raises(KeyFileError, match="the audit is broken at entry 2"):
        list(registry.audit())


def test_a_registry_of_a_later_program_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.close()
    with sqlite3.connect(tmp_path / "registry.db") as raw:
        raw.execute("PRAGMA user_version = 99")
    with pytest.raises(KeyFileError, match="made by a later version"):
        Registry(tmp_path / "registry.db")


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be looked at" * 10, None])
def test_a_registry_that_is_damaged_or_gone_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "registry.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyFileError, match=r"registry\.db: the registry cannot be used .* restore"):
        Registry(path)


def test_a_copy_is_whole(registry: Registry, tmp_path: Path) -> None:
    add_door(registry)
    registry.back_up(tmp_path / "copy.db")
    assert Registry(tmp_path / "copy.db").devices() == registry.devices()


def test_a_registry_that_another_command_holds_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioning.schema.BUSY_TIMEOUT_S", 0.05)
    registry = create_registry(tmp_path / "registry.db")
    other = sqlite3.connect(tmp_path / "registry.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryLater, match=r"registry\.db: cannot be written now .* nothing was changed"):
        add_door(registry)
    other.execute("ROLLBACK")
    other.close()
    add_door(registry)


@pytest.mark.parametrize("how", ["moved", "exchanged"])
def test_nothing_goes_into_a_registry_that_lies_there_no_more(
    registry: Registry, tmp_path: Path, how: str
) -> None:
    """Regression: `serve` went on to let boards in, into a file that a restored fleet knew nothing of."""
    (path,) = tmp_path.glob("*.db")
    path.rename(tmp_path / "before")
    if how == "exchanged":
        create_registry(path).close()
    with (
        pytest.raises(KeyFileError, match=r"moved or restored while this ran; nothing was changed"),
        change(registry),
    ):
        pass
    (tmp_path / "before").replace(path)
    with change(registry):
        pass


def test_a_full_disk_changes_nothing_and_is_told(registry: Registry, tmp_path: Path) -> None:
    """SQLite's own limit on pages: to it that is a full disk."""
    (pages,) = registry._connection.execute("PRAGMA page_count").fetchone()
    registry._connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(200):
            add_door(registry, f"door-{number:03}")

    with pytest.raises(RetryLater, match="disk is full"):
        fill()
    registry._connection.execute("PRAGMA max_page_count = 1000000")
    doors = len(registry.devices())
    assert len(registry.device_keys()) == doors == len(list(registry.audit()))
    add_door(registry, "door-999")


def test_a_registry_with_a_damaged_page_is_refused_when_it_is_opened(
    registry: Registry, tmp_path: Path
) -> None:
    for number in range(50):
        add_door(registry, f"door-{number:02}")
    registry.close()
    path = tmp_path / "registry.db"
    content = bytearray(path.read_bytes())
    content[8192:16384] = b"\xff" * 8192
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=r"registry\.db: the registry cannot be used"):
        Registry(path)


def test_a_registry_of_an_earlier_program_is_brought_up_to_date_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with sqlite3.connect(path) as raw:
        raw.executescript(f"{SCHEMA[0]}; PRAGMA user_version = 1;")
        raw.execute("INSERT INTO counters VALUES ('keys-version', 7)")
        raw.execute("INSERT INTO consumers VALUES ('central-1', 5, NULL)")
    raw.close()
    registry = Registry(path)
    assert registry.counter("keys-version") == 7
    assert [consumer.name for consumer in registry.consumers()] == ["central-1"]
    add_door(registry)
    assert [device.device for device in registry.devices()] == ["door-01"]
    registry.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    raw.close()
