"""Labelled folders of live people and attacks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.walkpast import write_clip
from edge.errors import InputError
from edge.evaluate.presentations import open_presentations


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((40, 40, 3), level, np.uint8))
    return path


def clip(path: Path, frames: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, (np.full((64, 64, 3), 20 * number, np.uint8) for number in range(frames)), 10.0)
    return path


def test_labels_are_folders_and_kinds_of_attacks_are_folders_in_them(tmp_path: Path) -> None:
    clip(tmp_path / "live/somebody.avi")
    for number in (2, 10, 1):
        picture(tmp_path / f"live/anna/{number}.png", number)
    picture(tmp_path / "live/alone.png")
    clip(tmp_path / "attack/phone/one.avi", frames=4)
    picture(tmp_path / "attack/print/boss/1.jpg")
    picture(tmp_path / "attack/loose.png")
    picture(tmp_path / "mask/1.png")
    (tmp_path / "attack/print/notes.txt").write_text("not a picture")
    found = {one.name: one for one in open_presentations(tmp_path)}
    assert {name: one.kind for name, one in found.items()} == {
        "live/alone.png": "live",
        "live/anna": "live",
        "live/somebody.avi": "live",
        "attack/loose.png": "attack",
        "attack/phone/one.avi": "phone",
        "attack/print/boss": "print",
        "mask/1.png": "mask",
    }
    assert [int(image[0, 0, 0]) for _, image in found["live/anna"].frames()] == [1, 2, 10]
    assert len(list(found["attack/phone/one.avi"].frames())) == 4
    assert [one.live for one in open_presentations(tmp_path)] == [True] * 3 + [False] * 4
    assert not found["live/somebody.avi"].photographs
    assert found["live/anna"].photographs


def test_videos_in_one_persons_folder_stay_together(tmp_path: Path) -> None:
    for name in ("a.avi", "b.avi"):
        clip(tmp_path / "live/anna" / name)
    first, second = open_presentations(tmp_path)
    assert first.name != second.name
    assert first.group == second.group


def test_an_index_names_pictures_their_labels_and_whose_they_are(tmp_path: Path) -> None:
    for name in ("p/2.png", "p/10.png", "q.png"):
        picture(tmp_path / name)
    rows = ["p/10.png,live,S1,1", "p/2.png,live,S1,1", "q.png,print,S1,2"]
    (tmp_path / "index.csv").write_text("\n".join(["file,label,subject,session", *rows]))
    live, attack = open_presentations(tmp_path)
    assert (live.kind, attack.kind) == ("live", "print")
    assert live.group == attack.group == "S1"
    assert len(list(live.frames())) == 2


def test_an_index_without_people_makes_each_picture_a_presentation(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    (tmp_path / "index.csv").write_text("file,label\na.png,live\nb.png,live\n")
    assert len(open_presentations(tmp_path)) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name,kind\na,b\n", "must name the columns file and label"),
        ("file,label\n../../etc/passwd,live\n", "line 2: ../../etc/passwd lies outside"),
        ("file,label\na.png,live\nb.png\n", "line 3: must have a file and a label"),
        ("file,label\n,live\n", "line 2: must have a file and a label"),
        (f"file,label\n{'a' * 200_000},live\n", "cannot be read"),
        ("", "the file is empty"),
        ("\udcff", "not UTF-8 text"),
    ],
)
def test_an_index_that_cannot_be_meant_is_refused_with_the_place(
    tmp_path: Path, text: str, complaint: str
) -> None:
    """Regression: a line that is cut short, and a file that is no text, ended in a traceback."""
    (tmp_path / "index.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=complaint):
        open_presentations(tmp_path)


def test_a_folder_without_labels_says_what_it_should_hold(tmp_path: Path) -> None:
    picture(tmp_path / "one.png")
    with pytest.raises(InputError, match=r"holds no presentations; put clips or pictures into live/"):
        open_presentations(tmp_path)
