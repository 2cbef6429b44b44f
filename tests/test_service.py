"""The whole daemon, as a process of its own, against a real broker and the real consumer."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.broker import embedded_broker
from demo.consumer import listening
from edge.assembly import Eyes, threshold_for
from edge.camera.pictures import read_picture
from edge.config import DecideConfig, TrackConfig, load_config
from edge.errors import AlreadyRunning, CannotRecord, ConfigError, GalleryError, InputError
from edge.loops import Loop
from edge.recognition.gallery import make_gallery
from edge.recognition.thresholds import Thresholds
from edge.records import Frame, Vector
from edge.service import Service, _ending_on_signals
from edge.uplink.outbox import Outbox, PreviousRun
from provisioning.fleet import Fleet
from tests.conftest import People
from tests.doors import daemon, nobody, save_clip, set_up_board, templates, walk

NOBODY_LISTENS = "mqtt://127.0.0.1:1"


@pytest.fixture(scope="module")
def enrolled(eyes: Eyes, people: People) -> dict[str, Vector]:
    return templates(eyes, {"P44": people["P44"][:2]})


@pytest.fixture(scope="module")
def clip(eyes: Eyes, people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The enrolled person walks past, then a stranger."""
    path = tmp_path_factory.mktemp("clips") / "door.avi"
    first, second = walk(eyes, people["P44"][2], seed=1), walk(eyes, people["P46"][0], seed=2)
    return save_clip(path, first, nobody(), second, nobody())


@pytest.fixture
def broker() -> Iterator[str]:
    with embedded_broker() as url:
        yield url


def outbox_of(config: Path) -> Outbox:
    return Outbox(config.parent / "state" / "outbox.db")


def test_someone_walks_past_and_one_verified_event_arrives(
    fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], clip: Path, broker: str
) -> None:
    config = set_up_board(fleet, eyes, enrolled, broker_url=broker, clip=clip)
    with listening(broker, fleet.folder / "devices.jwks") as central, daemon(config) as board:
        assert board.ended() == 0, board.log()
        assert central.wait_for(2)
    told = [(event["event"], event["person"], event["direction"]) for event in central.events]
    assert told == [("start", None, None), ("attendance", "P44", "in")]
    assert "outcome=no-match" in board.log()
    with outbox_of(config) as outbox:
        assert outbox.waiting_count() == 0
        assert outbox.previous_run() is not None
        assert outbox.previous_run() == PreviousRun(boot=outbox.previous_run().boot, clean=True)  # type: ignore[union-attr]


def test_who_passes_again_after_a_restart_within_the_cooldown_is_not_recorded_twice(
    fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], people: People, tmp_path: Path
) -> None:
    clip = save_clip(tmp_path / "once.avi", walk(eyes, people["P44"][2], seed=1), nobody())
    config = set_up_board(
        fleet,
        eyes,
        enrolled,
        broker_url=NOBODY_LISTENS,
        clip=clip,
        camera='pace = "real"',  # otherwise frames have times that are still to come
        events="drain_s = 0",
    )
    logs = []
    for _ in range(2):
        with daemon(config) as board:
            assert board.ended() == 0, board.log()
        logs.append(board.log())
    assert ["outcome=attendance" in log for log in logs] == [True, False]
    assert "outcome=cooldown" in logs[1]
    with outbox_of(config) as outbox:
        assert outbox.head().seq == 3, "two starts and one attendance"


def test_the_log_names_nobody(
    fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], clip: Path, broker: str
) -> None:
    config = set_up_board(fleet, eyes, enrolled, broker_url=broker, clip=clip)
    with daemon(config) as board:
        assert board.ended() == 0
    assert "attendance: track=1" in board.log()
    assert "P44" not in board.log()


def test_what_happened_while_the_broker_was_away_arrives_after_a_power_cut(
    fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], clip: Path, broker: str
) -> None:
    """No connection ever, then SIGKILL: the events were committed before anything was sent."""
    away = set_up_board(
        fleet, eyes, enrolled, broker_url=NOBODY_LISTENS, clip=clip, camera='at_end = "repeat"'
    )
    with daemon(away) as board:
        assert board.said("attendance: track=1")
        board.process.kill()
    back = set_up_board(fleet, eyes, {}, broker_url=broker, clip=clip)
    with listening(broker, fleet.folder / "devices.jwks") as central, daemon(back) as board:
        assert board.ended() == 0
        assert central.wait_for(3)
    assert [event["event"] for event in central.believed()] == ["start", "attendance", "start"]
    assert [event["seq"] for event in central.believed()] == [1, 2, 3]


def test_killed_while_it_publishes_it_neither_loses_nor_doubles(
    fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], clip: Path, broker: str
) -> None:
    config = set_up_board(fleet, eyes, enrolled, broker_url=broker, clip=clip)
    with listening(broker, fleet.folder / "devices.jwks") as central:
        with daemon(config) as board:
            assert board.said("attendance: track=1")
            board.process.kill()
        config = set_up_board(fleet, eyes, {}, broker_url=broker, clip=clip)
        with daemon(config) as board:
            assert board.ended() == 0
        assert central.wait_for(3)
    assert [event["event"] for event in central.believed()] == ["start", "attendance", "start"]
    others = [event["verdict"] for event in central.events if not event["believed"]]
    assert set(others) <= {"redelivered"}, "what was sent twice is known by its place and hash"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_asked_to_stop_it_stops_in_good_order_and_the_next_start_says_so(
    fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], clip: Path, broker: str, number: signal.Signals
) -> None:
    """Regression: a terminal that was closed (SIGHUP) ended it where it stood, and the next start told of a crash."""
    config = set_up_board(fleet, eyes, enrolled, broker_url=broker, clip=clip, camera='at_end = "repeat"')
    with daemon(config) as board:
        assert board.said("first frame processed")
        board.process.send_signal(number)
        assert board.ended() == 0
        assert "stopped:" in board.log()
    with outbox_of(config) as outbox:
        run = outbox.previous_run()
        assert run is not None
        assert run.clean


def test_under_nohup_a_terminal_that_is_closed_changes_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = threading.Event()
    try:
        with _ending_on_signals(stop):
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_after_a_kill_the_next_start_says_that_it_was_not_clean(
    fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], clip: Path
) -> None:
    config = set_up_board(
        fleet, eyes, enrolled, broker_url=NOBODY_LISTENS, clip=clip, camera='at_end = "repeat"'
    )
    with daemon(config) as board:
        assert board.said("first frame processed")
    with outbox_of(config) as outbox:
        run = outbox.previous_run()
        assert run is not None
        assert not run.clean


def test_at_the_end_what_the_broker_did_not_take_waits_for_the_next_start(
    fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], clip: Path
) -> None:
    config = set_up_board(
        fleet,
        eyes,
        enrolled,
        broker_url=NOBODY_LISTENS,
        clip=clip,
        camera='pace = "real"',  # otherwise frames have times that are still to come
        events="drain_s = 0",
    )
    with daemon(config) as board:
        assert board.ended() == 0
        assert "waiting=2" in board.log()
    with outbox_of(config) as outbox:
        assert [event.seq for event in outbox.waiting(0, 10)] == [1, 2]


def test_a_second_daemon_on_the_same_board_is_refused_and_the_first_goes_on(
    fleet: Fleet, eyes: Eyes, enrolled: dict[str, Vector], clip: Path, broker: str
) -> None:
    config = set_up_board(fleet, eyes, enrolled, broker_url=broker, clip=clip, camera='at_end = "repeat"')
    with daemon(config) as first:
        assert first.said("first frame processed")
        assert "another hadir-edge" in refused(config, AlreadyRunning.exit_code)
        first.process.send_signal(signal.SIGTERM)
        assert first.ended() == 0


def refused(config: Path, exit_code: int) -> str:
    """Start a daemon that must not start; its one line."""
    with daemon(config) as board:
        assert board.ended() == exit_code, board.log()
    said = [line for line in board.lines if line.startswith("hadir-edge: ")]
    assert len(said) == 1
    assert "Traceback" not in board.log()
    return said[0]


def test_a_configuration_key_that_does_not_exist_stops_the_start(
    fleet: Fleet, eyes: Eyes, clip: Path
) -> None:
    config = set_up_board(
        fleet, eyes, {}, broker_url=NOBODY_LISTENS, clip=clip, extra="[decide]\nthreshold = 1\n"
    )
    assert "unknown key decide.threshold" in refused(config, ConfigError.exit_code)


def test_without_a_gallery_it_says_how_to_get_one(fleet: Fleet, eyes: Eyes, clip: Path) -> None:
    config = set_up_board(fleet, eyes, {}, broker_url=NOBODY_LISTENS, clip=clip)
    (config.parent / "gallery.hadir").unlink()
    assert "hadir-provision enrol" in refused(config, GalleryError.exit_code)


def test_a_key_that_others_can_read_is_not_used(fleet: Fleet, eyes: Eyes, clip: Path) -> None:
    config = set_up_board(fleet, eyes, {}, broker_url=NOBODY_LISTENS, clip=clip)
    (config.parent / "device.pem").chmod(0o644)
    assert "chmod 600" in refused(config, ConfigError.exit_code)


def test_a_clip_that_is_not_there_is_named(fleet: Fleet, eyes: Eyes, clip: Path) -> None:
    missing = clip.with_name("missing.avi")
    config = set_up_board(fleet, eyes, {}, broker_url=NOBODY_LISTENS, clip=missing, events="drain_s = 0")
    assert str(missing) in refused(config, InputError.exit_code)


def test_a_place_where_no_outbox_can_be_is_named(fleet: Fleet, eyes: Eyes, clip: Path) -> None:
    config = set_up_board(fleet, eyes, {}, broker_url=NOBODY_LISTENS, clip=clip)
    (config.parent / "state").write_text("a file where a folder belongs")
    assert "outbox.db" in refused(config, CannotRecord.exit_code)


def test_any_target_gives_a_threshold_from_the_gallery_where_it_was_calibrated(eyes: Eyes) -> None:
    people = {
        f"E{row}": vector
        for row, vector in enumerate(np.eye(eyes.embedder.dimensions, dtype=np.float32)[:100])
    }
    plain = make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, people)
    strict, lax = (
        threshold_for(DecideConfig(fpir_target=share), eyes.spec, plain) for share in (0.001, 0.01)
    )
    assert strict > threshold_for(DecideConfig(), eyes.spec, plain) == eyes.spec.threshold(100) > lax
    own = Thresholds(0.003, (10, 1000), (0.5, 0.7), "this test")
    calibrated = make_gallery(1, eyes.embedder.id, eyes.embedder.dimensions, people, own)
    assert threshold_for(DecideConfig(), eyes.spec, calibrated) == pytest.approx(0.6)


# What the daemon does when one of its own threads does not go on: in this process, with nothing started.


@pytest.fixture
def service(
    fleet: Fleet, eyes: Eyes, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    config = set_up_board(fleet, eyes, {}, broker_url=NOBODY_LISTENS, clip=clip)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    service = Service(load_config(config))
    yield service
    service._board.outbox.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        yield manager


def heard(manager: socket.socket) -> list[str]:
    told = []
    with suppress(BlockingIOError):
        while True:
            told.append(manager.recv(4096).decode().split("\n")[0])
    return told


@contextmanager
def hanging(name: str) -> Iterator[Loop]:
    """A loop that runs and never turns, until the end of the test."""
    over = threading.Event()

    def hang(loop: Loop) -> None:
        over.wait(60)

    loop = Loop(name, hang)
    loop.start()
    try:
        yield loop
    finally:
        over.set()
        loop.join(60)


@pytest.mark.parametrize(("stall_s", "told"), [(1000.0, ["WATCHDOG=1"] * 3), (0.0, [])])
def test_the_watchdog_is_fed_only_while_every_loop_turns(
    service: Service,
    manager: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    stall_s: float,
    told: list[str],
) -> None:
    """A process that lives is not a door that works; systemd restarts what is silent."""
    monkeypatch.setattr("edge.service.STALL_S", stall_s)
    monkeypatch.setattr("edge.service.WATCH_INTERVAL_S", 0.001)
    rounds = iter((False, False, False, True))
    monkeypatch.setattr(service._stop, "wait", lambda timeout_s: next(rounds))
    with hanging("publisher") as publisher, hanging("pipeline") as pipeline:
        service._loops = (publisher, pipeline, service._loops[2])
        service._watch()
    assert heard(manager) == told


def test_a_loop_that_does_not_end_is_named_and_the_run_is_not_called_clean(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.service.JOIN_S", 0.01)
    with hanging("pipeline") as pipeline:
        idle = Loop("idle", lambda _: None)
        idle.start()
        idle.join(60)
        service._loops = (idle, pipeline, idle)
        service._shut_down()
    assert "stopping although pipeline did not end in time" in caplog.text
    run = service._board.outbox.previous_run()
    assert run is None or not run.clean


def test_of_a_camera_that_gives_no_pictures_but_rubbish_the_log_speaks_once(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """At ten a second it would fill the journal; how many there were is in the summary."""
    for number in range(1, 4):
        service._walk(Frame(np.zeros((1, 1, 3), np.uint8), captured_mono_ms=number, number=number))
    assert [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()] == [
        caplog.records[0].getMessage()
    ]
    assert caplog.records[0].getMessage().startswith("camera: frame 1 skipped: ")
    assert "bad_images=3" in service._summary()


def test_faces_for_which_no_track_is_left_are_counted_and_told(service: Service, people: People) -> None:
    """Regression: nothing told of them, neither an outcome nor a number, so that a crowded door looked well."""
    service._board.road.tracker._config = TrackConfig(max_tracks=1)
    pair = [cv2.resize(read_picture(people[person][0]), (320, 400)) for person in ("P44", "P46")]
    image = np.hstack(pair).astype(np.uint8)
    for number in range(1, 4):
        service._walk(Frame(image, captured_mono_ms=40 * number, number=number))
    assert service._counters["faces"] == 6
    assert service._counters["passed-over"] == 3
    assert "passed-over=3" in service._summary()
    assert json.loads(service._board.reports.health())["counters"]["passed-over"] == 3
