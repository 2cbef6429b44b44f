"""A full disk: the archive gives way, then the reserve; only then is an attendance refused, and told of later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import EventsConfig
from edge.errors import DiskFull
from edge.records import Attack
from edge.trust.tokens import ATTACK, ATTENDANCE, TAMPER
from edge.uplink.outbox import Outbox
from edge.uplink.room import RENEW_BYTES, RESERVE_BYTES, RESERVE_FILE, Room
from edge.uplink.troubles import Trouble, Troubles
from edge.uplink.upkeep import SPACE_CHECK_S, Upkeep
from tests.chains import recorder_on, somebody
from tests.servers import event_of

DISK_BYTES = 12 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which can truly be full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder))
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system here")
    try:
        yield folder
    finally:
        subprocess.run(("umount", str(folder)), check=True)


def fill(folder: Path) -> Path:
    """Somebody else takes all that is left."""
    hog = folder / "hog"
    with hog.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            return hog


def recorded_until_refused(room: Room) -> int:
    count = 0
    while count < 20_000:
        try:
            room.attendance(somebody())
        except DiskFull:
            return count
        count += 1
    raise AssertionError("the disk is never full")


def test_on_a_full_disk_the_reserve_keeps_a_day_and_then_what_is_refused_is_told(small_disk: Path) -> None:
    troubles = Troubles()
    with Outbox(small_disk / "outbox.db") as outbox:
        recorder = recorder_on(outbox)
        recorder.start("1.0")
        room = Room(recorder, troubles)
        room.look()
        assert (small_disk / RESERVE_FILE).stat().st_size == RESERVE_BYTES
        assert troubles.names() == []
        hog = fill(small_disk)
        kept = recorded_until_refused(room)
        assert kept > 300
        assert not (small_disk / RESERVE_FILE).exists()
        assert outbox.head().seq == kept + 1, "what was refused took no number"
        with pytest.raises(DiskFull):
            room.attendance(somebody())
        room.look()
        assert troubles.names() == [Trouble.DISK_FULL]
        hog.unlink()
        room.look()
        assert troubles.names() == []
        assert room.refused == 2
        last = event_of(outbox.held(outbox.head().seq - 1, 1)[0].token)
        assert (last.type, last.payload["kind"]) == (TAMPER, "disk")
        assert last.payload["detail"] == "the disk was full: 2 attendance(s) refused"
        assert (small_disk / RESERVE_FILE).exists()
        assert not any(event.fault for event in outbox.held(0, 20_000))


def test_on_a_full_disk_what_was_delivered_makes_room(small_disk: Path) -> None:
    troubles = Troubles()
    with Outbox(small_disk / "outbox.db") as outbox:
        recorder = recorder_on(outbox)
        recorder.start("1.0")
        for _ in range(1500):
            recorder.attendance(somebody())
        outbox.acknowledge(range(1, 1502), at_real_ms=1)
        room = Room(recorder, troubles)
        room.look()
        fill(small_disk)
        assert recorded_until_refused(room) > 1_000
        assert outbox.held(0, 1)[0].seq > 500, "the oldest of the archive gave way"


def test_with_room_enough_nothing_is_given_up(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db") as outbox:
        recorder = recorder_on(outbox)
        recorder.start("1.0")
        room = Room(recorder, Troubles())
        room.look()
        room.attendance(somebody())
        room.look()
        assert [event_of(event.token).type for event in outbox.held(1, 9)] == [ATTENDANCE]
        assert (tmp_path / RESERVE_FILE).exists()


def filled(outbox: Outbox, events: int, acknowledged: int) -> None:
    recorder = recorder_on(outbox)
    recorder.start("1.0")
    for _ in range(events - 1):
        recorder.attendance(somebody())
    outbox.acknowledge(range(1, acknowledged + 1), at_real_ms=10**13)


def limited(outbox: Outbox, troubles: Troubles, limit_bytes: int) -> Upkeep:
    upkeep = Upkeep(outbox, EventsConfig("receipt"), troubles, lambda: 10**13)
    upkeep._limit_bytes = limit_bytes
    return upkeep


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


def test_it_warns_long_before_the_limit(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    filled(outbox, 300, acknowledged=0)
    troubles, used = Troubles(), outbox.space().used_bytes
    limited(outbox, troubles, 3 * used).look(0)
    assert (troubles.names(), caplog.text) == ([], "")
    upkeep = limited(outbox, troubles, used + used // 2)
    for now_s in (0, SPACE_CHECK_S, 2 * SPACE_CHECK_S):
        upkeep.look(now_s)
    assert troubles.names() == [Trouble.DISK_LOW]
    assert len(caplog.records) == 1, "once an hour is enough"
    assert "300 events wait, 0 are in the archive" in caplog.text


def test_at_the_limit_the_archive_gives_way_and_what_waits_never(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    filled(outbox, 1200, acknowledged=900)
    troubles = Troubles()
    limited(outbox, troubles, 3 * outbox.space().used_bytes // 4).look(0)
    assert outbox.space().archived == 400
    assert Trouble.DISK_LIMIT not in troubles.names()
    limited(outbox, troubles, 1).look(0)
    assert (outbox.space().archived, outbox.space().waiting) == (0, 300)
    assert Trouble.DISK_LIMIT in troubles.names()
    assert "300 events that nobody has acknowledged; they are kept" in caplog.text


def test_little_room_on_the_disk_is_told_whoever_took_it(small_disk: Path) -> None:
    troubles = Troubles()
    assert RENEW_BYTES < DISK_BYTES
    with Outbox(small_disk / "outbox.db") as outbox:
        Upkeep(outbox, EventsConfig("receipt"), troubles, lambda: 10**13).look(0)
    assert troubles.names() == [Trouble.DISK_LOW]


def test_an_attack_is_recorded_and_on_a_full_disk_costs_no_reserve(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Outbox(small_disk / "outbox.db") as outbox:
        recorder = recorder_on(outbox)
        recorder.start("1.0")
        room = Room(recorder, Troubles())
        room.look()
        attack = Attack(track=1, frames=7, seen_mono_ms=9_000)
        room.attack(attack)
        assert event_of(outbox.held(1, 1)[0].token).type == ATTACK
        fill(small_disk)
        before = outbox.head().seq
        while outbox.head().seq == before:
            before += 1
            room.attack(attack)
        assert (small_disk / RESERVE_FILE).exists()
    assert "an attack was not recorded" in caplog.text


def test_upkeep_on_a_full_disk_ends_nothing(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(outbox, 3, acknowledged=2)

    def full(acked_before_real_ms: int) -> int:
        raise DiskFull("no room")

    monkeypatch.setattr(outbox, "prune_archive", full)
    Upkeep(outbox, EventsConfig("receipt"), Troubles(), lambda: 10**13).look(0)
    assert outbox.space().archived == 2
