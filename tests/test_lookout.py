"""What happened to the board itself is recorded once, and a full disk does not end the look-out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.camera.keep import CameraHealth, CameraState
from edge.errors import DiskFull
from edge.lookout import BLIND_MS, Lookout
from edge.reports import Reports
from edge.trust.floor import TimeFloor
from edge.trust.jws import verify
from edge.trust.receipts import parse_head
from edge.trust.seal import Protection
from edge.trust.tokens import HEAD_TYP, TAMPER
from edge.uplink.outbox import Outbox
from edge.uplink.room import Room
from edge.uplink.session import State
from edge.uplink.status import Loaded
from edge.uplink.timekeeping import TimeKeeper
from edge.uplink.troubles import Trouble, Troubles
from tests.chains import KEY, recorder_on
from tests.servers import event_of

GOOD = CameraHealth(CameraState.GOOD, 0)
BLACK = CameraHealth(CameraState.BLACK, 5_000, "black for 3 s")


class Scene:
    def __init__(self, outbox: Outbox) -> None:
        self.recorder = recorder_on(outbox)
        self.recorder.start("1.0")
        self.camera = GOOD
        self.troubles = Troubles()
        self.timekeeper = TimeKeeper(self.recorder, TimeFloor(outbox.path.parent, 0))
        room = Room(self.recorder, self.troubles)
        self.lookout = Lookout(self.recorder, self.timekeeper, room, lambda: self.camera, self.troubles)

    def told(self) -> list[str]:
        events = [event_of(event.token) for event in self.recorder.outbox.held(0, 100)]
        return [event.payload["detail"] for event in events if event.type == TAMPER]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield Scene(outbox)


def test_a_camera_that_is_covered_for_a_minute_is_told_once_until_it_sees_again(scene: Scene) -> None:
    scene.camera = BLACK
    scene.lookout.look(5_000 + BLIND_MS - 1)
    assert (scene.told(), scene.troubles.names()) == ([], [])
    for second in range(1, 4):
        scene.lookout.look(5_000 + BLIND_MS + second * 1_000)
    assert scene.told() == ["black for a minute: black for 3 s"]
    assert scene.troubles.names() == [Trouble.CAMERA]
    scene.camera = GOOD
    scene.lookout.look(200_000)
    assert scene.troubles.names() == []
    scene.camera = BLACK
    scene.lookout.look(300_000)
    assert len(scene.told()) == 2


def test_a_camera_that_fails_in_one_way_and_then_in_another_is_told_as_well(scene: Scene) -> None:
    """Regression: one that hung while it was opened, and was then unavailable, by turns, was never told of."""
    for since_ms in range(0, BLIND_MS + 1, 20_000):
        state = CameraState.HANGING if since_ms % 40_000 else CameraState.UNAVAILABLE
        scene.camera = CameraHealth(state, since_ms, "it does not answer")
        scene.lookout.look(since_ms)
    assert scene.told() == ["hanging for a minute: it does not answer"]
    assert scene.troubles.names() == [Trouble.CAMERA]


@pytest.mark.parametrize("state", [CameraState.OPENING, CameraState.GOOD, CameraState.OVER])
def test_a_camera_that_works_or_is_over_is_no_trouble(scene: Scene, state: CameraState) -> None:
    scene.camera = CameraHealth(state, 0)
    scene.lookout.look(10 * BLIND_MS)
    assert (scene.told(), scene.troubles.names()) == ([], [])


def test_it_looks_once_a_second(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(scene.timekeeper, "look", lambda: looks.append(1))
    for now_ms in (10, 20, 1_009, 1_010, 1_500):
        scene.lookout.look(now_ms)
    assert len(looks) == 2


def test_what_a_full_disk_does_not_let_it_tell_it_tells_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.camera = BLACK

    def full() -> None:
        raise DiskFull("no room")

    with monkeypatch.context() as moment:
        moment.setattr(scene.timekeeper, "look", full)
        scene.lookout.look(100_000)
    assert scene.told() == []
    scene.lookout.look(101_000)
    assert len(scene.told()) == 1


# --- what it says of itself


@pytest.fixture
def reports(scene: Scene) -> Reports:
    recorder = scene.recorder
    loaded = Loaded(gallery=3, embedder="e" * 64, keys=2, protection=Protection.FILE, liveness=True)
    return Reports(recorder.identity, recorder.clock, recorder.outbox, scene.troubles, lambda: loaded)


def test_health_has_counters_gauges_troubles_and_a_signed_head(scene: Scene, reports: Reports) -> None:
    reports.counters["frames"] += 7
    reports.gauges["camera"] = lambda: "good"
    reports.gauges["nothing"] = lambda: None
    scene.troubles.note(Trouble.NO_RECEIPTS, present=True)
    told = json.loads(reports.health())
    assert told["counters"] == {"frames": 7}
    assert told["gauges"]["camera"] == "good"
    assert told["gauges"]["waiting"] == 1
    assert told["gauges"]["disk_free_bytes"] > 0
    assert "nothing" not in told["gauges"]
    assert told["troubles"] == ["no-receipts"]
    assert (told["clock"], told["err_ms"], told["boot"]) == ("synced", 5, "boot-a")
    keys = {KEY.kid: KEY.verification_key(frozenset({HEAD_TYP}))}
    head = parse_head(verify(told["head"], HEAD_TYP, keys).claims)
    end = scene.recorder.outbox.head()
    assert (head.chain, head.seq, head.hash) == (end.chain, end.seq, end.hash)


def test_a_status_tells_of_troubles_too(scene: Scene, reports: Reports) -> None:
    scene.troubles.note(Trouble.DISK_LOW, present=True)
    told = json.loads(reports.status(State.ONLINE, 4))
    assert (told["state"], told["conn"], told["troubles"]) == ("online", 4, ["disk-low"])
    assert (told["gallery"], told["keys"], told["key_protection"]) == (3, 2, "file")


def test_a_trouble_that_comes_or_goes_is_announced_and_one_that_stays_is_not() -> None:
    announced: list[int] = []
    troubles = Troubles()
    troubles.changed = lambda: announced.append(len(troubles.names()))
    for present in (True, True, False, False):
        troubles.note(Trouble.CAMERA, present=present)
    assert announced == [1, 0]
