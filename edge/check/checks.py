"""Runs every check, whatever the others found, within a bounded time.

The broker and the camera may hang, so they are looked at beside the rest and given up
after `PATIENCE_S`; everything else is local and quick.

How the broker is asked. A broker with `use_username_as_clientid` gives whoever shows this
board's certificate this board's session, under whatever client id they ask for: logging in
would throw the running daemon out, and it would then keep away for five minutes. So with a
client certificate, while the daemon runs, only the address and TLS are tried; while it
does not run, the check logs in as the board itself, goes on with the session that is there
and acknowledges nothing, so that commands which wait in it keep waiting. Without a client
certificate it logs in as `<device>-check`, beside the daemon.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.assembly import MAKE_LIVENESS, open_eyes, open_gallery, open_liveness, threshold_for
from edge.board.clock import RELEASED_REAL_MS, Clock
from edge.board.health import process_age_s, read_memory, read_space, read_temperatures, read_throttling
from edge.camera import is_stream
from edge.check import papers
from edge.check.findings import Finding, Verdict, failed, failure, not_looked_at, ok, warning
from edge.check.judge import (
    judge_clock,
    judge_memory,
    judge_outbox,
    judge_space,
    judge_temperature,
    judge_throttling,
    judge_view,
)
from edge.check.look import look
from edge.config import BrokerConfig, CameraConfig, Config, DeviceConfig, load_config
from edge.errors import BrokerUnavailable, CannotRecord, FixSetup, HadirError
from edge.recognition.manifest import EmbedderSpec
from edge.records import ClockState, TimeReading
from edge.trust.fleetkeys import FleetKeys, load_keys_document
from edge.trust.floor import TimeFloor
from edge.trust.protect import Unsealed, load_key_encryption_key, sealed_by
from edge.trust.seal import KeyEncryptionKey
from edge.uplink.connection import try_login
from edge.uplink.glimpse import glimpse, holder
from edge.uplink.reach import Dates, Tls, try_handshake

LOADING_S = 0.1
"""What changes so soon after the daemon's start is still read by it, which imports for longer; and the kernel tells
that start by ticks of 10 ms."""

PATIENCE_S = 7.0
"""For the camera and for the broker, side by side, so that the whole stays below ten seconds on a slow board."""

BROKER_PATIENCE_S = PATIENCE_S - 1.0
"""For its first answer; the rest is for saying goodbye."""

CHECKS = (
    "configuration",
    "daemon",
    "models",
    "liveness",
    "camera",
    "device key",
    "fleet keys",
    "certificate",
    "crl",
    "claim",
    "gallery",
    "broker",
    "outbox",
    "disk",
    "clock",
    "memory",
    "temperature",
    "power",
)
"""In the order of the report. Some are left out where the board has nothing of the kind to show."""

OPTIONAL = ("certificate", "crl", "claim")

OF_THE_CONFIGURATION = tuple(name for name in CHECKS[1 : CHECKS.index("clock")] if name not in OPTIONAL)
"""What cannot be looked at without one."""


def check(path: Path, clock: Clock | None = None, unsealed: Unsealed | None = None) -> tuple[Finding, ...]:
    """Look at everything that this configuration names, and at the board; `unsealed` is what root could open."""
    now = (clock or Clock()).read()
    machine = [
        judge_clock(now),
        judge_memory(read_memory()),
        judge_temperature(read_temperatures()),
        judge_throttling(read_throttling()),
    ]
    try:
        config = load_config(path)
    except FixSetup as error:
        first = failed("configuration", error, f"correct {path}; docs/configuration.md lists every key")
        if isinstance(error.__cause__, PermissionError):
            first = _shut_out("configuration", path)
        needy = [
            not_looked_at(name, "configuration")
            for name in CHECKS[1 : CHECKS.index("clock")]
            if name not in OPTIONAL
        ]
        return in_order([first, *needy, *machine])
    device, unsealed = config.device, unsealed or Unsealed()
    running = holder(device.state_dir / "outbox.db")
    beside = [
        Beside("camera", lambda: _camera(path, config, running)),
        Beside("broker", lambda: _broker(config, running, unsealed, now)),
    ]
    found = [
        ok("configuration", f"{device.id} at site {device.site}, direction {device.direction} ({path})"),
        _daemon(running),
        *_recognition(config, running),
        guarded("liveness", lambda: _liveness(config)),
        guarded("device key", lambda: papers.device_key(device, unsealed)),
        *papers.certificate(config.broker, device.id, now.real_ms / 1000),
        *papers.revocations(config, now.real_ms / 1000),
        *papers.claim(device),
        guarded("outbox", lambda: _outbox(device, now.real_ms)),
        guarded("disk", lambda: _disk(device)),
        *machine,
    ]
    return in_order([*found, *(one.finding() for one in beside)])


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """As they are reported."""
    return tuple(sorted(findings, key=lambda finding: CHECKS.index(finding.check)))


def guarded(check: str, body: Callable[[], Finding]) -> Finding:
    """A finding, whatever happens: what surprises a check must not hide what the others found."""
    try:
        return body()
    except PermissionError as error:
        return failure(
            check,
            f"{error.filename}: may not be looked at by this user",
            "run it as root: sudo hadir-edge check",
        )
    except Exception as error:  # noqa: BLE001 - reported as a line, with its name
        return failure(
            check, f"{type(error).__name__}: {error}", "this is a bug in the check: please report it"
        )


def _shut_out(check: str, what: object) -> Finding:
    return failure(
        check, f"{what}: may not be looked at by this user", "run it as root: sudo hadir-edge check"
    )


class Beside:
    """A check in a thread of its own, from now on, that is given up after PATIENCE_S."""

    def __init__(self, check: str, body: Callable[[], Finding]) -> None:
        self._check = check
        self._body = body
        self._finding: Finding | None = None
        # Left behind when it hangs: resolving a name, for one, cannot be interrupted.
        self._thread = threading.Thread(target=self._run, name=f"check {check}", daemon=True)
        self._thread.start()

    def finding(self) -> Finding:
        """What it found, or that it found nothing in time."""
        self._thread.join(PATIENCE_S + 1.0)
        return self._finding or failure(
            self._check,
            f"no answer within {PATIENCE_S:.0f} s",
            "check the network and its name server, and try again",
        )

    def _run(self) -> None:
        self._finding = guarded(self._check, self._body)


def _daemon(running: int | None) -> Finding:
    if running is not None:
        return ok("daemon", f"runs (process {running})")
    return warning(
        "daemon", "does not run", "systemctl start hadir-edge; why it ended: journalctl -u hadir-edge -n 50"
    )


def _recognition(config: Config, running: int | None) -> list[Finding]:
    """Models, keys document and gallery, each of which the gallery needs."""
    found = []
    spec: EmbedderSpec | None = None
    keys: FleetKeys | None = None
    try:
        spec = open_eyes(config.recognition).spec
        files = len(spec.models) + 1
        found.append(ok("models", f"{spec.name}: {files} files with the manifest's hashes, and they load"))
    except FixSetup as error:
        found.append(failed("models", error, "reinstall hadir"))
    try:
        keys = load_keys_document(config.device.keys_file, config.device.root_thumbprint)
        found.append(
            ok("fleet keys", f"version {keys.version}, {len(keys.keys)} keys, signed by the fleet's root")
        )
    except FixSetup as error:
        found.append(failed("fleet keys", error, "copy keys.jws from the fleet's folder"))
    if spec is None or keys is None:
        return [*found, not_looked_at("gallery", "models" if spec is None else "fleet keys")]
    return [*found, _gallery(config, keys, spec, running)]


def _liveness(config: Config) -> Finding:
    try:
        liveness = open_liveness(config.liveness, config.recognition)
    except FixSetup as error:
        return failed("liveness", error, MAKE_LIVENESS)
    if liveness.on:
        return ok(
            "liveness", "on: the models are there and load; docs/liveness.md tells what they do not stop"
        )
    if not config.liveness.enabled:
        return warning(
            "liveness", "off: a photograph passes as the person on it", "set liveness.enabled = true"
        )
    return warning(
        "liveness", "off, as its models are missing: a photograph passes as the person on it", MAKE_LIVENESS
    )


def _gallery(config: Config, keys: FleetKeys, spec: EmbedderSpec, running: int | None) -> Finding:
    try:
        gallery = open_gallery(config.device, keys, spec.id)
        threshold = threshold_for(config.decide, spec, gallery)
    except FixSetup as error:
        return failed("gallery", error, "copy the gallery again from the fleet's folder for this board")
    people = len(gallery.people)
    found = f"version {gallery.version}, signed by the fleet, for these models; enrolled: {people}"
    if not people:
        return warning(
            "gallery", found, "enrol people with `hadir-provision enrol` and copy the gallery here"
        )
    if running is not None and _changed_since_start(config.device.gallery_file, running):
        return warning(
            "gallery",
            f"{found}; changed since the daemon was started, which still uses the one before",
            "restart it to use this one: `systemctl restart hadir-edge`",
        )
    return ok("gallery", f"{found}, same person from similarity {threshold:.3f}")


def _changed_since_start(file: Path, process: int) -> bool:
    """By when its inode changed: a copy may keep the time at which its content was written."""
    age_s = process_age_s(process)
    return age_s is not None and time.time() - file.stat().st_ctime < age_s - LOADING_S


def _camera(path: Path, config: Config, running: int | None) -> Finding:
    camera = config.camera
    if running is not None and camera.kind != "replay":
        return ok(
            "camera",
            f"{camera.kind}, not opened: the daemon has it; to look through it, `systemctl stop hadir-edge` first",
        )
    try:
        return judge_view(look(path, PATIENCE_S), config.quality, recorded=is_recording(camera))
    except HadirError as error:
        return failed("camera", error, "see docs/cameras.md for this kind of camera")


def is_recording(camera: CameraConfig) -> bool:
    """Whether it plays files, which may well show the same picture all the time."""
    return camera.kind == "replay" and not any(map(is_stream, camera.sources))


@dataclass(frozen=True, slots=True)
class Login:
    """How the broker may be asked without disturbing anybody; see the head of this module."""

    client_id: str
    keep_session: bool


def login_for(broker: BrokerConfig, device: str, running: int | None) -> Login | None:
    """None where logging in would throw out the running daemon."""
    if broker.cert_file is None:
        return Login(f"{device}-check", keep_session=False)
    return None if running is not None else Login(device, keep_session=True)


def _tls(device: DeviceConfig, kek: KeyEncryptionKey | None, now: TimeReading) -> Tls:
    """What opens the private key, and the time as the daemon judges it."""
    floor = TimeFloor(device.state_dir, RELEASED_REAL_MS // 1000)
    believed = now.state is not ClockState.UNSYNCED
    return Tls(
        None if kek is None else kek.passphrase(),
        lambda: Dates(believed, floor.seconds, now.real_ms / 1000),
    )


def _broker(config: Config, running: int | None, unsealed: Unsealed, now: TimeReading) -> Finding:
    broker, device, kek = config.broker, config.device.id, unsealed.kek
    sealed = broker.private_key_file is not None and sealed_by(config.device.state_dir)
    if sealed and kek is None:
        if unsealed.error is not None:
            return not_looked_at("broker", "device key")
        return warning(
            "broker",
            f"{broker.url}: not tried, because {unsealed.why}",
            "sudo hadir-edge check; or see how the daemon fares: journalctl -u hadir-edge -n 20",
        )
    login = login_for(broker, device, running)
    try:
        tls = _tls(config.device, kek if sealed else load_key_encryption_key(config.device.state_dir), now)
        if login is None:
            try_handshake(broker, timeout_s=BROKER_PATIENCE_S, tls=tls)
            return ok(
                "broker",
                f"{broker.url}: TLS good both ways; no login, which would throw out the running daemon",
            )
        granted = try_login(
            broker,
            login.client_id,
            keep_session=login.keep_session,
            timeout_s=BROKER_PATIENCE_S,
            tls=tls,
        )
    except (BrokerUnavailable, FixSetup) as error:
        return failed("broker", error, "see the broker's log")
    return judge_broker(broker.url, login.client_id, granted)


def judge_broker(url: str, client_id: str, granted: dict[str, int]) -> Finding:
    """Whether it grants what events need: acknowledgement (QoS 1) and a retained status (MQTT 5, 3.2.2.3)."""
    if granted.get("MaximumQoS", 1) < 1:
        return failure(
            "broker", f"{url}: accepts no QoS 1, so it never acknowledges", "set its maximum QoS to 1 or 2"
        )
    if granted.get("RetainAvailable", 1) < 1:
        return warning(
            "broker", f"{url}: keeps no retained messages", "allow them; the board's status is one"
        )
    return ok("broker", f"{url}: accepts MQTT 5 as {client_id}")


def _outbox(device: DeviceConfig, now_real_ms: int) -> Finding:
    path = device.state_dir / "outbox.db"
    try:
        if not path.exists():
            return ok("outbox", "not there yet; the daemon makes it when it first starts")
        return judge_outbox(glimpse(path), now_real_ms)
    except (CannotRecord, OSError) as error:
        return failed(
            "outbox", HadirError(str(error)), f"run this as the daemon's user, or see `ls -l {path}`"
        )


def _disk(device: DeviceConfig) -> Finding:
    folder = next((p for p in (device.state_dir, *device.state_dir.parents) if p.is_dir()), Path("/"))
    try:
        space = read_space(folder)
    except OSError as error:
        return failure("disk", f"{folder}: cannot be examined ({error.strerror})", "see `mount` and `dmesg`")
    return judge_space(str(folder), space, writable=os.access(folder, os.W_OK | os.X_OK))


def exit_code(findings: tuple[Finding, ...]) -> int:
    """1 where anything failed. A warning is for people: a script asks whether the door works."""
    return int(any(finding.verdict is Verdict.FAILURE for finding in findings))
