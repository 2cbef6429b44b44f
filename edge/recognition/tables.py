"""A TOML table that is read strictly: every key must be known, and each is told with what is allowed for it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from edge.errors import ModelError


def open_table(file: Path) -> Table:
    """A whole TOML file. Raises ModelError where it cannot be read as one."""
    try:
        return Table(file, "", tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(
            f"{file}: cannot be read ({error.strerror}); reinstall, or name the folder that "
            f"holds {file.name} and the model files"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: not TOML: {error}; reinstall it") from error


class Table:
    """A TOML table of which every key must be taken, each with what is allowed for it."""

    def __init__(self, file: Path, path: str, values: Mapping[str, Any]) -> None:
        self.file = file
        self.path = path
        self._left = dict(values)
        self._known: list[str] = []

    def refuse(self, key: str, value: object, allowed: str) -> NoReturn:
        where = f"{self.path}.{key}" if self.path else key
        raise ModelError(f"{self.file}: {where} = {value!r}; allowed: {allowed}")

    def take(self, key: str, allowed: str, fits: Callable[[Any], bool]) -> Any:
        """The value of a key that must be there."""
        self._known.append(key)
        if key not in self._left:
            where = f"{self.path}.{key}" if self.path else key
            raise ModelError(f"{self.file}: {where} is missing; allowed: {allowed}")
        value = self._left.pop(key)
        if not fits(value):
            self.refuse(key, value, allowed)
        return value

    def has(self, key: str) -> bool:
        self._known.append(key)
        return key in self._left

    def text(self, key: str) -> str:
        return str(
            self.take(key, "a text that is not empty", lambda v: isinstance(v, str) and v.strip() != "")
        )

    def choice(self, key: str, choices: tuple[str, ...]) -> Any:
        return self.take(key, " or ".join(f'"{choice}"' for choice in choices), lambda v: v in choices)

    def sha256(self, key: str) -> str:
        return str(
            self.take(
                key,
                "64 lower-case hexadecimal digits",
                lambda v: isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v) is not None,
            )
        )

    def number(self, key: str, least: float, most: float) -> float:
        return float(self.take(key, f"a number from {least:g} to {most:g}", number_within(least, most)))

    def integer(self, key: str, least: int, most: int) -> int:
        return int(
            self.take(
                key,
                f"a whole number from {least} to {most}",
                lambda v: isinstance(v, int) and number_within(least, most)(v),
            )
        )

    def figure(self, key: str, least: float, most: float) -> float | None:
        return self.number(key, least, most) if self.has(key) else None

    def table(self, key: str) -> Table:
        values = self.take(key, "a table", lambda v: isinstance(v, dict))
        return Table(self.file, f"{self.path}.{key}" if self.path else key, values)

    def tables(self, key: str) -> dict[str, Table]:
        """The tables in a table of tables, by name."""
        parent = self.table(key)
        if not parent._left:
            self.refuse(key, {}, "at least one table")
        return {name: parent.table(name) for name in list(parent._left)}

    def done(self) -> None:
        """Refuse what nobody took."""
        for key, value in self._left.items():
            self.refuse(key, value, f"no such key here; known: {', '.join(sorted(set(self._known)))}")


def number_within(least: float, most: float) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most

    return fits
