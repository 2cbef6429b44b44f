"""The report, for people and for programs."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TextIO

from edge import __version__
from edge.check.checks import CHECKS
from edge.check.findings import Finding, Verdict, worst

_COLOURS = {Verdict.OK: "32", Verdict.WARNING: "33", Verdict.FAILURE: "1;31"}
"""ANSI (ECMA-48, SGR): green, yellow, bold red."""

_WORD = max(len(verdict) for verdict in Verdict)
_NAME = max(len(check) for check in CHECKS)
_INDENT = " " * (_WORD + _NAME + 4)

MIN_WIDTH = 60
MAX_WIDTH = 120


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Only on a terminal, and not where NO_COLOR says otherwise (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def as_text(findings: Sequence[Finding], *, colour: bool, width: int | None = None) -> str:
    """A line for each check, what to do next behind or under it, and a last line that sums up."""
    columns = width or shutil.get_terminal_size((100, 24)).columns
    columns = max(MIN_WIDTH, min(columns, MAX_WIDTH))
    lines = [line for finding in findings for line in _lines(finding, columns, colour=colour)]
    return "\n".join((*lines, "", _summary(findings)))


def as_json(findings: Sequence[Finding]) -> str:
    """One object: `verdict` of the whole, `version`, and `checks` in the order of the report."""
    whole = {
        "verdict": worst(tuple(findings)),
        "version": __version__,
        "checks": [asdict(finding) for finding in findings],
    }
    return json.dumps(whole, ensure_ascii=False)


def _lines(finding: Finding, columns: int, *, colour: bool) -> list[str]:
    word = finding.verdict if finding.verdict is Verdict.OK else finding.verdict.upper()
    mark = f"{word:{_WORD}}"
    if colour:
        mark = f"\x1b[{_COLOURS[finding.verdict]}m{mark}\x1b[0m"
    room = columns - len(_INDENT)
    together = f"{finding.found} → {finding.remedy}" if finding.remedy else finding.found
    apart = bool(finding.remedy) and len(together) > room
    first, *rest = _wrapped(finding.found if apart else together, room)
    lines = [f"{mark}  {finding.check:{_NAME}}  {first}", *(_INDENT + line for line in rest)]
    if apart:
        head, *more = _wrapped(finding.remedy, room - 2)
        lines += [f"{_INDENT}→ {head}", *(f"{_INDENT}  {line}" for line in more)]
    return lines


def _wrapped(text: str, room: int) -> list[str]:
    """Words only: a path that is cut in two cannot be copied."""
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _summary(findings: Sequence[Finding]) -> str:
    failures, warnings = (
        sum(finding.verdict is verdict for finding in findings)
        for verdict in (Verdict.FAILURE, Verdict.WARNING)
    )
    if failures:
        return f"{_count(failures, 'failure')}, {_count(warnings, 'warning')}: this door needs somebody"
    if warnings:
        return f"no failure, {_count(warnings, 'warning')}"
    return "all well"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
