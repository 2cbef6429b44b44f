"""The daemon: what starts in which order, which thread owns what, and how it ends.

Start: identity and keys, models, gallery, outbox (`assembly`); the `start` event is
committed before anything connects; then publisher, pipeline, capture. Stop is the
reverse: no more pictures, then what is still on the road, then the outbox drains for
`drain_s`.

Threads: capture puts frames into one newest-frame slot; the pipeline takes them and
commits events to the outbox; the publisher drains it. Frames may be dropped and are
counted; events never. The main thread only watches the others.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from edge import __version__
from edge.assembly import assemble
from edge.board.clock import Clock, boottime_ms
from edge.board.feedback import Signal, open_feedback, signal_for
from edge.board.systemd import Notifier
from edge.camera import open_camera
from edge.camera.keep import CameraHealth, CameraKeeper
from edge.config import Config
from edge.errors import BadImage, DiskFull
from edge.lookout import Lookout
from edge.loops import Loop, Slot
from edge.records import Frame, TrackEnd
from edge.steps import Step, reached

log = logging.getLogger(__name__)

WATCH_INTERVAL_S = 0.2
STALL_S = 30.0
"""A loop that did not turn for so long hangs: connecting to a broker or reopening a camera takes up to 10 s."""

JOIN_S = 15.0
"""Longest that a loop may take to end once asked, for the same reason."""


class Service:
    """Everything that `hadir-edge run` keeps going. Building it loads and checks, but starts nothing.

    `file` is where the configuration was read: a command may change settings that stand there.

    Raises:
        FixSetup: configuration, keys, models or gallery cannot be used.
        CannotRecord: the outbox cannot be opened.
    """

    def __init__(self, config: Config, file: Path | None = None) -> None:
        self._config = config
        self._feedback = open_feedback(config.feedback)
        self._stop = threading.Event()
        self._board = assemble(config, Clock(), file=file, restart=self._stop)
        self._notifier = Notifier()
        self._slot = Slot()
        self._counters = self._board.reports.counters
        self._camera = CameraKeeper(
            lambda: open_camera(config.camera, self._stop),
            lambda frame, may_drop: self._slot.put(frame, may_drop=may_drop),
            self._stop,
        )
        self._lookout = Lookout(
            self._board.recorder,
            self._board.keeping.timekeeper,
            self._board.keeping.room,
            lambda: self.camera_health,
            self._board.publisher.troubles,
        )
        self._board.reports.gauges["attendances_refused"] = lambda: self._board.keeping.room.refused
        self._board.reports.gauges["camera"] = lambda: str(self.camera_health.state)
        self._board.reports.gauges["frames_dropped"] = lambda: self._slot.dropped
        self._loops = (
            Loop("publisher", lambda loop: self._board.publisher.run(loop.turned)),
            Loop("pipeline", self._drive),
            Loop("capture", self._capture),
        )
        log.info(
            "ready: device=%s gallery=%d people=%d threshold=%.3f liveness=%s",
            config.device.id,
            self._board.gallery.version,
            len(self._board.gallery.people),
            self._board.threshold,
            "on" if self._board.road.liveness.on else "off",
        )
        if not self._board.road.liveness.on:
            log.warning("liveness is off: a photograph of somebody enrolled passes as that person")

    def run(self) -> None:
        """Run until a signal, the end of a replayed file, or an error.

        Raises what made a loop end, after everything else was stopped in order.
        """
        self._start()
        with _ending_on_signals(self._stop):
            for loop in self._loops:
                loop.start()
            self._notifier.ready("watching the door")
            failed = True
            try:
                self._watch()
                failed = False
            finally:
                self._notifier.stopping()
                self._shut_down(failed=failed)
        for loop in self._loops:
            if loop.error is not None:
                raise loop.error

    def _start(self) -> None:
        """Record it, on a disk that is nearly full as well; what then still fails ends the daemon."""
        try:
            self._board.recorder.start(__version__)
        except DiskFull:
            self._board.keeping.room.make()
            self._board.recorder.start(__version__)

    @property
    def camera_health(self) -> CameraHealth:
        """How the camera is, for whoever reports it."""
        return self._camera.health

    def _watch(self) -> None:
        """Wait for the end; feed the systemd watchdog only while every loop turns."""
        publisher, pipeline, _ = self._loops
        watch = Watchdog(self._loops)
        while publisher.running and pipeline.running and not self._stop.wait(WATCH_INTERVAL_S):
            self._camera.look()
            self._lookout.look(boottime_ms())
            if watch.all_turning(WATCH_INTERVAL_S):
                self._notifier.alive(self._summary())

    def _shut_down(self, *, failed: bool = False) -> None:
        reached(Step.STOP_BEGUN)
        self._stop.set()
        publisher, pipeline, capture = self._loops
        self._slot.close()
        for loop in (capture, pipeline):
            loop.join(JOIN_S)
        reached(Step.ROAD_ENDED)
        self._board.publisher.stop()
        publisher.join(self._config.events.drain_s + JOIN_S)
        hanging = [loop.name for loop in self._loops if loop.running]
        if hanging:
            log.error("stopping although %s did not end in time", ", ".join(hanging))
            return
        reached(Step.UPLINK_ENDED)
        clean = not failed and all(loop.error is None for loop in self._loops)
        with suppress(DiskFull):  # then the next start says that this run did not end well
            self._board.keeping.timekeeper.note()
            self._board.outbox.mark_run(self._board.clock.read().boot, clean=clean)
            reached(Step.RUN_MARKED_CLEAN)
        waiting = self._board.outbox.waiting_count()
        log.info("stopped: %s dropped=%d waiting=%d", self._summary(), self._slot.dropped, waiting)
        self._board.outbox.close()
        reached(Step.STOPPED)

    def _capture(self, loop: Loop) -> None:
        """Own the camera: frames into the slot until asked to stop or the file is over."""
        try:
            self._camera.run(loop.turned)
        finally:
            self._slot.close()

    def _drive(self, loop: Loop) -> None:
        """Own the road: frames from the slot, attendances into the outbox."""
        while not self._slot.finished:
            frame = self._slot.take(WATCH_INTERVAL_S)
            loop.turned()
            if frame is not None:
                self._walk(frame)
        self._report(self._board.road.finish())

    def _walk(self, frame: Frame) -> None:
        try:
            passage = self._board.road.walk(frame)
        except BadImage as error:
            self._counters["bad_images"] += 1
            if self._counters["bad_images"] == 1:  # once; the counter tells the rest
                log.warning("camera: frame %d skipped: %s", frame.number, error)
            return
        if not self._counters["frames"]:
            log.info("first frame processed")
        self._counters["frames"] += 1
        self._counters["faces"] += passage.faces
        self._counters["passed-over"] += passage.passed_over
        for attack in passage.attacks:
            self._board.publisher.wake()
            log.warning("attack: track=%d frames=%d", attack.track, attack.frames)
        for reason in passage.unclear:
            self._counters[f"unclear-{reason}"] += 1
            self._feedback.show(signal_for(reason), frame.captured_mono_ms)
        for attendance in passage.attendances:
            self._feedback.show(Signal.ATTENDANCE, frame.captured_mono_ms)
            self._board.publisher.wake()
            # Neither person nor similarity: a log is not a place for biometric data.
            log.info("attendance: track=%d frames=%d", attendance.track, attendance.frames)
            reached(Step.ATTENDANCE_TOLD)
        self._report(passage.ended)

    def _report(self, ended: Sequence[TrackEnd]) -> None:
        for end in ended:
            outcome = end.outcome or "attendance"
            self._counters[outcome] += 1
            log.info(
                "track ended: track=%d frames=%d good_frames=%d outcome=%s",
                end.track,
                end.frames,
                end.good_frames,
                outcome,
            )

    def _summary(self) -> str:
        counts = (f"{name}={count}" for name, count in sorted(self._counters.items()))
        return " ".join((f"camera={self.camera_health.state}", *counts))


class Watchdog:
    """Tells whether every running loop has turned lately."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = loops
        self._seen = [0] * len(loops)
        self._still_s = [0.0] * len(loops)

    def all_turning(self, elapsed_s: float) -> bool:
        for index, loop in enumerate(self._loops):
            moved = loop.turns != self._seen[index] or not loop.running
            self._still_s[index] = 0.0 if moved else self._still_s[index] + elapsed_s
            self._seen[index] = loop.turns
        return max(self._still_s) < STALL_S


@contextmanager
def _ending_on_signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP set the flag, and nothing else: a handler may interrupt any line of the program.

    SIGHUP is a terminal that was closed, and would end the daemon where it stands. Under nohup it stays ignored.
    """

    def handler(number: int, frame: FrameType | None) -> None:
        stop.set()

    kept = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    ending = (signal.SIGTERM, signal.SIGINT) if kept else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in ending}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
