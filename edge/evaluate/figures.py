"""Figures as every benchmark and evaluation prints and writes them: one table, one JSON shape."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity; several values are several runs."""

    unit: str
    values: tuple[float, ...]
    average: Literal["median", "mean"] = "median"
    """What stands for all values: the median of timings, the mean of repetitions with other data."""
    interval: tuple[float, float] | None = None
    """Between which the value lies with 95 % confidence, where that was estimated."""

    @property
    def value(self) -> float:
        return self.median if self.average == "median" else statistics.mean(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def one(value: float, unit: str, interval: tuple[float, float] | None = None) -> Figure:
    """A figure that was measured, or counted, once."""
    return Figure(unit, (value,), interval=interval)


def table(figures: Mapping[str, Figure]) -> str:
    """The figures for people: key, median, spread, unit; in brackets the interval, where that is known."""
    width = max(len(key) for key in figures)
    lines = [f"{'':{width}}  {'median':>10}  {'min':>10}  {'max':>10}  {'n':>3}"]
    for key, figure in figures.items():
        low, high = min(figure.values), max(figure.values)
        numbers = "  ".join(f"{_short(number):>10}" for number in (figure.median, low, high))
        within = "" if figure.interval is None else " [{}, {}]".format(*map(_short, figure.interval))
        lines.append(f"{key:{width}}  {numbers}  {len(figure.values):>3}  {figure.unit}{within}")
    return "\n".join(lines)


def write_json(path: Path, name: str, figures: Mapping[str, Figure]) -> None:
    """The same figures for programs; `low` and `high` stand beside a value whose interval is known."""
    document = {
        "name": name,
        "commit": commit(),
        "machine": machine(),
        "figures": {key: _as_json(figure) for key, figure in figures.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _as_json(figure: Figure) -> dict[str, float | str]:
    within = {} if figure.interval is None else dict(zip(("low", "high"), figure.interval, strict=True))
    return {
        "value": figure.value,
        **within,
        "unit": figure.unit,
        "median": figure.median,
        "min": min(figure.values),
        "max": max(figure.values),
        "n": len(figure.values),
    }


def commit() -> str:
    """The commit that is measured, marked where the tree differs from it; "unknown" outside a checkout."""
    try:
        revision = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+changes" if changed else "")


def machine() -> str:
    """Processor, cores and Python, without anything that names this one machine."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("model name", "Model")):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _git(*arguments: str) -> str:
    command: Sequence[str] = ("git", *arguments)
    folder = Path(__file__).parent
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def _short(number: float) -> str:
    if number == 0 or 0.001 <= abs(number) < 1e6:  # noqa: PLR2004
        digits = 0 if abs(number) >= 1000 else 2 if abs(number) >= 10 else 4  # noqa: PLR2004
        return f"{number:.{digits}f}"
    return f"{number:.3g}"
