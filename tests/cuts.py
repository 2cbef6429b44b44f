"""Power cuts inside a test's own process, at a named point."""

from __future__ import annotations

from enum import StrEnum

import pytest

from edge import steps


class Cut(BaseException):
    """The power goes. Nothing that is written for errors catches it."""


def cut_once(monkeypatch: pytest.MonkeyPatch, point: StrEnum) -> None:
    """The first time that this point is reached, the power goes; after that there is power."""
    done: list[StrEnum] = []

    def watcher(step: StrEnum) -> None:
        if step is point and not done:
            done.append(step)
            raise Cut

    monkeypatch.setattr(steps, "watcher", watcher)
