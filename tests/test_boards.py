"""A board's configuration as provisioning writes it is one that the board reads."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edge.config import CAMERA_KINDS, parse_config
from edge.errors import InputError
from edge.records import Direction
from provisioning.boards import board_config, check_board_config, write_board_config


def text(**changes: object) -> str:
    facts = {
        "device": "door-01",
        "site": "hq",
        "root_thumbprint": "0" * 43,
        "direction": Direction.IN,
        "broker_url": "mqtts://broker.local",
    }
    return board_config(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", CAMERA_KINDS)
def test_the_board_reads_it_for_each_kind_of_camera(tmp_path: Path, kind: str) -> None:
    path = write_board_config(tmp_path, text(camera=kind))
    config = parse_config(tomllib.loads(path.read_text()), path)
    assert (config.camera.kind, config.device.direction) == (kind, Direction.IN)


@pytest.mark.parametrize("url", ["ftp://x", "mqtt://user:secret@host", "mqtt://"])
def test_a_broker_that_a_board_would_refuse_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(InputError, match=r"broker\.url") as refused:
        check_board_config(text(broker_url=url))
    assert "secret" not in str(refused.value)


def test_sources_for_a_camera_that_has_none_are_refused() -> None:
    check_board_config(text(sources=["a.avi"]))
    with pytest.raises(InputError, match="sources"):
        check_board_config(text(camera="v4l2") + '\nsources = ["a.avi"]\n')
