"""What every benchmark shares: its command line, a site to measure on, a daemon to watch."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.evaluate.figures import Figure, commit, machine, table, write_json

RUNS = 5
"""Bars hold for the median of five runs."""

Measure = Callable[[int], Mapping[str, Figure]]


def main(name: str, measure: Measure) -> None:
    """Parse the command line, measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--runs", type=int, default=RUNS, help="default %(default)s")
    options = parser.parse_args()
    figures = measure(options.runs)
    print(f"{name}: commit {commit()}, {machine()}")
    print(table(figures))
    if options.json is not None:
        write_json(options.json, name, figures)


def note(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running `hadir-edge`, seen from outside."""

    process: subprocess.Popen[str]
    started_s: float

    def wait_for(self, words: str) -> float:
        """Seconds from the start of the process to the log line that says this."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return time.monotonic() - self.started_s
        raise RuntimeError(f"hadir-edge ended before it said {words!r}")

    def resident_mb(self) -> float:
        """VmRSS of proc(5), in MB of 10^6 bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError("hadir-edge has no resident memory: it has ended")

    def most_resident_mb(self, seconds: int) -> float:
        """The largest of ten looks a second."""
        looks = []
        for _ in range(10 * seconds):
            looks.append(self.resident_mb())
            time.sleep(0.1)
        return max(looks)

    def cpu_share(self, settle_s: int, watch_s: int) -> float:
        """Share of one core in use over `watch_s`, after `settle_s` in which nothing is counted."""
        time.sleep(settle_s)
        before_s, begin_s = self.cpu_s(), time.monotonic()
        time.sleep(watch_s)
        return (self.cpu_s() - before_s) / (time.monotonic() - begin_s)

    def cpu_s(self) -> float:
        """User and system time so far: fields 14 and 15 of proc(5)'s stat."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def daemon(config: Path) -> Iterator[Daemon]:
    """The real daemon as a process of its own; stopped at the end."""
    command = (sys.executable, "-m", "edge", "run", "--config", str(config))
    started_s = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Daemon(process, started_s)
        finally:
            process.terminate()
            process.communicate(timeout=60)
