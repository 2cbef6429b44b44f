"""`hadir-edge check` finds what is wrong, says what to do, is done within ten seconds and changes nothing."""

from __future__ import annotations

import grp
import io
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.__main__ import main
from edge.assembly import Eyes
from edge.board.clock import RELEASED_REAL_MS, Clock, KernelClock
from edge.board.health import Memory, Space, Temperature, Throttling
from edge.check import checks, judge, look
from edge.check.checks import (
    CHECKS,
    OPTIONAL,
    Beside,
    check,
    exit_code,
    guarded,
    is_recording,
    judge_broker,
    login_for,
)
from edge.check.findings import Finding, Verdict, failed, ok, warning, worst
from edge.check.show import as_json, as_text, wants_colour
from edge.check.user import become_the_daemons_user
from edge.config import BrokerConfig, CameraConfig, Config, QualityConfig, load_config
from edge.errors import CameraUnavailable, ConfigError, GalleryError, HadirError
from edge.records import ClockState, NoAttendance, TimeReading, Vector
from edge.uplink.glimpse import Glimpse
from edge.uplink.outbox import Outbox
from provisioning.fleet import Fleet
from tests.certificates import Authority, Pair, tls_door
from tests.conftest import People
from tests.doors import daemon, save_clip, set_up_board, templates, walk
from tests.peers import ScriptedBroker

DAY_MS = 24 * 3600 * 1000
NOW_MS = RELEASED_REAL_MS + 100 * DAY_MS
OK, WARNING, FAILURE = Verdict.OK, Verdict.WARNING, Verdict.FAILURE


def good_clock() -> Clock:
    return Clock(kernel=lambda: KernelClock(synchronised=True, max_error_ms=3), boot="test")


def by_name(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    assert len({finding.check for finding in findings}) == len(findings)
    return {finding.check: finding for finding in findings}


@pytest.fixture(scope="module")
def enrolled(eyes: Eyes, people: People) -> dict[str, Vector]:
    return templates(eyes, {"P44": people["P44"][:2]})


@pytest.fixture(scope="module")
def clip(eyes: Eyes, people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clips") / "door.avi", walk(eyes, people["P44"][2]))


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        yield broker


@pytest.fixture
def config(fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], clip: Path, broker: ScriptedBroker) -> Path:
    return set_up_board(fleet, eyes, enrolled, broker_url=broker.url, clip=clip)


def edit(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def files_under(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_good_board_is_good_in_every_line(config: Path) -> None:
    found = by_name(check(config, good_clock()))
    assert list(found) == [name for name in CHECKS if name not in OPTIONAL]
    # Of the machine that runs the tests; and liveness, which would refuse this board's rendered walk-pasts.
    machine = {"daemon", "disk", "memory", "temperature", "power", "liveness"}
    assert {name: f for name, f in found.items() if f.verdict is not OK and name not in machine} == {}
    assert "off: a photograph passes" in found["liveness"].found
    assert "a face" in found["camera"].found
    assert "enrolled: 1" in found["gallery"].found


def with_liveness(config: Path, settings: str) -> Path:
    edit(config, "enabled = false", settings)
    return config


def test_liveness_is_on_where_its_models_are(config: Path, live_models: Path) -> None:
    edit(config, "[liveness]", f'[recognition]\nmodels_dir = "{live_models}"\n\n[liveness]')
    found = by_name(check(with_liveness(config, "required = true"), good_clock()))
    assert found["liveness"].verdict is OK
    assert found["liveness"].found.startswith("on: ")


def test_liveness_without_its_models_is_a_warning_and_where_it_is_required_a_failure(
    config: Path, models_without_liveness: Path
) -> None:
    edit(config, "[liveness]", f'[recognition]\nmodels_dir = "{models_without_liveness}"\n\n[liveness]')
    found = by_name(check(with_liveness(config, "enabled = true"), good_clock()))
    assert found["liveness"].verdict is WARNING
    assert "make liveness" in (found["liveness"].remedy or "")
    edit(config, "enabled = true", "required = true")
    found = by_name(check(config, good_clock()))
    assert found["liveness"].verdict is FAILURE
    assert "liveness.toml is not there" in found["liveness"].found


def test_a_check_leaves_every_file_and_the_broker_as_they_were(config: Path, broker: ScriptedBroker) -> None:
    with Outbox(config.parent / "state" / "outbox.db"):
        pass
    before = files_under(config.parent)
    check(config, good_clock())
    assert files_under(config.parent) == before
    assert len(broker.connects) == 1
    assert broker.publications == []


def test_beside_a_running_daemon_it_says_so_and_does_not_disturb_it(
    config: Path, broker: ScriptedBroker
) -> None:
    edit(config, 'pace = "fast"', 'pace = "real"\nat_end = "repeat"')
    with daemon(config) as board:
        assert board.said("first frame processed")
        # The scripted broker talks to one peer at a time, so the check is the one that waits.
        found = by_name(check(config, good_clock()))
        assert found["daemon"] == ok("daemon", f"runs (process {board.process.pid})")
        assert found["gallery"].verdict is OK
        assert "events so far, none waiting" in found["outbox"].found
        assert board.process.poll() is None
        board.process.send_signal(signal.SIGTERM)
        assert board.ended() == 0
        assert "the connection ended" not in board.log()


def test_a_gallery_that_the_running_daemon_does_not_use_yet_is_told(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a new gallery was copied here, the check called it good, and the door knew nobody of it."""
    monkeypatch.setattr("edge.check.checks.holder", lambda _: os.getpid())
    found = by_name(check(config, good_clock()))["gallery"]
    assert found.verdict is WARNING
    assert found.found.endswith("changed since the daemon was started, which still uses the one before")
    assert found.remedy == "restart it to use this one: `systemctl restart hadir-edge`"


def test_every_fault_is_found_in_one_run(config: Path, broker: ScriptedBroker, clip: Path) -> None:
    board = config.parent
    edit(config, str(clip), str(clip.with_name("gone.avi")))
    broker.accept_reason = 0x87
    (board / "device.pem").chmod(0o644)
    (board / "gallery.hadir").write_bytes((board / "gallery.hadir").read_bytes()[:-1])
    (board / "state").mkdir()
    (board / "state" / "outbox.db").write_bytes(b"something else")
    findings = check(config, Clock(kernel=lambda: KernelClock(False, 0), real_ms=lambda: 60_000, boot="test"))
    found = by_name(findings)
    told = {name: found[name].found for name in found if found[name].verdict is FAILURE}
    assert "gone.avi" in told["camera"]
    assert "0644" in told["device key"]
    assert "damaged" in told["gallery"]
    assert "Not authorized" in told["broker"]
    assert "outbox.db" in told["outbox"]
    assert "1970-01-01" in told["clock"]
    assert all(finding.remedy for finding in findings if finding.verdict is not OK)
    assert exit_code(findings) == 1
    assert "chmod 600" in found["device key"].remedy
    assert "access list" in found["broker"].remedy


def test_without_models_or_keys_the_gallery_says_whom_it_waits_for(config: Path, tmp_path: Path) -> None:
    (config.parent / "keys.jws").write_text("not.a.token")
    found = by_name(check(config, good_clock()))
    assert found["fleet keys"].verdict is FAILURE
    assert found["gallery"] == warning("gallery", "not looked at", "mend the fleet keys first")
    config.write_text(config.read_text() + f'\n[recognition]\nmodels_dir = "{tmp_path}"\n')
    found = by_name(check(config, good_clock()))
    assert found["models"].verdict is FAILURE
    assert found["gallery"].remedy == "mend the models first"
    assert found["camera"].verdict is OK, "a camera can be judged without models"


def test_a_gallery_of_nobody_is_a_warning(
    fleet: Fleet, eyes: Eyes, clip: Path, broker: ScriptedBroker
) -> None:
    config = set_up_board(fleet, eyes, {}, broker_url=broker.url, clip=clip)
    found = by_name(check(config, good_clock()))["gallery"]
    assert (found.verdict, "enrolled: 0" in found.found) == (WARNING, True)
    assert "hadir-provision enrol" in found.remedy


def test_a_camera_that_the_daemon_has_is_left_to_it(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> judge.View:
        raise AssertionError("two cannot have a device at once")

    monkeypatch.setattr(checks, "look", opened)
    settings = replace(load_config(config), camera=CameraConfig(kind="v4l2"))
    found = checks._camera(config, settings, running=812)
    assert (found.verdict, "not opened: the daemon has it" in found.found) == (OK, True)


def test_a_disk_that_cannot_be_examined_is_a_failure(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> Space:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(checks, "read_space", broken)
    found = by_name(check(config, good_clock()))["disk"]
    assert (found.verdict, "cannot be examined (Input/output error)" in found.found) == (FAILURE, True)
    assert "dmesg" in found.remedy


def test_without_a_configuration_the_machine_is_still_looked_at(tmp_path: Path) -> None:
    findings = check(tmp_path / "none.toml", good_clock())
    found = by_name(findings)
    assert found["configuration"].verdict is FAILURE
    assert found["clock"].verdict is OK
    assert found["broker"] == warning("broker", "not looked at", "mend the configuration first")
    assert exit_code(findings) == 1


def test_who_may_not_read_the_configuration_is_told_to_ask_as_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut(path: Path) -> Config:
        raise ConfigError(
            f"{path}: cannot be read (Permission denied); name it with --config"
        ) from PermissionError()

    monkeypatch.setattr(checks, "load_config", shut)
    found = by_name(check(tmp_path / "edge.toml", good_clock()))
    assert found["configuration"].remedy == "run it as root: sudo hadir-edge check"


@contextmanager
def silent_listener() -> Iterator[str]:
    """Takes every connection and never says a word."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                try:
                    kept.append(listener.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join(10)
            for peer in kept:
                peer.close()


def test_with_a_broker_and_a_camera_that_never_answer_it_is_done_within_ten_seconds(
    config: Path, clip: Path
) -> None:
    with silent_listener() as address:
        edit(config, str(clip), f"rtsp://anna:secret@{address}/stream")
        config.write_text(
            "".join(
                f'url = "mqtt://{address}"\n' if line.startswith("url = ") else line
                for line in config.read_text().splitlines(keepends=True)
            )
        )
        began_s = time.monotonic()
        found = by_name(check(config, good_clock()))
        assert time.monotonic() - began_s < 10
    assert "said nothing" in found["broker"].found
    assert found["camera"].verdict is FAILURE
    assert "secret" not in repr(found)


def test_what_a_camera_started_does_not_outlive_the_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe like gst-launch's, started by a driver that then hangs."""
    reader, writer = os.pipe()
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nsleep 600 &\nwait\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **options: real(*args, pass_fds=(writer,), **options)
    )
    with pytest.raises(HadirError, match="no picture within 1 s"):
        look.look(tmp_path / "edge.toml", timeout_s=1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"", "its end comes when the last holder of the other end is gone"


class Blind:
    """A camera that opens, and is over before its first picture."""

    def __enter__(self) -> Blind:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def read(self) -> None:
        """No picture."""


def test_a_camera_without_a_single_picture_is_a_finding(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "open_camera", lambda settings, stop: Blind())
    with pytest.raises(CameraUnavailable, match="it gave no picture at all; check its cable"):
        look.view(load_config(config))


def test_a_driver_that_crashes_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(HadirError, match="its driver crashed"):
        look.look(tmp_path / "edge.toml", timeout_s=10)


def test_a_check_that_is_surprised_hides_no_other() -> None:
    def surprised() -> Finding:
        raise ZeroDivisionError("1 / 0")

    def shut_out() -> Finding:
        raise PermissionError(13, "Permission denied", "/etc/hadir")

    assert guarded("disk", surprised).found == "ZeroDivisionError: 1 / 0"
    assert guarded("disk", shut_out).remedy == "run it as root: sudo hadir-edge check"
    hanging = Beside("broker", surprised)
    assert hanging.finding().verdict is FAILURE


def test_a_place_that_this_user_may_not_see_is_a_line_and_not_an_end(config: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root sees everything; the other branch is tested with guarded()")
    edit(config, 'site = "hq"', 'site = "hq"\nstate_dir = "shut/state"')
    (config.parent / "shut").mkdir(mode=0o000)
    try:
        found = by_name(check(config, good_clock()))
    finally:
        (config.parent / "shut").chmod(0o700)
    assert found["outbox"].verdict is FAILURE
    assert found["disk"].verdict is FAILURE
    assert found["models"].verdict is OK


# --- who logs in to the broker, and as whom


def broker_config(url: str = "mqtts://broker", cert: bool = True) -> BrokerConfig:
    pem = Path("a.pem") if cert else None
    return BrokerConfig(url=url, cert_file=pem, private_key_file=pem)


def test_with_a_certificate_it_never_logs_in_beside_a_running_daemon() -> None:
    assert login_for(broker_config(), "door-01", running=812) is None


def test_with_a_certificate_and_no_daemon_it_goes_on_with_the_boards_session() -> None:
    login = login_for(broker_config(), "door-01", running=None)
    assert login is not None
    assert (login.client_id, login.keep_session) == ("door-01", True)


@pytest.mark.parametrize("running", [None, 812])
def test_without_a_certificate_it_logs_in_beside_the_daemon(running: int | None) -> None:
    login = login_for(broker_config("mqtt://broker", cert=False), "door-01", running)
    assert login is not None
    assert (login.client_id, login.keep_session) == ("door-01-check", False)


def test_a_broker_that_cannot_acknowledge_is_a_failure() -> None:
    assert judge_broker("mqtt://b", "x", {"MaximumQoS": 0}).verdict is FAILURE
    assert judge_broker("mqtt://b", "x", {"RetainAvailable": 0}).verdict is WARNING
    assert judge_broker("mqtt://b", "x", {}).verdict is OK


def test_a_board_with_a_certificate_is_checked_beside_its_daemon_without_throwing_it_out(
    config: Path, broker: ScriptedBroker
) -> None:
    """Mosquitto gives whoever shows this certificate this board's session, whatever client id they ask for."""
    edit(config, 'pace = "fast"', 'pace = "real"\nat_end = "repeat"')
    with tls_door() as door:
        edit(config, f'[broker]\nurl = "{broker.url}"\n', door.section)
        with daemon(config) as board:
            assert board.said("broker: connected")
            found = by_name(check(config, good_clock()))
            board.process.send_signal(signal.SIGTERM)
            assert board.ended() == 0
        assert "connection ended" not in board.log()
        assert (found["broker"].verdict, "no login" in found["broker"].found) == (OK, True)
        assert found["certificate"].verdict is OK
        found = by_name(check(config, good_clock()))
        assert found["broker"] == ok("broker", f"{door.url}: accepts MQTT 5 as door-01")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda pair: pair.key.chmod(0o640), "0640 is readable by others"),
        (lambda pair: pair.certificate.write_text("none"), "not a certificate"),
        (lambda pair: pair.certificate.unlink(), "cannot be read"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(
    config: Path, broker: ScriptedBroker, tmp_path: Path, spoil: Callable[[Pair], object], words: str
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("door-01")
    edit(
        config,
        f'url = "{broker.url}"\n',
        f'url = "mqtts://127.0.0.1:1"\nca_file = "{authority.certificate}"\n'
        f'cert_file = "{pair.certificate}"\nprivate_key_file = "{pair.key}"\n',
    )
    spoil(pair)
    found = by_name(check(config, good_clock()))
    assert found["certificate"].verdict is FAILURE
    assert words in found["certificate"].found


# --- judgement


def reading(real_ms: int = NOW_MS, state: ClockState = ClockState.SYNCED) -> TimeReading:
    return TimeReading(real_ms=real_ms, mono_ms=0, boot="b", state=state, err_ms=3)


def test_a_clock_is_judged_by_its_date_and_by_who_set_it() -> None:
    assert judge.judge_clock(reading()).verdict is OK
    assert judge.judge_clock(reading(state=ClockState.UNSYNCED)).verdict is WARNING
    assert judge.judge_clock(reading(0, ClockState.UNSYNCED)).verdict is FAILURE
    assert judge.judge_clock(reading(RELEASED_REAL_MS - 1)).verdict is FAILURE, "synchronised with a liar"


VIEW = judge.View(
    width=640, height=480, frames=15, brightness=120, sharpness=300, moving=True, face_px=None, unfit=None
)


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ({}, OK, "640x480"),
        ({"brightness": 1.0}, FAILURE, "black"),
        ({"brightness": 20.0}, WARNING, "dark"),
        ({"brightness": 250.0}, WARNING, "bright"),
        ({"moving": False}, FAILURE, "frozen"),
        ({"moving": False, "frames": 1}, OK, "640x480"),
        ({"sharpness": 12.0}, WARNING, "nothing in it is sharp"),
        ({"face_px": 90.0}, OK, "good enough"),
        ({"face_px": 20.0, "unfit": NoAttendance.TOO_SMALL}, WARNING, "too-small"),
    ],
)
def test_a_view_is_judged_by_light_life_focus_and_face(
    change: Mapping[str, object], verdict: Verdict, words: str
) -> None:
    finding = judge.judge_view(replace(VIEW, **change), QualityConfig(), recorded=False)  # type: ignore[arg-type]
    assert (finding.verdict, words in finding.found) == (verdict, True)


def test_a_recording_may_stand_still() -> None:
    assert judge.judge_view(replace(VIEW, moving=False), QualityConfig(), recorded=True).verdict is OK
    assert is_recording(CameraConfig(sources=("a.mp4",)))
    assert not is_recording(CameraConfig(sources=("rtsp://camera/",)))
    assert not is_recording(CameraConfig(kind="v4l2"))


def test_every_reason_against_a_face_has_a_remedy() -> None:
    for unfit in (
        NoAttendance.TOO_SMALL,
        NoAttendance.TURNED_AWAY,
        NoAttendance.CUT_OFF,
        NoAttendance.BAD_LIGHT,
        NoAttendance.TOO_BLURRED,
    ):
        assert judge.judge_view(
            replace(VIEW, face_px=50, unfit=unfit), QualityConfig(), recorded=False
        ).remedy


def test_a_picture_in_focus_passes_and_the_same_picture_out_of_focus_does_not(people: People) -> None:
    for photo in (people["P44"][0], people["P46"][0]):
        image = np.asarray(cv2.imread(str(photo)), np.uint8)
        wide = cv2.resize(
            image, (640, round(image.shape[0] * 640 / image.shape[1])), interpolation=cv2.INTER_AREA
        )
        blurred = np.asarray(cv2.GaussianBlur(wide, (0, 0), 3), np.uint8)
        assert look.sharpness(image) > judge.MIN_FRAME_SHARPNESS > look.sharpness(blurred)


@given(st.integers(16, 2000), st.integers(16, 2000))
def test_sharpness_of_a_bare_wall_is_none_at_any_size(width: int, height: int) -> None:
    assert look.sharpness(np.full((height, width, 3), 90, np.uint8)) == 0


SPACE = Space(free_bytes=10**10, total_bytes=10**11, free_files=10**6, read_only=False)


@pytest.mark.parametrize(
    ("space", "writable", "verdict", "words"),
    [
        (SPACE, True, OK, "10,000 MB free"),
        (replace(SPACE, free_files=-1), True, OK, "free"),
        (replace(SPACE, free_bytes=10**8), True, WARNING, "getting full"),
        (replace(SPACE, free_bytes=10**6), True, FAILURE, "full"),
        (replace(SPACE, free_files=0), True, FAILURE, "inodes"),
        (replace(SPACE, read_only=True), False, FAILURE, "read-only"),
        (SPACE, False, FAILURE, "may not be written"),
    ],
)
def test_a_disk_is_judged_by_whether_the_outbox_can_grow(
    space: Space, writable: bool, verdict: Verdict, words: str
) -> None:
    finding = judge.judge_space("/state", space, writable=writable)
    assert (finding.verdict, words in finding.found) == (verdict, True)


def test_heat_power_and_memory_are_judged() -> None:
    hot = [Temperature("cpu-thermal", 40), Temperature("gpu", 81)]
    assert [judge.judge_temperature(z).verdict for z in ((), hot[:1], hot, [Temperature("cpu", 96)])] == [
        OK, OK, WARNING, FAILURE,
    ]  # fmt: skip
    powers = [None, Throttling(0), Throttling.UNDER_VOLTAGE, Throttling.UNDER_VOLTAGE_OCCURRED]
    powers += [Throttling.THROTTLED, Throttling.THROTTLED_OCCURRED]
    verdicts = [judge.judge_throttling(power).verdict for power in powers]
    assert verdicts == [OK, OK, FAILURE, WARNING, WARNING, WARNING]
    memories = [None, Memory(10**9, 10**9), Memory(10**7, 10**9)]
    assert [judge.judge_memory(memory).verdict for memory in memories] == [OK, OK, WARNING]


@given(st.sampled_from(list(range(2**4))), st.sampled_from(list(range(2**4))))
def test_every_report_of_the_firmware_is_judged(now: int, since: int) -> None:
    finding = judge.judge_throttling(Throttling(now | since << 16))
    assert (finding.verdict is OK) == (not now | since)
    assert (finding.remedy == "") == (finding.verdict is OK)


def test_an_outbox_is_judged_by_the_age_of_its_oldest_event() -> None:
    def judged(waiting: int, oldest_real_ms: int | None) -> Finding:
        return judge.judge_outbox(Glimpse("c", 9, waiting, oldest_real_ms), NOW_MS)

    assert judged(0, None).verdict is OK
    assert judged(3, NOW_MS - 5000).found == "3 of 9 events waiting, the oldest for 5 s"
    late = judged(3, NOW_MS - 3 * DAY_MS)
    assert (late.verdict, "the oldest for 3 days" in late.found) == (WARNING, True)
    assert "clock was wrong" in judged(3, 60_000).found
    assert "clock was wrong" in judged(3, NOW_MS + 1000).found


def test_a_certificate_is_judged_by_name_and_time() -> None:
    now_s, year_s = 1_800_000_000.0, 365 * 24 * 3600

    def judged(name: str, begins_s: float, ends_s: float) -> Finding:
        return judge.judge_certificate(name, "door-01", now_s + begins_s, now_s + ends_s, now_s)

    assert judged("door-01", -1, year_s).verdict is OK
    assert judged("door-01", -1, 3600).verdict is WARNING
    assert "expired" in judged("door-01", -2, -1).found
    assert "not valid yet" in judged("door-01", 1, year_s).found
    assert "made for 'door-02'" in judged("door-02", -1, year_s).found


# --- the report


FINDINGS = (
    ok("clock", "right"),
    warning("disk", "getting full", "make room"),
    Finding("camera", FAILURE, "/a/very/long/path/" * 12 + " is dark", "light it " * 20),
)


def test_the_whole_is_as_bad_as_its_worst_line_and_only_a_failure_fails() -> None:
    assert [worst(FINDINGS[:count]) for count in (0, 1, 2, 3)] == [OK, OK, WARNING, FAILURE]
    assert [exit_code(FINDINGS[:count]) for count in (0, 1, 2, 3)] == [0, 0, 0, 1]


def test_an_error_is_taken_apart_into_what_was_found_and_what_to_do() -> None:
    assert failed("gallery", GalleryError("x: damaged; copy it again"), "?").remedy == "copy it again"
    assert failed("gallery", GalleryError("x: damaged"), "copy").remedy == "copy"
    assert failed("camera", GalleryError("camera: gone; plug it in"), "?").found == "gone"


def test_the_text_sums_up_and_says_what_to_do_with_the_paths_whole() -> None:
    text = as_text(FINDINGS, colour=False, width=80)
    assert text.splitlines()[-1] == "1 failure, 1 warning: this door needs somebody"
    assert "WARNING  disk           getting full → make room\n" in text
    assert "/a/very/long/path/" * 12 in text
    assert as_text(FINDINGS[:1], colour=False).endswith("all well")
    assert as_text(FINDINGS[:2], colour=False).endswith("no failure, 1 warning")
    assert "\x1b" not in text
    assert "\x1b[1;31mFAILURE\x1b[0m" in as_text(FINDINGS, colour=True)


@dataclass
class Screen(io.StringIO):
    """A stream that is a terminal, or not."""

    terminal: bool

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "environment", "wanted"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    terminal: bool, environment: dict[str, str], wanted: bool
) -> None:
    assert wants_colour(Screen(terminal), environment) is wanted


def test_json_is_one_object_with_the_verdict_of_the_whole() -> None:
    told = json.loads(as_json(FINDINGS))
    assert told["verdict"] == "failure"
    assert told["checks"][1] == {
        "check": "disk", "verdict": "warning", "found": "getting full", "remedy": "make room",
    }  # fmt: skip


def as_command(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["check", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_the_command_prints_names_and_vectors_of_nobody(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = as_command("--config", config, capsys=capsys)
    assert code in (0, 1)  # the disk of whoever runs the tests may be full
    assert "P44" not in text
    assert text.startswith("ok       configuration  door-01 at site hq")


def test_the_command_fails_with_one_object_where_the_configuration_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = as_command("--json", "--config", tmp_path / "none.toml", capsys=capsys)
    assert code == 1
    assert json.loads(text)["checks"][0]["verdict"] == "failure"


# --- as whom


def test_root_looks_with_the_eyes_of_the_daemons_user(config: Path) -> None:
    """A key that only root may read is no key for the daemon, however well root can read it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="hadir-check-") as folder:
        Path(folder).chmod(0o755)
        board = Path(folder) / "board"
        shutil.copytree(config.parent, board)
        (board / "state").mkdir()
        for path in (board, *board.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        os.chown(board / "device.pem", 0, 0)
        program = (
            "import os, sys; from pathlib import Path; from edge.check.user import become_the_daemons_user\n"
            "become_the_daemons_user(Path(sys.argv[1])); print(os.geteuid(), os.getuid())\n"
            "try: open(Path(sys.argv[1]).parent / 'device.pem'); print('readable')\n"
            "except PermissionError: print('not readable')"
        )
        result = subprocess.run(
            [sys.executable, "-c", program, str(board / "edge.toml")],
            capture_output=True,
            text=True,
            check=True,
        )
    assert result.stdout.split("\n")[:2] == [f"{nobody.pw_uid} {nobody.pw_uid}", "not readable"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """As root, what is asked of the kernel, in order; it is not done, since there would be no way back."""
    calls: list[tuple[str, object]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda wanted, name=name: calls.append((name, wanted)))
    return calls


def owned_by(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file seems to be this user's."""
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        told = list(real(path, follow_symlinks=follow_symlinks))
        told[4] = uid
        return os.stat_result(told)

    monkeypatch.setattr(Path, "stat", stat)


def test_root_gives_up_groups_before_group_and_group_before_user(
    config: Path, asked: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any other order the kernel would refuse the rest, or root's groups would be kept."""
    nobody = pwd.getpwnam("nobody")
    owned_by(nobody.pw_uid, monkeypatch)
    become_the_daemons_user(config)
    assert [name for name, _ in asked] == ["setgroups", "setgid", "setuid"]
    groups, group, user = (wanted for _, wanted in asked)
    assert (group, user) == (nobody.pw_gid, nobody.pw_uid)
    assert isinstance(groups, list)
    cameras = {entry.gr_gid for entry in grp.getgrall() if entry.gr_name == "video"}
    assert set(groups) == {nobody.pw_gid} | cameras


def test_an_owner_without_a_name_is_become_as_well(
    config: Path, asked: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a card from another board."""
    nameless = next(
        uid for uid in range(50_000, 60_000) if uid not in {user.pw_uid for user in pwd.getpwall()}
    )
    owned_by(nameless, monkeypatch)
    become_the_daemons_user(config)
    assert dict(asked)["setuid"] == dict(asked)["setgid"] == nameless


def test_root_stays_where_the_board_is_roots_or_says_nothing_of_an_owner(
    config: Path, tmp_path: Path, asked: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    become_the_daemons_user(tmp_path / "none.toml")
    owned_by(0, monkeypatch)
    become_the_daemons_user(config)
    assert asked == []


def test_an_ordinary_user_stays_who_he_is(
    config: Path, asked: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    become_the_daemons_user(config)
    assert asked == []
