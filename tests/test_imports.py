"""Imports go one way, and what a role does not need it does not load."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RANKS = (
    {"edge"},
    {"edge.errors", "edge.records", "edge.steps", "edge.dumps", "edge.start"},
    {"edge.command", "edge.settings", "edge.files", "edge.toml", "edge.network"},
    {"edge.config"},
    {"edge.trust", "edge.board"},
    {"edge.camera", "edge.recognition", "edge.uplink"},
    {"edge.pipeline", "edge.loops", "edge.reports", "edge.annotate", "edge.clip", "edge.replay_words"},
    {"edge.commanding"},
    {"edge.assembly"},
    {"edge.evaluate", "edge.lookout"},
    {"edge.check", "edge.service", "edge.claiming"},
    {"edge.replay", "edge.claim_cli"},
    {"edge.__main__"},
    {"edge.entry"},
)
"""Each may import from those before it and from itself; rooms of one rank do not import each other."""


def rank(room: str) -> int:
    return next(number for number, rooms in enumerate(RANKS) if room in rooms)


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its room"
            names.add(node.module or "")
    return names


def room_of_file(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:2]) if parts[1] != "__init__" else parts[0]


@pytest.mark.parametrize("path", modules("edge"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_of_the_edge_imports_only_what_lies_below_it(path: Path) -> None:
    here = room_of_file(path)
    for name in imported(path):
        top = name.split(".")[0]
        assert top not in {"provisioning", "central", "benchmarks", "demo", "tests"}, f"{here} imports {name}"
        if top == "edge" and room_of(name) != here:
            assert rank(room_of(name)) < rank(here), f"{here} imports {name}"


OF_EDGE_FOR_CENTRAL = {
    *("edge", "edge.trust", "edge.errors", "edge.records", "edge.command", "edge.start"),
    # What reads configuration, keeps files whole, holds a broker to its bounds, or is a point of torture: none
    # knows a board.
    *("edge.settings", "edge.steps", "edge.files", "edge.network"),
    "edge.board.systemd",
}
"""Modules, and rooms as a whole."""


@pytest.mark.parametrize("path", modules("central"), ids=lambda path: str(path.relative_to(ROOT)))
def test_central_uses_of_the_edge_only_trust_and_what_knows_no_board(path: Path) -> None:
    for name in imported(path):
        if name.split(".")[0] == "edge":
            assert {name, room_of(name)} & OF_EDGE_FOR_CENTRAL, name


VENDORS = {
    "ai_edge_litert": {"edge/recognition/tflite.py"},
    "tflite_runtime": {"edge/recognition/tflite.py"},
    "paho": {
        "edge/uplink/connection.py",
        "edge/uplink/client.py",
        "edge/network.py",
        "central/consume.py",
    },
    "sqlite3": {
        "edge/uplink/database.py",
        "edge/uplink/glimpse.py",
        "edge/uplink/salvage.py",
        "provisioning/registry.py",
        "provisioning/schema.py",
        "provisioning/audit.py",
    },
    "jwt": {"edge/trust/jws.py"},
    "alembic": {
        "central/store/database.py",
        "central/store/migrations/env.py",
        "central/store/migrations/versions/0001_first.py",
        "central/store/migrations/versions/0002_registry_taken.py",
    },
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_each_vendor_is_imported_in_one_place_of_each_program(vendor: str) -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in ("edge", "central", "provisioning")
        for path in modules(package)
        if any(name.split(".")[0] == vendor for name in imported(path))
    }
    assert found <= VENDORS[vendor]


def test_central_runs_without_opencv_and_without_an_interpreter() -> None:
    program = (
        "import sys, central.cli\n"
        "loaded = {'cv2', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", ["edge", "central", "provisioning"])
def test_nothing_is_unpickled_and_no_shell_is_started(package: str) -> None:
    for path in modules(package):
        assert not imported(path) & {"pickle", "shelve", "marshal"}, path
        assert "shell=True" not in path.read_text(), path


def test_every_package_of_the_programs_is_installed() -> None:
    """In a checkout everything is found; only an installation shows what was forgotten."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("edge", "central", "provisioning")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert listed == found | {"hadir_models"}
