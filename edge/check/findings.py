"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge.errors import HadirError


class Verdict(StrEnum):
    """How bad it is. The values are stable: they are what `--json` says."""

    OK = "ok"
    WARNING = "warning"
    """The door works, or may work; somebody should look."""
    FAILURE = "failure"
    """The door does not work, or something will be lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""
    """What to do next; empty only where all is well."""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Verdict.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Verdict.WARNING, found, remedy)


def failure(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Verdict.FAILURE, found, remedy)


def failed(check: str, error: HadirError, remedy: str) -> Finding:
    """From an error, whose message names what is wrong and then, after its last semicolon, what to do.

    `remedy` is for messages that leave the second part out.
    """
    message = str(error).removeprefix(f"{check}: ").removeprefix(f"{check} ")
    found, _, advice = message.rpartition("; ")
    return failure(check, found or advice, advice if found else remedy)


def not_looked_at(check: str, needs: str) -> Finding:
    """A check that cannot be made because another one failed."""
    return warning(check, "not looked at", f"mend the {needs} first")


def worst(findings: tuple[Finding, ...]) -> Verdict:
    """Of all lines together."""
    verdicts = {finding.verdict for finding in findings}
    return next((v for v in (Verdict.FAILURE, Verdict.WARNING) if v in verdicts), Verdict.OK)
