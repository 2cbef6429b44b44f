"""The documents say what the code does."""

from __future__ import annotations

import configparser
import importlib
import itertools
import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import HadirError

ROOT = Path(__file__).parent.parent


PAGES = runpy.run_path(str(ROOT / "docs/reference.py"))["pages"]()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_configuration_is_what_the_code_says(page: str) -> None:
    assert (ROOT / "docs" / page).read_text() == PAGES[page], "run `make docs`"


def test_every_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text()
    for target in ("demo", "test", "develop", "check"):
        assert f"make {target}" in readme
        assert f"\n{target}:" in makefile


def test_every_document_that_the_readme_links_to_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    links = [part.split(")")[0] for part in readme.split("](")[1:]]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def rows_of(page: Path) -> list[list[str]]:
    """The cells of the first table of a page, without its head."""
    lines = page.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| "))
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[first:])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in itertools.islice(table, 2, None)]


def all_errors() -> Iterator[type[HadirError]]:
    waiting = [HadirError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        yield kind


EXIT_CODES = rows_of(ROOT / "docs/exit-codes.md")


def test_every_error_stands_in_the_row_of_its_exit_code() -> None:
    documented = {
        name: int(code) for code, _, names, _ in EXIT_CODES for name in names.replace("`", "").split()
    }
    assert documented == {
        kind.__name__: kind.exit_code for kind in all_errors() if kind.__module__ == "edge.errors"
    }


def test_no_exit_code_is_documented_that_nothing_gives() -> None:
    given = {kind.exit_code for kind in all_errors()} | {os.EX_IOERR}
    given |= {0, 1}  # a good end; `check` with a failure, and Python's own for a traceback
    given |= {2}  # argparse
    assert {int(row[0]) for row in EXIT_CODES} == given


def test_systemd_leaves_stopped_just_what_the_page_says() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "systemd/hadir-edge.service")
    service = unit["Service"]
    stopped = {row[0] for row in EXIT_CODES if row[3].startswith("leaves it stopped")}
    assert set(service["RestartPreventExitStatus"].split()) == stopped
    assert service["Restart"] == "always"
    assert all(
        f"after {service['RestartSec']} s" in row[3] for row in EXIT_CODES if row[0] not in stopped | {"0"}
    )


@pytest.mark.parametrize("module", ["edge.__main__", "provisioning.cli", "central.cli"])
def test_a_command_line_that_is_not_understood_ends_with_2(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(["no-such-command"])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
