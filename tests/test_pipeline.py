"""The road on pictures: who walks past becomes an attendance, once, and nobody else does."""

from __future__ import annotations

import dataclasses
import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.assembly import Eyes, same_person
from edge.board.clock import Clock
from edge.config import DecideConfig, QualityConfig, TrackConfig
from edge.errors import BadImage, CannotRecord, DiskFull
from edge.pipeline import Passage, Road
from edge.recognition.decide import Decider
from edge.recognition.gallery import make_gallery
from edge.recognition.liveness import Throttle
from edge.recognition.track import Tracker
from edge.records import (
    Attack,
    Attendance,
    Direction,
    Frame,
    Image,
    Judgement,
    NoAttendance,
    Sighting,
    TrackEnd,
    Unclear,
    Vector,
    Verdict,
)
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey
from edge.uplink.outbox import Outbox
from edge.uplink.recorder import Recorder
from tests.conftest import People
from tests.doors import FRAMES_PER_S, templates, walk


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


def make_road(eyes: Eyes, outbox: Outbox, enrolled: dict[str, Vector], **settings: Any) -> Road:
    gallery = make_gallery(7, eyes.embedder.id, eyes.embedder.dimensions, enrolled)
    identity = DeviceIdentity("door-01", "hq", SigningKey.generate())
    return Road(
        detector=eyes.detector,
        tracker=Tracker(TrackConfig(), same=same_person(eyes.spec)),
        quality=QualityConfig(),
        embedder=eyes.embedder,
        decider=Decider(DecideConfig(**settings), gallery, eyes.spec.threshold(len(enrolled))),
        recorder=Recorder(outbox, identity, Clock(), Direction.IN, eyes.embedder.id, 7, diagnostics=False),
    )


def take(
    road: Road, images: Iterable[Image], start_ms: int = 0
) -> tuple[list[Attendance], list[TrackEnd], list[Passage]]:
    """Every frame along the road, and the end of it."""
    passages = []
    for number, image in enumerate(images):
        at_ms = start_ms + int(1000 * number / FRAMES_PER_S)
        passages.append(road.walk(Frame(image=image, captured_mono_ms=at_ms, number=number)))
    ended = [end for passage in passages for end in passage.ended] + list(road.finish())
    return [attendance for passage in passages for attendance in passage.attendances], ended, passages


def payload(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def test_somebody_enrolled_who_walks_past_is_one_event_in_the_outbox(
    eyes: Eyes, people: People, outbox: Outbox
) -> None:
    road = make_road(eyes, outbox, templates(eyes, {"P44": people["P44"][:2]}))
    attendances, ended, _ = take(road, walk(eyes, people["P44"][2]))
    assert [attendance.person for attendance in attendances] == ["P44"]
    assert [end.outcome for end in ended if end.good_frames >= 3] == [None]
    (event,) = outbox.waiting(0, 10)
    claims = payload(event.token)
    assert claims["sub_id"] == {"format": "opaque", "id": "P44"}
    (attendance,) = claims["events"].values()
    assert (attendance["seq"], attendance["frames"], attendance["gallery"]) == (1, attendances[0].frames, 7)
    assert attendance["embedder"] == eyes.embedder.id[:16]


def test_an_event_tells_neither_similarity_nor_picture_nor_template(
    eyes: Eyes, people: People, outbox: Outbox
) -> None:
    road = make_road(eyes, outbox, templates(eyes, {"P44": people["P44"][:2]}))
    take(road, walk(eyes, people["P44"][2]))
    (event,) = outbox.waiting(0, 10)
    (attendance,) = payload(event.token)["events"].values()
    assert set(attendance) <= {
        "chain", "seq", "prev", "low", "boot", "mono_ms", "clock", "err_ms",
        "direction", "frames", "embedder", "gallery",
    }  # fmt: skip


def test_a_stranger_is_looked_at_properly_and_matches_nobody(
    eyes: Eyes, people: People, outbox: Outbox
) -> None:
    road = make_road(eyes, outbox, templates(eyes, {"P44": people["P44"]}))
    attendances, ended, _ = take(road, walk(eyes, people["P46"][0]))
    assert attendances == []
    assert outbox.waiting_count() == 0
    looked_at = [end for end in ended if end.good_frames >= 3]
    assert [end.outcome for end in looked_at] == [NoAttendance.NO_MATCH]


def test_nobody_is_decided_on_fewer_than_three_good_frames(
    eyes: Eyes, people: People, outbox: Outbox
) -> None:
    road = make_road(eyes, outbox, templates(eyes, {"P44": people["P44"]}))
    near = list(walk(eyes, people["P44"][2]))[36:38]
    attendances, ended, _ = take(road, near)
    assert attendances == []
    assert [(end.good_frames, end.outcome) for end in ended] == [(2, NoAttendance.TOO_SHORT)]


def test_a_track_that_is_decided_costs_no_more_embeddings(eyes: Eyes, people: People, outbox: Outbox) -> None:
    road = make_road(eyes, outbox, templates(eyes, {"P44": people["P44"]}))
    _, ended, _ = take(road, walk(eyes, people["P44"][2]))
    (end,) = [end for end in ended if end.outcome is None]
    assert end.good_frames < 10 < end.frames


def test_a_frame_that_is_no_picture_is_refused_and_leaves_no_trace(eyes: Eyes, outbox: Outbox) -> None:
    road = make_road(eyes, outbox, {})
    for bad in (
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
    ):
        with pytest.raises(BadImage):
            road.walk(Frame(image=bad, captured_mono_ms=0, number=1))
    assert road.finish() == ()


def test_if_an_attendance_cannot_be_made_durable_the_road_says_so(
    eyes: Eyes, people: People, outbox: Outbox
) -> None:
    road = make_road(eyes, outbox, templates(eyes, {"P44": people["P44"]}))
    outbox._database.execute("PRAGMA query_only = 1")  # a disk that has become read-only
    with pytest.raises(CannotRecord, match="cannot be written"):
        take(road, walk(eyes, people["P44"][2]))


class Judge:
    """Liveness that says what it was told to say."""

    on = True

    def __init__(self, verdict: Verdict, unclear: Unclear | None = None) -> None:
        self.judgement = Judgement(verdict, liveness=0.1, frames=10, unclear=unclear)
        self.looked: list[int] = []
        self.forgotten: list[int] = []

    def look(self, image: Image, sighting: Sighting) -> None:
        self.looked.append(sighting.track)

    def judge(self, track: int) -> Judgement:
        return self.judgement

    def forget(self, track: int) -> None:
        self.forgotten.append(track)


def guarded_road(eyes: Eyes, outbox: Outbox, people: People, judge: Judge, interval_ms: int | None) -> Road:
    road = make_road(eyes, outbox, templates(eyes, {"P44": people["P44"]}))
    return dataclasses.replace(road, liveness=judge, attack_reports=Throttle(interval_ms))


def test_an_attendance_without_room_is_none_and_the_next_pass_is_no_repetition_of_it(
    eyes: Eyes, people: People, outbox: Outbox
) -> None:
    """Regression: it was counted and logged as an attendance, and whoever came back within a minute was in cooldown."""

    class FullAtFirst:
        refused = 0

        def attendance(self, attendance: Attendance, /) -> None:
            if not self.refused:
                self.refused += 1
                raise DiskFull("no room")

        def attack(self, attack: Attack, /) -> None:
            raise AssertionError

    enrolled = templates(eyes, {"P44": people["P44"][:2]})
    road = dataclasses.replace(make_road(eyes, outbox, enrolled), recorder=FullAtFirst())
    attendances, ended, _ = take(road, walk(eyes, people["P44"][2]))
    assert attendances == []
    assert [end.outcome for end in ended if end.good_frames >= 3] == [NoAttendance.NOT_RECORDED]
    attendances, ended, _ = take(road, walk(eyes, people["P44"][2], seed=2), start_ms=10_000)
    assert [attendance.person for attendance in attendances] == ["P44"]
    assert [end.outcome for end in ended if end.good_frames >= 3] == [None]


def test_a_picture_of_somebody_enrolled_is_an_attack_event_where_that_is_asked_for(
    eyes: Eyes, outbox: Outbox, people: People
) -> None:
    judge = Judge(Verdict.ATTACK)
    road = guarded_road(eyes, outbox, people, judge, interval_ms=0)
    attendances, ended, passages = take(road, walk(eyes, people["P44"][0]))
    assert attendances == []
    assert [end.outcome for end in ended] == [NoAttendance.ATTACK]
    (attack,) = [attack for passage in passages for attack in passage.attacks]
    assert attack.track in judge.looked
    assert judge.forgotten == [end.track for end in ended]
    (stored,) = outbox.waiting(0, 10)
    claims = payload(stored.token)
    assert claims["events"]["urn:hadir:event:attack:1"]["frames"] == 10
    assert "sub_id" not in claims


def test_attacks_are_counted_and_not_sent_where_nobody_asked_for_them(
    eyes: Eyes, outbox: Outbox, people: People
) -> None:
    road = guarded_road(eyes, outbox, people, Judge(Verdict.ATTACK), interval_ms=None)
    _, ended, passages = take(road, walk(eyes, people["P44"][0]))
    assert [end.outcome for end in ended] == [NoAttendance.ATTACK]
    assert sum(len(passage.attacks) for passage in passages) == 1
    assert outbox.waiting(0, 10) == ()


def test_who_cannot_be_told_from_a_picture_is_asked_to_come_closer_and_is_no_attendance(
    eyes: Eyes, outbox: Outbox, people: People
) -> None:
    road = guarded_road(eyes, outbox, people, Judge(Verdict.UNDECIDED, Unclear.TOO_SMALL), interval_ms=None)
    attendances, ended, passages = take(road, walk(eyes, people["P44"][0]))
    assert attendances == []
    assert [end.outcome for end in ended] == [NoAttendance.NOT_SURELY_LIVE]
    assert {reason for passage in passages for reason in passage.unclear} == {Unclear.TOO_SMALL}
