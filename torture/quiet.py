"""A board without eyes: all of the daemon that speaks to the broker, and nothing that sees. It starts in no time.

What is tortured and tested with it is who the board is, not whom it recognises. The parts are
the daemon's own, put together as `edge.service` does it.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from edge import __version__
from edge.assembly import keep, open_trust, open_voice, succeeded
from edge.board.alone import alone_on
from edge.board.clock import Clock, KernelClock
from edge.command import carry_out
from edge.config import load_config
from edge.loops import Loop
from edge.uplink.outbox import Outbox
from edge.uplink.recorder import Recorder
from edge.uplink.status import Loaded

EMBEDDER = "0" * 64
STOP_S = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal, or until a command asks for a restart."""
    parser = argparse.ArgumentParser(prog="python -m torture.quiet")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--clock", choices=("good", "never"), default="good", help="default %(default)s")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    return carry_out("quiet", lambda: run(options.config, clock_of(options.clock)))


def clock_of(kind: str) -> Clock:
    """A clock that is good, or was never set, whatever this machine's kernel says of its own."""
    return Clock(lambda: KernelClock(synchronised=kind == "good", max_error_ms=5))


def run(file: Path, clock: Clock) -> None:
    """Start in the daemon's order, and stop in its."""
    stop = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handler)
    config = load_config(file)
    with alone_on(config.device.state_dir):
        trust = open_trust(config)
        outbox = Outbox(config.device.state_dir / "outbox.db")
        recorder = Recorder(
            outbox=outbox,
            identity=succeeded(trust, outbox, clock),
            clock=clock,
            direction=config.device.direction,
            embedder=EMBEDDER,
            gallery=0,
            diagnostics=False,
        )

        def loaded(keys: int) -> Loaded:
            return Loaded(0, EMBEDDER, keys, trust.protection, liveness=False)

        keeping = keep(recorder, config.device.state_dir)
        voice = open_voice(config, trust, recorder, keeping, loaded, file=file, restart=stop)
        recorder.start(__version__)
        loop = Loop("publisher", lambda loop: voice.publisher.run(loop.turned))
        loop.start()
        while loop.running and not stop.wait(0.1):
            pass
        voice.publisher.stop()
        loop.join(STOP_S)
        outbox.mark_run(clock.read().boot, clean=loop.error is None)
        outbox.close()
        if loop.error is not None:
            raise loop.error


if __name__ == "__main__":
    sys.exit(main())
