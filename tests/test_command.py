"""How every command ends: one line and a documented code."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.command import carry_out
from edge.errors import ConfigError, HadirError
from edge.start import INTERRUPTED, begin
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


ENTRIES = {
    "edge.entry": "edge.config",
    "central.__main__": "central.consume",
    "provisioning.__main__": "provisioning.fleet",
}
"""By where a command begins, a module that it imports in the middle of all others."""

INTERRUPTING = """
import os, signal, sys

_, begun, interrupted = sys.argv

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == interrupted:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
entry = __import__(begun, fromlist=["main"])
assert interrupted not in sys.modules
sys.argv[1:] = ["--version"]
sys.exit(entry.main())
"""


def interrupted(entry: str, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", INTERRUPTING, entry, ENTRIES[entry]],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("entry", ENTRIES)
def test_interrupted_while_it_is_imported_a_command_ends_with_130_and_without_a_word(entry: str) -> None:
    """Regression: Ctrl-C in its first third of a second showed a traceback of forty lines."""
    ended = interrupted(entry)
    assert (ended.returncode, ended.stdout, ended.stderr) == (INTERRUPTED, "", "")


def test_an_interrupt_that_is_ignored_where_it_was_started_is_ignored() -> None:
    ended = interrupted("provisioning.__main__", "sh", "-c", 'trap "" INT; exec "$@"', "sh")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("hadir-provision ")


def test_interrupted_before_its_command_line_is_read_it_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupting.py").write_text("def main():\n    raise KeyboardInterrupt\n")
    (tmp_path / "ending.py").write_text("def main():\n    return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert begin("interrupting") == INTERRUPTED
    assert begin("ending") == 3


def test_the_commands_that_are_installed_begin_there() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    assert {line.split(" = ")[1] for line in scripts if line} == {f"{entry}:main" for entry in ENTRIES}


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


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_stream_that_was_closed_is_no_error_and_no_file_gets_its_number(
    closed: tuple[int, ...], tmp_path: Path
) -> None:
    """Regression: `>&-` ended with a traceback, and a database could have been opened in its place."""
    program = (
        "import os, sys, pathlib\n"
        "from edge.command import carry_out\n"
        "def act():\n"
        "    number = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "    print('said'); print('said', file=sys.stderr); os.write(1, b'by a library'); os.write(2, b'and')\n"
        "    return 0 if number > 2 else 3\n"
        "sys.exit(carry_out('hadir-x', act))\n"
    )
    file = tmp_path / "state"
    closing = " ".join(f"{number}>&-" for number in closed)
    result = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-c", program, str(file)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, file.read_bytes()) == (0, b"")
    assert "Traceback" not in result.stderr


def test_a_name_that_is_no_utf_8_can_be_printed() -> None:
    """Regression: a traceback at the end of a long evaluation."""
    program = (
        "import sys; from edge.command import carry_out; sys.exit(carry_out('x', lambda: print('\\udcff')))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "\\udcff\n")


def test_a_file_that_cannot_be_used_is_named_with_what_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: it said `[Errno 13]`, and to check where the output goes."""
    assert raising(PermissionError(13, "Permission denied", "/var/lib/hadir/settings.toml")) == os.EX_IOERR
    assert capsys.readouterr().err == (
        "hadir-x: /var/lib/hadir/settings.toml: Permission denied; check who may read and write it, and the disk\n"
    )


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
