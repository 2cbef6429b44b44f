"""Writes docs/configuration.md from `edge/config.py`, so that the two cannot differ (`make docs`)."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_type_hints

from edge import config
from edge.settings import allowed

TARGET = Path(__file__).with_name("configuration.md")

INTRODUCTION = """\
# Configuration of a board

One TOML file, by default `/etc/hadir/edge.toml`; `hadir-provision init` writes one for each board. A key that is left
out has the default given here. Relative paths are relative to the file's own folder. An unknown key, a wrong type or a
value that is not allowed stops the start with a message that names all of it. This page is made from `edge/config.py`
by `make docs`.
"""


def configuration() -> str:
    """The whole page."""
    sections = get_type_hints(config.Config)
    return INTRODUCTION + "".join(_section(name, kind) for name, kind in sections.items())


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
    TARGET.write_text(configuration(), encoding="utf-8")
