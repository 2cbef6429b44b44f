"""One daemon a board."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.board.alone import LOCK_FILE, alone_on
from edge.errors import AlreadyRunning, CannotRecord
from tests.conftest import unprivileged


def test_a_second_daemon_on_the_same_state_is_refused_and_the_next_one_is_not(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with alone_on(state):
        assert (state / LOCK_FILE).stat().st_mode & 0o777 == 0o600
        with pytest.raises(AlreadyRunning, match="another hadir-edge") as refusal, alone_on(state):
            pass
        assert str(state) in str(refusal.value)
    with alone_on(state):
        pass


def test_two_boards_with_states_of_their_own_do_not_meet(tmp_path: Path) -> None:
    with alone_on(tmp_path / "one"), alone_on(tmp_path / "two"):
        assert (tmp_path / "one" / LOCK_FILE).exists()


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o500)
    with unprivileged(), pytest.raises(CannotRecord, match="Permission denied"), alone_on(shut / "state"):
        pass
