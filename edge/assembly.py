"""Puts the rooms together as a configuration asks: the daemon, enrolment and evaluation use the same parts."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edge.board.clock import RELEASED_REAL_MS, Clock
from edge.commanding import Surroundings, handlers
from edge.config import (
    Config,
    DecideConfig,
    DeviceConfig,
    LivenessConfig,
    QualityConfig,
    RecognitionConfig,
    TrackConfig,
)
from edge.errors import ConfigError, GalleryError, ModelError
from edge.pipeline import Keeper, Road
from edge.recognition.decide import Decider
from edge.recognition.detect import Detector
from edge.recognition.embed import Embedder
from edge.recognition.gallery import GALLERY_TYP, Gallery, read_gallery
from edge.recognition.liveness import Liveness, LivenessModels, NoLiveness, Throttle, TrackLiveness
from edge.recognition.liveness_manifest import FILE, load_liveness
from edge.recognition.manifest import EmbedderSpec, Manifest, installed_folder, load_manifest
from edge.recognition.still import StillDetector
from edge.recognition.track import Tracker
from edge.records import TamperKind
from edge.reports import Reports
from edge.steps import Step, reached
from edge.trust.fleetkeys import FleetKeys, load_keys_document
from edge.trust.floor import TimeFloor
from edge.trust.identity import DeviceIdentity, load_signing_key, site_urn
from edge.trust.protect import load_key_encryption_key
from edge.trust.receipts import RECEIPT_TYP
from edge.trust.seal import KeyEncryptionKey, Protection
from edge.trust.store import Identity, IdentityStore
from edge.uplink.commands import Commands
from edge.uplink.outbox import Outbox
from edge.uplink.publish import Publisher
from edge.uplink.reach import Tls
from edge.uplink.recall import last_passages
from edge.uplink.receipts import ReceiptKeys
from edge.uplink.recorder import Recorder
from edge.uplink.room import Room
from edge.uplink.salvage import open_outbox, sound
from edge.uplink.status import Loaded
from edge.uplink.succession import succeed
from edge.uplink.sync import KeysSync, RevocationSync
from edge.uplink.timekeeping import TimeKeeper
from edge.uplink.troubles import Troubles

SAME_AMONG = 100
"""Two looks within a track are one person's if they would pass among so many enrolled
(`python -m benchmarks.switches`, docs/decisions/tracks.md)."""


MAKE_LIVENESS = "run `make liveness` and install hadir again"


@dataclass(frozen=True, slots=True)
class Eyes:
    """The models, loaded: what turns pictures into vectors."""

    spec: EmbedderSpec
    detector: Detector
    """For frames of a camera."""
    stills: StillDetector
    """For photographs."""
    embedder: Embedder


@dataclass(frozen=True, slots=True)
class Guard:
    """What stands between a recognised face and its attendance."""

    liveness: Liveness = field(default_factory=NoLiveness)
    reports: Throttle = field(default_factory=Throttle)
    """Which attacks become events."""


@dataclass(frozen=True, slots=True)
class Board:
    """Everything of one board, loaded and checked, with nothing started."""

    identity: DeviceIdentity
    clock: Clock
    gallery: Gallery
    threshold: float
    outbox: Outbox
    recorder: Recorder
    road: Road
    publisher: Publisher
    reports: Reports
    keeping: Keeping


def open_eyes(config: RecognitionConfig) -> Eyes:
    """Load detector and embedder. Raises ModelError where a file is missing, damaged or unknown."""
    manifest = load_manifest(config.models_dir)
    spec = manifest.embedder(config.embedder)
    detector = open_detector(manifest, spec, config)
    larger = partial(open_detector, manifest, spec, config, largest_detector(manifest))
    return Eyes(
        spec, detector, StillDetector(detector, larger), Embedder(spec, manifest.folder, config.threads)
    )


def open_detector(
    manifest: Manifest, spec: EmbedderSpec, config: RecognitionConfig, key: str | None = None
) -> Detector:
    """The detector of an embedder, or another one, which looks again with the refiner's model where it is unsure."""
    return Detector(
        manifest,
        key or spec.detector.key,
        config.detector_min_confidence,
        config.threads,
        closer_key=spec.refiner.key,
    )


def largest_detector(manifest: Manifest) -> str:
    """The key of the detection model with the largest input."""
    detectors = [model for model in manifest.models.values() if model.kind == "detector"]
    return max(detectors, key=lambda model: math.prod(model.input_shape)).key


def assemble(
    config: Config, clock: Clock, *, file: Path | None = None, restart: threading.Event | None = None
) -> Board:
    """Load all that a board needs, in the order in which a mistake is cheapest to find.

    `file` is where the configuration was read, and `restart` is set where a command asks for that.

    Raises:
        FixSetup: keys, models, gallery or configuration cannot be used.
        CannotRecord: the outbox cannot be opened.
    """
    device = config.device
    trust = open_trust(config)
    eyes = open_eyes(config.recognition)
    liveness = open_liveness(config.liveness, config.recognition)
    gallery = open_gallery(device, trust.keys, eyes.embedder.id)
    threshold = threshold_for(config.decide, eyes.spec, gallery)
    reached(Step.LOADED)
    outbox = open_outbox(device.state_dir / "outbox.db")
    identity = succeeded(trust, outbox, clock)
    recorder = sound(
        Recorder(
            outbox=outbox,
            identity=identity,
            clock=clock,
            direction=device.direction,
            embedder=eyes.embedder.id,
            gallery=gallery.version,
            diagnostics=config.events.diagnostics,
        )
    )
    outbox = recorder.outbox
    passed = last_passages(outbox, clock.read(), device.direction, within_ms=config.decide.cooldown_s * 1000)
    decider = Decider(config.decide, gallery, threshold, passed)
    guard = Guard(liveness, attack_reports(config.liveness))
    keeping = keep(recorder, device.state_dir)
    road = build_road(eyes, config.track, config.quality, decider, keeping.room, guard)

    def loaded(keys: int) -> Loaded:
        return Loaded(gallery.version, gallery.embedder, keys, trust.protection, liveness.on)

    restart = restart or threading.Event()
    voice = open_voice(config, trust, recorder, keeping, loaded, file=file, restart=restart)
    return Board(
        identity, clock, gallery, threshold, outbox, recorder, road, voice.publisher, voice.reports, keeping
    )


@dataclass(frozen=True, slots=True)
class Trust:
    """Who a board is and whom it believes, as it finds them at its start."""

    kek: KeyEncryptionKey | None
    identity: DeviceIdentity
    keys: FleetKeys
    store: IdentityStore

    @property
    def protection(self) -> Protection:
        """What is told of its keys: without a key-encryption key they are files as they are."""
        return Protection.FILE if self.kek is None else self.kek.protection


@dataclass(frozen=True, slots=True)
class Keeping:
    """What keeps a board's time and room, and what is wrong with it."""

    troubles: Troubles
    floor: TimeFloor
    timekeeper: TimeKeeper
    room: Room


def keep(recorder: Recorder, state_dir: Path) -> Keeping:
    """Of a board with this recorder."""
    troubles, floor = Troubles(), TimeFloor(state_dir, RELEASED_REAL_MS // 1000)
    return Keeping(troubles, floor, TimeKeeper(recorder, floor), Room(recorder, troubles))


@dataclass(frozen=True, slots=True)
class Voice:
    """What speaks and listens for a board."""

    publisher: Publisher
    reports: Reports


def open_trust(config: Config) -> Trust:
    """Raises KeyFileError."""
    device = config.device
    kek = load_key_encryption_key(device.state_dir)
    identity = DeviceIdentity(device.id, device.site, load_signing_key(device.key_file, kek))
    keys = load_keys_document(device.keys_file, device.root_thumbprint)
    return Trust(kek, identity, keys, IdentityStore(device.state_dir, kek))


def succeeded(trust: Trust, outbox: Outbox, clock: Clock) -> DeviceIdentity:
    """The identity to work with: the next one, where it is ready and this one is the store's."""
    identity, store = trust.identity, trust.store
    store.drop_predecessor()
    current, successor = store.current(), store.successor()
    if current is None or successor is None or current.signing_key().kid != identity.key.kid:
        return identity
    return replace(identity, key=succeed(store, successor, outbox, identity, clock))


def open_voice(
    config: Config,
    trust: Trust,
    recorder: Recorder,
    keeping: Keeping,
    loaded: Callable[[int], Loaded],
    *,
    file: Path | None,
    restart: threading.Event,
) -> Voice:
    """Everything between the outbox and the broker. `loaded` is given the version of the fleet's keys.

    Raises:
        ConfigError: receipts are to be waited for that nobody can sign.
        CannotRecord: the number of the last command cannot be read.
    """
    device, outbox, clock = config.device, recorder.outbox, recorder.clock

    def announce() -> None:
        publisher.announce()  # which is built last, from everything that may call this

    in_use = identity_of(config, trust.store)
    sync = KeysSync(trust.keys, device.root_thumbprint, device.keys_file, in_use, announce)
    reports = Reports(recorder.identity, clock, outbox, keeping.troubles, lambda: loaded(sync.version))
    around = Surroundings(
        config=file,
        state_dir=device.state_dir,
        identity=recorder.identity,
        store=trust.store,
        outbox=outbox,
        clock=clock,
        protection=trust.protection,
        keys=lambda: sync.keys,
        announce=announce,
        restart=restart,
    )
    commands = Commands(device.state_dir, recorder.identity, sync, clock, handlers(around), keeping.floor)
    passphrase = None if trust.kek is None else trust.kek.passphrase()
    publisher = Publisher(
        recorder,
        config.broker,
        config.events,
        reports.status,
        reports.health,
        receipt_keys(config, sync),
        receivers=(sync, *revocations(config, sync), commands),
        troubles=keeping.troubles,
        server_says=keeping.floor.raise_to,
        make_room=keeping.room.make,
        tls=Tls(passphrase, keeping.timekeeper.dates),
    )
    return Voice(publisher, reports)


def identity_of(config: Config, store: IdentityStore) -> Identity | None:
    """The store's identity in use, where the configuration goes by it; None where its files lie elsewhere."""
    return store.current() if config.device.keys_file.parent == store.current_path else None


def revocations(config: Config, sync: KeysSync) -> tuple[RevocationSync, ...]:
    """What keeps the fleet's revocation list, where this board has a certificate that could be in it."""
    device, cert_file = config.device, config.broker.cert_file
    if cert_file is None:
        return ()
    return (RevocationSync(device.id, cert_file, device.state_dir, lambda: sync.keys.authorities),)


def receipt_keys(config: Config, sync: KeysSync) -> ReceiptKeys:
    """The fleet's receipt keys. Raises ConfigError where receipts are to be waited for that nobody can sign."""
    if config.events.delivery == "receipt" and not sync.verification_keys(RECEIPT_TYP):
        raise ConfigError(
            f'events.delivery = "receipt": {config.device.keys_file} names no receipt key, so no receipt would ever '
            "be believed; copy the fleet's present keys document"
        )
    return lambda: sync.verification_keys(RECEIPT_TYP)


def tell_refused(config: Config, error: ModelError | GalleryError) -> None:
    """Record that a board which has worked before refuses its models or its gallery; sent when it works again.

    A board without an outbox is being set up, and what is missing there nobody took away.
    """
    path = config.device.state_dir / "outbox.db"
    if not path.exists():
        return
    kind = TamperKind.MODEL if isinstance(error, ModelError) else TamperKind.GALLERY
    device = config.device
    with Outbox(path) as outbox:
        if outbox.head().seq == 0:
            return
        kek = load_key_encryption_key(device.state_dir)
        identity = DeviceIdentity(device.id, device.site, load_signing_key(device.key_file, kek))
        recorder = Recorder(outbox, identity, Clock(), device.direction, "", 0, config.events.diagnostics)
        recorder.tamper(kind, str(error))


def open_gallery(device: DeviceConfig, fleet_keys: FleetKeys, embedder: str) -> Gallery:
    """The gallery of a board's site. Raises GalleryError where it is not to be used."""
    keys = fleet_keys.verification_keys(GALLERY_TYP)
    return read_gallery(device.gallery_file, keys, audience=site_urn(device.site), embedder=embedder)


def open_liveness(config: LivenessConfig, recognition: RecognitionConfig) -> Liveness:
    """Load what tells a face from a picture of one; without its models nobody looks, unless that is required.

    Raises ModelError where they are required and missing, or there and damaged.
    """
    spec = load_liveness(recognition.models_dir) if config.enabled else None
    if spec is not None:
        return TrackLiveness(LivenessModels(spec, recognition.threads), config)
    if config.required:
        folder = recognition.models_dir or installed_folder()
        raise ModelError(
            f"liveness.required = true: {folder / FILE} is not there; {MAKE_LIVENESS}, "
            "or let everybody's photograph pass with required = false"
        )
    return NoLiveness()


def attack_reports(config: LivenessConfig) -> Throttle:
    """Which attacks become events."""
    return Throttle(round(config.attack_interval_s * 1000) if config.attack_events else None)


def build_road(
    eyes: Eyes,
    track: TrackConfig,
    quality: QualityConfig,
    decider: Decider,
    recorder: Keeper,
    guard: Guard | None = None,
) -> Road:
    """The one road, whoever keeps its attendances; without a guard everybody counts as live."""
    guard = guard or Guard()
    return Road(
        detector=eyes.detector,
        tracker=Tracker(track, same=same_person(eyes.spec)),
        quality=quality,
        embedder=eyes.embedder,
        decider=decider,
        recorder=recorder,
        liveness=guard.liveness,
        attack_reports=guard.reports,
    )


def threshold_for(config: DecideConfig, spec: EmbedderSpec, gallery: Gallery) -> float:
    """The similarity that the target and the number enrolled ask for.

    From the gallery's own figures where it was calibrated, else from the models' manifest.
    """
    thresholds = gallery.thresholds or spec.thresholds
    return thresholds.at(len(gallery.people), config.fpir_target)


def same_person(spec: EmbedderSpec) -> float:
    """The similarity from which two looks within a track are one person's."""
    return spec.threshold(SAME_AMONG)
