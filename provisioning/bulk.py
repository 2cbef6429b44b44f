"""Many boards at once, from a CSV file: all of its lines are looked at before the first board is registered."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from edge.config import CAMERA_KINDS
from edge.errors import InputError
from edge.records import Direction
from edge.trust.identity import check_device_id
from provisioning.fleet import Fleet
from provisioning.registry import check_label, check_site

MAX_FILE_BYTES = 4 * 1024 * 1024
"""10,000 boards with long labels are 1 MB."""

COLUMNS = ("device", "site", "direction", "label", "camera", "camera_device")
"""`device` must be there; the others may be left out, as columns or as cells."""

CAMERAS = tuple(kind for kind in CAMERA_KINDS if kind != "replay")
"""A recording is no board's camera for good, and has sources that no cell could hold."""

BAR_WIDTH = 40
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A board that a line asks for."""

    device: str
    site: str | None
    direction: Direction
    label: str
    settings: Mapping[str, Any]


def read_boards(path: Path, fleet: Fleet) -> tuple[Wanted, ...]:
    """All boards of a file, each of which can be added to this fleet.

    Raises:
        InputError: the file cannot be read, or a line asks for what cannot be; names line, column and value.
    """
    rows = _rows(path)
    wanted = tuple(_wanted(f"{path}, line {line}", row) for line, row in rows)
    taken = {device.device for device in fleet.registry.devices()}
    for (line, _), board in zip(rows, wanted, strict=True):
        if board.device in taken:
            raise InputError(
                f"{path}, line {line}: device = {board.device!r}: is in this fleet or file already"
            )
        taken.add(board.device)
    return wanted


def with_progress(items: Iterable[T], total: int, what: str, out: TextIO = sys.stderr) -> Iterator[T]:
    """The items, with a bar that grows where somebody watches."""
    for number, item in enumerate(items, 1):
        yield item
        if out.isatty():
            filled = BAR_WIDTH * number // total
            end = "\n" if number == total else ""
            out.write(f"\r[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {number} of {total} {what}{end}")
            out.flush()


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and cells by column; empty lines are none."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: larger than {MAX_FILE_BYTES} bytes, so it is something else")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            return [(reader.line_num, _cells(f"{path}, line {reader.line_num}", row)) for row in reader]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error})") from error


def _check_columns(path: Path, names: Iterable[str]) -> None:
    names = tuple(names)
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or "device" not in names or len(set(names)) != len(names):
        raise InputError(
            f"{path}, line 1: the columns are {', '.join(names) or 'none'}; allowed, once each, are "
            f"{', '.join(COLUMNS)}, and device must be there"
        )


def _cells(where: str, row: Mapping[str | None, str | None]) -> dict[str, str]:
    if None in row or None in row.values():
        raise InputError(f"{where}: has more or fewer cells than line 1 has columns")
    return {str(name): str(cell).strip() for name, cell in row.items()}


def _wanted(where: str, row: Mapping[str, str]) -> Wanted:
    try:
        site = row.get("site") or None
        return Wanted(
            device=check_device_id(row["device"]),
            site=None if site is None else check_site(site),
            direction=_direction(row.get("direction", "")),
            label=check_label(row.get("label", "")),
            settings=_camera(row.get("camera", ""), row.get("camera_device", "")),
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _direction(cell: str) -> Direction:
    if cell and cell not in list(Direction):
        raise InputError(f"direction {cell!r}: must be one of {', '.join(Direction)}")
    return Direction(cell) if cell else Direction.BOTH


def _camera(kind: str, device: str) -> dict[str, Any]:
    if kind and kind not in CAMERAS:
        raise InputError(f"camera {kind!r}: must be one of {', '.join(CAMERAS)}")
    if device and not kind:
        raise InputError(f"camera_device {device!r}: belongs to a camera; say which kind")
    members = {name: value for name, value in (("kind", kind), ("device", device)) if value}
    return {"camera": members} if members else {}
