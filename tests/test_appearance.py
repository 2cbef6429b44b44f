"""Whether a track still shows the same person: one look may deceive, two that agree are somebody else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.recognition.appearance import REMEMBERED, Appearance, Comparison
from edge.records import Vector

SAME = 0.5
DIMENSIONS = 4


def axis(index: int) -> Vector:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[index] = 1
    return vector


def between(first: Vector, second: Vector, share: float) -> Vector:
    mixed = first * (1 - share) + second * share
    return np.asarray(mixed / np.linalg.norm(mixed), np.float32)


ANNA, BUDI, HAND, BLUR = (axis(index) for index in range(DIMENSIONS))
NAMES = {"anna": ANNA, "budi": BUDI, "hand": HAND, "blur": BLUR}


def told(appearance: Appearance, *names: str) -> list[tuple[list[str], list[str], bool]]:
    """What is accepted, what is dismissed, and whether it is another person, look by look."""
    return [spelt(appearance.compare(NAMES[name], SAME)) for name in names]


def spelt(found: Comparison) -> tuple[list[str], list[str], bool]:
    return [name_of(v) for v in found.accepted], [name_of(v) for v in found.dismissed], found.another


def name_of(vector: Vector) -> str:
    return next(name for name, known in NAMES.items() if vector is known)


def test_looks_that_are_alike_are_one_person() -> None:
    assert told(Appearance(), "anna", "anna", "anna") == [(["anna"], [], False)] * 3


def test_a_single_look_that_is_unlike_is_doubted_and_then_dismissed() -> None:
    *_, doubted, back = told(Appearance(), "anna", "anna", "hand", "anna")
    assert doubted == ([], [], False)
    assert back == (["anna"], ["hand"], False)


def test_two_unlike_looks_that_agree_are_another_person_and_both_count_for_them() -> None:
    *_, first, second, third = told(Appearance(), "anna", "anna", "budi", "budi", "budi")
    assert first == ([], [], False)
    assert second == (["budi", "budi"], [], True)
    assert third == (["budi"], [], False), "once it is theirs, the track is theirs"


def test_unlike_looks_that_agree_with_nothing_are_nobody() -> None:
    *_, second, back = told(Appearance(), "anna", "hand", "blur", "anna")
    assert second == ([], ["hand"], False)
    assert back == (["anna"], ["blur"], False)


def test_the_first_look_may_be_the_one_that_deceived() -> None:
    assert told(Appearance(), "hand", "anna", "anna")[-1] == (["anna", "anna"], [], True)


def test_somebody_who_slowly_turns_the_head_stays_the_same_person() -> None:
    """Each look is like those just before it, though the last is nothing like the first."""
    appearance = Appearance()
    for share in np.linspace(0, 1, 30):
        assert appearance.compare(between(ANNA, BUDI, float(share)), SAME).accepted
    assert float(ANNA @ BUDI) < SAME


@given(st.lists(st.sampled_from(sorted(NAMES)), max_size=60))
def test_what_is_accepted_together_is_always_of_one_person(names: list[str]) -> None:
    """However people alternate: between two changes of person no look of anybody else is accepted."""
    appearance = Appearance()
    shown: str | None = None
    looked = handed_on = 0
    for name in names:
        accepted, dismissed, another = told(appearance, name)[0]
        looked += 1
        handed_on += len(accepted) + len(dismissed)
        if another or shown is None:
            shown = accepted[0]
        assert set(accepted) <= {shown}
        assert shown not in dismissed
    assert handed_on + len(appearance.doubtful) == looked, "no look is lost"
    assert len(appearance.looks) <= REMEMBERED
