"""How every command ends: one line and a documented code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.command import INTERRUPTED, carry_out
from edge.errors import ConfigError, HadirError
from provisioning.fleet import open_fleet


def raising(error: BaseException) -> int:
    def act() -> int:
        raise error

    return carry_out("hadir-x", act)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("edge.toml: wrong"), ConfigError.exit_code, "hadir-x: edge.toml: wrong\n"),
        (HadirError("odd"), 70, "hadir-x: odd\n"),
        (KeyboardInterrupt(), INTERRUPTED, "hadir-x: interrupted\n"),
    ],
)
def test_an_error_is_one_line_and_its_own_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(error) == code
    assert capsys.readouterr().err == said


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())


def test_what_it_returns_is_the_exit_code_and_nothing_is_success() -> None:
    assert carry_out("hadir-x", lambda: 3) == 3
    assert carry_out("hadir-x", lambda: None) == 0


def test_an_output_that_takes_nothing_is_said_and_no_traceback() -> None:
    # /dev/full refuses every byte, as a full disk does.
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "tests.shouting", "hadir-x"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == os.EX_IOERR
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


def test_init_whose_output_nobody_reads_leaves_a_whole_fleet(tmp_path: Path) -> None:
    """Regression: what is printed comes after what is written."""
    fleet = tmp_path / "fleet"
    command = [
        sys.executable,
        "-m",
        "provisioning.cli",
        "init",
        str(fleet),
    ]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == os.EX_IOERR
    assert open_fleet(fleet).keys.version == 1
