"""What a person decides, with who and why: that events count after all, when one happened, that an alert is seen to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, insert, select, update

from central import heads
from central.consume import Message
from central.evidence import FORK_REASON, close_alert
from central.ledger import Outcome, begin_chains, store
from central.registry import Registry
from central.store import tables
from central.store.statements import insert_or
from central.times import Quality
from central.verify import Received, verify_event
from edge.errors import InputError, Refusal, TokenRefused
from edge.trust.members import MAX_INTEGER

PROGRAM = "hadir-central"
"""Who speaks where no person has to."""

MAX_WORDS = 500
"""Characters of who and why."""


@dataclass(frozen=True, slots=True)
class Range:
    """Places of one chain, both ends among them."""

    device: str
    chain: str
    first_seq: int
    last_seq: int = MAX_INTEGER


@dataclass(frozen=True, slots=True)
class Word:
    """Who says so, why, and when."""

    who: str
    why: str
    now_ms: int

    def __post_init__(self) -> None:
        for name in ("who", "why"):
            text = getattr(self, name).strip()
            if not text or len(text) > MAX_WORDS or not text.isprintable():
                raise InputError(
                    f"--{name}: 1 to {MAX_WORDS} printable characters, because it is kept for ever"
                )


@dataclass(frozen=True, slots=True)
class Released:
    """What a release did."""

    stored: int
    """Events that came out of quarantine."""
    still_refused: Sequence[str]
    """Of the others, why they are not believed now either."""
    receipts: Outcome | None


def release(connection: Connection, registry: Registry, places: Range, word: Word) -> Released:
    """Let the tokens of a range count: those in quarantine, and those held since a fork or a break.

    A quarantined token is verified anew, by the registry as it is now; that its key was
    revoked is what the word overrules. One that does not verify stays where it is.

    Raises InputError where there is nothing in the range.
    """
    evidence, chain, event = tables.evidence.c, tables.chain.c, tables.event.c
    waiting = connection.execute(
        select(tables.evidence)
        .where(
            evidence.device == places.device,
            evidence.chain == places.chain,
            evidence.seq >= places.first_seq,
            evidence.seq <= places.last_seq,
            evidence.released.is_(None),
            evidence.reason != FORK_REASON,
        )
        .order_by(evidence.seq, evidence.id)
    ).all()
    held = connection.execute(
        select(event.seq)
        .join(tables.chain, chain.id == event.chain_id)
        .where(
            chain.device == places.device,
            chain.chain == places.chain,
            chain.held_from.is_not(None),
            event.seq >= chain.held_from,
            event.seq >= places.first_seq,
            event.seq <= places.last_seq,
        )
        .limit(1)
    ).first()
    if not waiting and held is None:
        raise InputError(
            f"{places.device}, chain {places.chain}: nothing in quarantine and nothing held from seq "
            f"{places.first_seq} on; `hadir-central events` and `hadir-central alerts` tell what is there"
        )
    number = _note_release(connection, places, word)
    return _believe(connection, registry, waiting, number, word.now_ms)


def take_up(connection: Connection, registry: Registry, now_ms: int) -> int:
    """Believe what came before its key was known, now that it is: handed over, or registered; how many.

    Nobody's word is needed: the key was not revoked, the news of it was only slower.
    """
    evidence = tables.evidence.c
    rows = connection.execute(
        select(tables.evidence)
        .where(evidence.released.is_(None), evidence.reason == Refusal.UNKNOWN_KEY.value)
        .order_by(evidence.device, evidence.chain, evidence.seq, evidence.id)
    )
    by_device: dict[str, list[Row[tuple[object, ...]]]] = {}
    doubtful = set()
    for row in rows:
        if _verifies(row, registry):
            by_device.setdefault(row.device, []).append(row)
        else:
            doubtful.add(row.device)
    for device, believable in by_device.items():
        number = _note_release(
            connection, Range(device, "", 0, 0), Word(PROGRAM, "its key became known", now_ms)
        )
        _believe(connection, registry, [row for row in believable if not _is_status(row)], number, now_ms)
        # A status is over by now, and the next one comes within minutes; but nothing was wrong with it.
        _release_evidence(connection, [row.id for row in believable if _is_status(row)], number)
        if device not in doubtful:
            about = {"kind": Refusal.UNKNOWN_KEY.value, "device": device}
            close_alert(connection, about, "the key became known, and its events were taken up", now_ms)
    return sum(map(len, by_device.values()))


def attest(connection: Connection, places: Range, at: datetime, word: Word) -> int:
    """A person's word on when events happened that no clock dates: the first at `at`, the others as far from it
    as the board's running time tells. How many were dated.

    Raises InputError where one is dated by a clock, or they are of several boots.
    """
    event, chain = tables.event.c, tables.chain.c
    rows = connection.execute(
        select(event.chain_id, event.seq, event.boot, event.mono_ms, event.quality)
        .join(tables.chain, chain.id == event.chain_id)
        .where(
            chain.device == places.device,
            chain.chain == places.chain,
            event.seq >= places.first_seq,
            event.seq <= places.last_seq,
        )
        .order_by(event.seq)
    ).all()
    where = f"{places.device}, chain {places.chain}, seq {places.first_seq} to {places.last_seq}"
    if not rows:
        raise InputError(f"{where}: no such event is stored")
    if len({row.boot for row in rows}) > 1:
        raise InputError(f"{where}: of several boots, between which no clock ran; date each boot's apart")
    if any(row.quality not in (None, Quality.ATTESTED.value) for row in rows):
        raise InputError(f"{where}: a clock dates it; a person's word is for what no clock dates")
    first_ms = round(at.timestamp() * 1000)
    for row in rows:
        at_ms = first_ms + row.mono_ms - rows[0].mono_ms
        place = {"chain_id": row.chain_id, "seq": row.seq}
        said = {"at_ms": at_ms, "who": word.who, "why": word.why, "said_ms": word.now_ms}
        insert_or(connection, tables.word, [place | said], dict.fromkeys(said, "excluded"))
        connection.execute(
            update(tables.event)
            .where(event.chain_id == row.chain_id, event.seq == row.seq)
            .values(at_ms=at_ms, err_ms=None, quality=Quality.ATTESTED.value)
        )
    return len(rows)


def see_to(connection: Connection, kind: str, device: str, word: Word) -> int:
    """Close the open alerts of a kind and board; how many. Raises InputError where there is none."""
    closed = close_alert(connection, {"kind": kind, "device": device}, f"{word.who}: {word.why}", word.now_ms)
    if not closed:
        raise InputError(f"no open alert {kind} of {device or 'no board'}; `hadir-central alerts` lists them")
    return closed


def _note_release(connection: Connection, places: Range, word: Word) -> int:
    row = {
        "device": places.device,
        "chain": places.chain,
        "first_seq": places.first_seq,
        "last_seq": places.last_seq,
        "who": word.who,
        "why": word.why,
        "released_ms": word.now_ms,
    }
    return int(
        connection.execute(insert(tables.release).values(row).returning(tables.release.c.id)).scalar_one()
    )


def _believe(
    connection: Connection,
    registry: Registry,
    rows: Sequence[Row[tuple[object, ...]]],
    number: int,
    now_ms: int,
) -> Released:
    """Verify what was refused anew, and store what holds."""
    received: list[Received] = []
    ids, still_refused = [], []
    for row in rows:
        try:
            received.append(
                verify_event(row.topic, bytes(row.payload), registry, row.arrived_ms / 1000, revoked_too=True)
            )
            ids.append(row.id)
        except TokenRefused as error:
            still_refused.append(f"seq {row.seq}: {error}")
    if not received:
        return Released(0, still_refused, None)
    chains = begin_chains(connection, {(one.device, one.event.chain) for one in received}, now_ms)
    outcome = store(connection, chains, received, [], now_ms)
    _release_evidence(connection, ids, number)
    return Released(len(received), still_refused, outcome)


def _release_evidence(connection: Connection, ids: Sequence[int], number: int) -> None:
    connection.execute(update(tables.evidence).where(tables.evidence.c.id.in_(ids)).values(released=number))


def _is_status(row: Row[tuple[object, ...]]) -> bool:
    return heads.BOARD_TOPIC.fullmatch(row.topic) is not None


def _verifies(row: Row[tuple[object, ...]], registry: Registry) -> bool:
    payload = bytes(row.payload)
    try:
        if _is_status(row):
            heads.read(Message(row.topic, payload, lambda: None), registry)
        else:
            verify_event(row.topic, payload, registry, row.arrived_ms / 1000)
    except TokenRefused:
        return False
    return True
