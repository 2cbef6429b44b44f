"""When evidence is enough, and why a track did not become an attendance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge.config import DecideConfig
from edge.recognition.decide import Decider
from edge.recognition.gallery import make_gallery
from edge.recognition.match import best_match, fuse, template_of
from edge.records import (
    Attack,
    Attendance,
    Box,
    Face,
    Judgement,
    NoAttendance,
    Sighting,
    Standing,
    TrackEnd,
    Unclear,
    Vector,
    Verdict,
)

DIMENSIONS = 8
THRESHOLD = 0.5
FACE = Face(box=Box(0, 0, 60, 70), keypoints=np.zeros((5, 2), np.float32), confidence=0.9)


def axis(index: int) -> Vector:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[index] = 1
    return vector


def toward(similarities: dict[int, float]) -> Vector:
    """A unit vector with these cosines to the axes; what is left points nowhere near anybody."""
    vector = np.zeros(DIMENSIONS, np.float32)
    for index, similarity in similarities.items():
        vector[index] = similarity
    vector[-1] = np.sqrt(1 - float(vector @ vector))
    return vector


ANNA, BUDI = axis(0), axis(1)
STRANGER = toward({0: 0.2, 1: 0.1})


def decider(**settings: float) -> Decider:
    gallery = make_gallery(1, "e" * 64, DIMENSIONS, {"E1": ANNA, "E2": BUDI})
    return Decider(DecideConfig(**settings), gallery, THRESHOLD)  # type: ignore[arg-type]


def live() -> Judgement:
    return Judgement(Verdict.LIVE, liveness=0.9, frames=5, unclear=None)


def show(decider: Decider, vectors: list[Vector], track: int = 1, start_ms: int = 0) -> list[Attendance]:
    """Every frame of a track whose face is good; what became an attendance."""
    made = []
    for i, vector in enumerate(vectors):
        sighting = Sighting(track=track, face=FACE, seen_mono_ms=start_ms + 100 * i)
        outcome = decider.weigh(sighting, vector, live) if decider.wants(sighting) else None
        if outcome is not None:
            assert isinstance(outcome, Attendance)
            made.append(outcome)
    return made


def test_three_good_frames_of_somebody_enrolled_are_one_attendance() -> None:
    judge = decider()
    (attendance,) = show(judge, [ANNA] * 6)
    assert (attendance.person, attendance.frames, attendance.seen_mono_ms) == ("E1", 3, 200)
    end = judge.end(1)
    assert end == TrackEnd(1, frames=6, good_frames=3, outcome=None, best_similarity=end.best_similarity)
    assert end.best_similarity == pytest.approx(1)


def test_two_frames_are_never_enough() -> None:
    judge = decider()
    assert show(judge, [ANNA, ANNA]) == []
    assert judge.end(1).outcome is NoAttendance.TOO_SHORT


def test_a_stranger_ends_as_no_match() -> None:
    judge = decider()
    assert show(judge, [STRANGER] * 5) == []
    end = judge.end(1)
    assert (end.outcome, end.good_frames) == (NoAttendance.NO_MATCH, 5)
    assert end.best_similarity < THRESHOLD


def test_fusion_recognises_whom_no_single_frame_would() -> None:
    """Frames that miss in different directions point to the person together."""
    frames = [toward({0: 0.45, index: 0.6}) for index in (2, 3, 4)]
    judge = decider()
    assert all(float(frame @ ANNA) < THRESHOLD for frame in frames)
    assert [attendance.person for attendance in show(judge, frames)] == ["E1"]


def test_somebody_between_two_people_is_nobody() -> None:
    judge = decider()
    assert show(judge, [toward({0: 0.62, 1: 0.6})] * 4) == []
    assert judge.end(1).outcome is NoAttendance.AMBIGUOUS


def test_an_identity_switch_inside_a_track_is_resolved_toward_nobody() -> None:
    judge = decider()
    assert show(judge, [ANNA, BUDI, ANNA, ANNA, ANNA, ANNA, ANNA, ANNA, ANNA]) == []
    end = judge.end(1)
    assert end.outcome is NoAttendance.AMBIGUOUS
    assert end.good_frames == 3, "what is settled costs no more embeddings"


def test_a_frame_that_showed_another_enrolled_person_makes_the_track_nobody() -> None:
    judge = decider()
    assert show(judge, [ANNA, ANNA]) == []
    sighting = Sighting(track=1, face=FACE, seen_mono_ms=200)
    judge.contradict(sighting, BUDI)
    assert show(judge, [ANNA] * 4, start_ms=300) == []
    assert judge.end(1).outcome is NoAttendance.AMBIGUOUS


def test_a_frame_that_showed_nobody_known_is_only_left_out() -> None:
    """A hand before the face: the frame counts neither for the person nor against."""
    judge = decider()
    show(judge, [ANNA])
    judge.contradict(Sighting(track=1, face=FACE, seen_mono_ms=100), STRANGER)
    assert show(judge, [ANNA], start_ms=200) == [], "two frames are not three"
    (attendance,) = show(judge, [ANNA], start_ms=300)
    assert attendance.frames == 3
    assert judge.end(1).good_frames == 4


def test_frames_that_never_agree_end_as_ambiguous_and_not_as_too_few() -> None:
    judge = decider()
    show(judge, [STRANGER])
    for index in range(2):
        judge.contradict(Sighting(track=1, face=FACE, seen_mono_ms=index), axis(3 + index))
    assert judge.end(1).outcome is NoAttendance.AMBIGUOUS


def test_what_is_seen_of_a_track_after_its_attendance_changes_nothing_of_it() -> None:
    judge = decider()
    assert len(show(judge, [ANNA] * 3)) == 1
    sighting = Sighting(track=1, face=FACE, seen_mono_ms=10**6)
    assert judge.weigh(sighting, ANNA, live) is None, "even after the cooldown: they are still standing there"
    judge.contradict(sighting, BUDI)
    assert judge.end(1).outcome is None


def test_frames_are_counted_for_the_person_whom_they_showed() -> None:
    judge = decider()
    show(judge, [ANNA] * 5)
    judge.part(1, 2, frames=2)
    assert (judge.end(1).frames, judge.end(2).frames) == (3, 2)


def test_the_same_person_within_the_cooldown_is_one_attendance() -> None:
    judge = decider(cooldown_s=60)
    assert len(show(judge, [ANNA] * 3, track=1, start_ms=0)) == 1
    assert show(judge, [ANNA] * 3, track=2, start_ms=59_000) == []
    assert judge.end(2).outcome is NoAttendance.COOLDOWN
    assert len(show(judge, [ANNA] * 3, track=3, start_ms=60_200)) == 1
    assert len(show(judge, [BUDI] * 3, track=4, start_ms=60_300)) == 1, "another person has no cooldown"


def test_who_passed_before_a_restart_is_still_in_cooldown() -> None:
    gallery = make_gallery(1, "e" * 64, DIMENSIONS, {"E1": ANNA, "E2": BUDI})
    judge = Decider(DecideConfig(cooldown_s=60), gallery, THRESHOLD, {"E1": -20_000})
    assert show(judge, [ANNA] * 3, track=1, start_ms=0) == []
    assert judge.end(1).outcome is NoAttendance.COOLDOWN
    assert len(show(judge, [BUDI] * 3, track=2, start_ms=0)) == 1
    assert len(show(judge, [ANNA] * 3, track=3, start_ms=40_000)) == 1


def test_a_stranger_who_stays_costs_no_more_after_a_while() -> None:
    judge = decider(max_good_frames=10)
    show(judge, [STRANGER] * 50)
    end = judge.end(1)
    assert (end.frames, end.good_frames) == (50, 10)


def test_only_the_latest_frames_are_fused_so_that_a_bad_beginning_is_forgotten() -> None:
    judge = decider(fused_frames=3)
    assert [made.person for made in show(judge, [STRANGER] * 5 + [ANNA] * 3)] == ["E1"]


def test_where_no_face_was_good_the_most_frequent_reason_is_given() -> None:
    judge = decider()
    sighting = Sighting(track=1, face=FACE, seen_mono_ms=0)
    for reason in (NoAttendance.TOO_BLURRED, NoAttendance.TOO_SMALL, NoAttendance.TOO_SMALL):
        judge.wants(sighting)
        judge.reject(sighting, reason)
    assert judge.end(1).outcome is NoAttendance.TOO_SMALL


def test_an_empty_gallery_knows_nobody() -> None:
    judge = Decider(DecideConfig(), make_gallery(1, "e" * 64, DIMENSIONS, {}), THRESHOLD)
    assert show(judge, [ANNA] * 3) == []
    assert judge.end(1).outcome is NoAttendance.NO_MATCH


def test_with_one_person_enrolled_the_runner_up_is_as_far_as_can_be() -> None:
    match = best_match(ANNA, make_gallery(1, "e" * 64, DIMENSIONS, {"E1": ANNA}))
    assert match is not None
    assert match.runner_up_similarity == -1.0


def test_the_fusion_of_vectors_is_a_unit_vector() -> None:
    assert float(np.linalg.norm(fuse([ANNA, BUDI, STRANGER]))) == pytest.approx(1)
    assert template_of([ANNA]) == pytest.approx(ANNA)


def test_of_two_vectors_neither_counts_for_more() -> None:
    half = template_of([ANNA, BUDI])
    assert float(half @ ANNA) == pytest.approx(float(half @ BUDI))


def test_a_photograph_of_somebody_else_among_three_hardly_moves_a_template() -> None:
    again = template_of([ANNA, ANNA, BUDI])
    towards_anna, towards_budi = (float(again @ vector) for vector in (ANNA, BUDI))
    plain = (2 * ANNA + BUDI) / np.linalg.norm(2 * ANNA + BUDI)
    assert towards_anna > 0.99 > float(plain @ ANNA)
    assert towards_budi < float(plain @ BUDI)


def test_vectors_that_agree_in_nothing_still_have_a_mean() -> None:
    opposed = template_of([ANNA, -ANNA, BUDI])
    assert np.isfinite(opposed).all()
    assert float(opposed @ BUDI) == pytest.approx(1, abs=1e-3)


def test_whoever_watches_sees_how_a_track_stands_and_changes_nothing_by_looking() -> None:
    deciding = decider()
    sighting = Sighting(track=1, face=FACE, seen_mono_ms=0)
    deciding.wants(sighting)
    deciding.reject(sighting, NoAttendance.TOO_SMALL)
    too_small = Standing(0, NoAttendance.TOO_SMALL, None, NoAttendance.TOO_SMALL, open=True)
    assert deciding.standing(1) == deciding.standing(1) == too_small
    show(deciding, [ANNA, ANNA])
    assert deciding.standing(1) == Standing(2, None, None, NoAttendance.TOO_SHORT, open=True)
    (attendance,) = show(deciding, [ANNA])
    standing = deciding.standing(1)
    assert (standing.outcome, standing.open) == (None, False)
    assert standing.match is not None
    assert (standing.match.person, standing.match.similarity) == ("E1", attendance.similarity)
    assert deciding.end(1).frames == 4


def judged(verdict: Verdict, unclear: Unclear | None = None) -> Judgement:
    return Judgement(verdict, liveness=0.1, frames=10, unclear=unclear)


def feed(judge: Decider, alive: Callable[[], Judgement], frames: int) -> list[Attendance | Attack | None]:
    sightings = [Sighting(track=1, face=FACE, seen_mono_ms=100 * i) for i in range(frames)]
    return [judge.weigh(sighting, ANNA, alive) for sighting in sightings if judge.wants(sighting)]


def test_a_picture_of_somebody_enrolled_is_one_attack_and_no_attendance() -> None:
    judge = decider()
    outcomes = feed(judge, lambda: judged(Verdict.ATTACK), frames=8)
    assert outcomes == [None, None, Attack(track=1, frames=10, seen_mono_ms=200)]
    assert not judge.standing(1).open, "a track that was an attack is not judged again"
    assert judge.end(1).outcome is NoAttendance.ATTACK


def test_who_cannot_be_told_from_a_picture_is_no_attendance_until_it_can() -> None:
    judge = decider()
    assert set(feed(judge, lambda: judged(Verdict.UNDECIDED, Unclear.TOO_SMALL), frames=5)) == {None}
    standing = judge.standing(1)
    assert standing.outcome is NoAttendance.NOT_SURELY_LIVE
    assert standing.open
    assert standing.judgement is not None
    assert standing.judgement.unclear is Unclear.TOO_SMALL
    (attendance,) = feed(judge, live, frames=1)
    assert isinstance(attendance, Attendance)


def test_liveness_is_asked_only_about_who_would_become_an_attendance() -> None:
    def never() -> Judgement:
        raise AssertionError("nobody needs to know")

    judge = decider()
    for index, vector in enumerate([STRANGER] * 6):
        judge.weigh(Sighting(track=1, face=FACE, seen_mono_ms=100 * index), vector, never)
    assert judge.end(1).outcome is NoAttendance.NO_MATCH
    show(judge, [ANNA] * 3, track=2)
    for index in range(4):
        judge.weigh(Sighting(track=3, face=FACE, seen_mono_ms=1000 + 100 * index), ANNA, never)
    assert judge.end(3).outcome is NoAttendance.COOLDOWN


def test_who_resembles_somebody_needs_more_than_the_others() -> None:
    people = {"E1": ANNA, "E2": BUDI}
    gallery = make_gallery(1, "e" * 64, DIMENSIONS, people, raised={"E1": 0.7})
    judge = Decider(DecideConfig(), gallery, THRESHOLD)
    assert show(judge, [toward({0: 0.65})] * 6, track=1) == []
    assert judge.end(1).outcome is NoAttendance.NO_MATCH
    assert [made.person for made in show(judge, [toward({0: 0.75})] * 6, track=2)] == ["E1"]
    assert [made.person for made in show(judge, [toward({1: 0.65})] * 6, track=3)] == ["E2"]


def test_a_raised_threshold_below_the_general_one_lowers_nothing() -> None:
    gallery = make_gallery(1, "e" * 64, DIMENSIONS, {"E1": ANNA}, raised={"E1": 0.1})
    assert show(Decider(DecideConfig(), gallery, THRESHOLD), [toward({0: 0.3})] * 6) == []


def test_who_is_recognised_from_afar_is_not_given_up_before_they_can_be_judged() -> None:
    judge = decider(max_good_frames=6)
    assert set(feed(judge, lambda: judged(Verdict.UNDECIDED, Unclear.TOO_SMALL), frames=40)) == {None}
    (attendance,) = feed(judge, live, frames=1)
    assert isinstance(attendance, Attendance)
