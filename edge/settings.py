"""The machinery of configuration files: one TOML file into one frozen dataclass per section.

Each key's type and bounds stand in its annotation. An unknown key, a wrong type or a value
out of bounds is a message that names file, key, value and what is allowed, since a program
that silently ignores a misspelt setting is worse than one that says so. Relative paths are
relative to the file's own folder. Secrets are paths, never values.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Protocol, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from edge.errors import ConfigError

T = TypeVar("T")

MAX_CONFIG_BYTES = 64 * 1024
"""A hand-written file is a few kilobytes; more is a mistake or an attack."""


MAX_WHOLE = 2**53
"""Whole numbers up to here are the same as floats (IEEE 754); none that is allowed is larger."""

MAX_SHOWN = 200
"""So much of a wrong value is repeated in a message."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both allowed."""

    low: float
    high: float

    def admits(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)  # NaN compares false

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True, init=False)
class OneOf:
    """One of a few words or whole numbers."""

    words: tuple[str | int, ...]

    def __init__(self, *words: str | int) -> None:
        object.__setattr__(self, "words", words)

    def admits(self, value: Any) -> bool:
        return value in self.words

    def __str__(self) -> str:
        return "one of " + ", ".join(
            f'"{word}"' if isinstance(word, str) else str(word) for word in self.words
        )


@dataclass(frozen=True, slots=True)
class Like:
    """Strings that match a pattern as a whole."""

    pattern: str

    def admits(self, value: Any) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return f"a string like {self.pattern}"


def read_document(path: Path) -> dict[str, Any]:
    """The tables of a configuration file.

    Raises:
        ConfigError: missing, too large or not TOML; names the file.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name it with --config") from error
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; a configuration is a few kilobytes")
    try:
        document: dict[str, Any] = tomllib.loads(text.decode("utf-8-sig"))
    except ValueError as error:  # not TOML, not UTF-8, or an integer of more digits than Python reads
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from error
    return document


def parse_document(kind: type[T], document: dict[str, Any], path: Path) -> T:
    """Turn a document into `kind`, a dataclass of sections that are dataclasses themselves.

    `path` resolves relative paths and names the file in errors. Raises ConfigError.
    """
    sections = get_type_hints(kind)
    for name in document:
        if name not in sections:
            raise ConfigError(f"{path}: unknown section [{name}]; allowed are {', '.join(sections)}")
    built = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # a dataclass, as it says above
        if field.name in document or field.default_factory is dataclasses.MISSING:
            built[field.name] = _section(sections[field.name], field.name, document.get(field.name, {}), path)
    return kind(**built)


class BrokerSettings(Protocol):
    """What any program's [broker] section has."""

    @property
    def url(self) -> str: ...
    @property
    def ca_file(self) -> Path | None: ...
    @property
    def cert_file(self) -> Path | None: ...
    @property
    def private_key_file(self) -> Path | None: ...


def check_broker(broker: BrokerSettings, path: Path) -> None:
    """What no single key of a [broker] section can show to be wrong. Raises ConfigError."""
    if not _has_address(broker.url):
        raise ConfigError(
            f'{path}: broker.url = "{broker.url}": must be mqtt:// or mqtts://, a host, and where it is not the '
            "usual one a port from 1 to 65535"
        )
    if (broker.cert_file is None) != (broker.private_key_file is None):
        raise ConfigError(
            f"{path}: broker.cert_file and broker.private_key_file belong together; name both or none"
        )
    if broker.url.startswith("mqtt://") and (broker.ca_file or broker.cert_file):
        raise ConfigError(
            f'{path}: broker.url = "{broker.url}": ca_file and cert_file need TLS, so write mqtts://'
        )


def _has_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return bool(address.hostname) and address.port != 0
    except ValueError:
        return False


def allowed(hint: Any) -> str:
    """What may be written for a key of this type, in words."""
    return _Setting.of(hint).allowed


def _shown(value: Any) -> str:
    """A value as it is repeated in a message: not at length, and without the password of a URL."""
    try:
        text = re.sub(r"//\S*@", "//…@", repr(value))
    except ValueError:  # sys.set_int_max_str_digits
        return "a number of thousands of digits"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def _section(kind: type, name: str, table: Any, path: Path) -> Any:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name} = {_shown(table)}: must be a section, written [{name}]")
    hints = get_type_hints(kind, include_extras=True)
    for key in table:
        if key not in hints:
            raise ConfigError(f"{path}: unknown key {name}.{key}; allowed are {', '.join(hints)}")
    values = {}
    for field in dataclasses.fields(kind):
        where = f"{path}: {name}.{field.name}"
        setting = _Setting.of(hints[field.name])
        if field.name in table:
            values[field.name] = setting.parse(table[field.name], where, path.parent)
        elif field.default is dataclasses.MISSING:
            raise ConfigError(f"{where}: is missing and has no default; it must be {setting.allowed}")
        elif isinstance(field.default, Path):
            values[field.name] = path.parent / field.default
    return kind(**values)


@dataclass(frozen=True, slots=True)
class _Setting:
    """The type of one key and the rule it obeys, as its annotation states them."""

    kind: Any
    rule: Range | OneOf | Like | None

    @classmethod
    def of(cls, hint: Any) -> _Setting:
        if get_origin(hint) is Annotated:
            kind, rule = get_args(hint)
            return cls(kind, rule)
        if isinstance(hint, UnionType):  # "X | None": a key that may be left out; TOML has no null
            hint = next(kind for kind in get_args(hint) if kind is not NoneType)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return cls(hint, OneOf(*hint))
        return cls(get_origin(hint) or hint, None)

    @property
    def allowed(self) -> str:
        if self.rule is not None:
            return (
                str(self.rule).replace("a number", "a whole number") if self.kind is int else str(self.rule)
            )
        return {bool: "true or false", Path: "a path", tuple: "a list of paths or URLs"}[self.kind]

    def parse(self, value: Any, where: str, folder: Path) -> Any:
        """The value as the dataclass wants it; ConfigError where it is not allowed."""
        if self.kind is float and type(value) is int and abs(value) <= MAX_WHOLE:
            value = float(value)
        if not self._admits(value):
            raise ConfigError(f"{where} = {_shown(value)}: must be {self.allowed}")
        if self.kind is Path:
            return folder / value
        if self.kind is tuple:
            return tuple(item if "://" in item else str(folder / item) for item in value)
        return self.kind(value)

    def _admits(self, value: Any) -> bool:
        if self.kind is Path:
            return isinstance(value, str) and value != "" and "\0" not in value
        if self.kind is tuple:
            return isinstance(value, list) and all(
                isinstance(item, str) and item and "\0" not in item for item in value
            )
        plain = str if issubclass(self.kind, Enum) else self.kind
        return type(value) is plain and (self.rule is None or self.rule.admits(value))
