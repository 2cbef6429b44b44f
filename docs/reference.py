"""Writes the pages of configuration from the code, so that the two cannot differ (`make docs`)."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_type_hints

from central.config import CentralConfig
from edge import config
from edge.settings import allowed

FOLDER = Path(__file__).parent

BOARD = """\
# Configuration of a board

One TOML file, by default `/etc/hadir/edge.toml`; `hadir-provision init` writes one for each board. A key that is left
out has the default given here. Relative paths are relative to the file's own folder. An unknown key, a wrong type or a
value that is not allowed stops the start with a message that names all of it. This page is made from `edge/config.py`
by `make docs`.
"""


SERVER = """\
# Configuration of the server

One TOML file, by default `/etc/hadir/central.toml`; `hadir-provision consumer add` writes one for each consumer. A key
that is left out has the default given here. Relative paths are relative to the file's own folder. An unknown key, a
wrong type or a value that is not allowed stops the start with a message that names all of it. What each part is for,
and how to run the server: [central.md](central.md). This page is made from `central/config.py` by `make docs`.
"""


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    return {
        "configuration.md": _page(BOARD, config.Config),
        "central-configuration.md": _page(SERVER, CentralConfig),
    }


def _page(introduction: str, kind: type) -> str:
    sections = get_type_hints(kind)
    return introduction + "".join(_section(name, section) for name, section in sections.items())


def _section(name: str, kind: Any) -> str:
    notes = _notes(kind)
    hints = get_type_hints(kind, include_extras=True)
    lines = [
        f"\n## [{name}]\n",
        f"{kind.__doc__}\n",
        "| key | default | allowed | |",
        "| --- | --- | --- | --- |",
    ]
    for field in dataclasses.fields(kind):
        permitted = allowed(hints[field.name]).replace("|", "\\|")
        lines.append(f"| `{field.name}` | {_default(field)} | {permitted} | {notes.get(field.name, '')} |")
    return "\n".join(lines) + "\n"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "must be given"
    if field.default is None:
        return "none"
    value = field.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value:g}`"
    return "`[]`" if value == () else f'`"{value}"`'


def _notes(kind: Any) -> dict[str, str]:
    """The sentence that stands under each field in the source."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    notes = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(after.value, ast.Constant)
            notes[field.target.id] = " ".join(str(after.value.value).split())
    return notes


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
