"""The commands of `hadir-central` that ask the database, or put a person's word into it: they parse and print."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, select

from central import words
from central.config import CentralConfig, load_central
from central.keyring import Keyring
from central.prove import Proof, prove
from central.query import (
    Span,
    StoredEvent,
    arrived_since,
    day,
    events,
    of_day,
    undated,
    who_was_in,
)
from central.reconcile import reconcile
from central.show import (
    WIDE,
    Format,
    Record,
    event_record,
    missing_record,
    moment,
    presence_record,
    proof_record,
    show,
)
from central.store import tables
from central.store.database import migrate, open_database, reading, shown, writing
from edge.errors import InputError
from edge.trust.identity import ID_PATTERN
from edge.trust.members import MAX_INTEGER
from edge.trust.tokens import CHAIN_PATTERN

FOLLOW_S = 1.0
OVERLAP_MS = 60_000
"""`--follow` looks back so far each time: batches of several consumers are committed in any order."""

MAX_FOLLOWED = 100_000

YEARS = range(1970, 3000)

NOT_WHOLE = 1
"""Exit code of `verify` and `reconcile` where something is missing or does not hold."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser], config: Path) -> None:
    """Add what asks and what decides. `config` is where the configuration lies unless one is named."""
    base = argparse.ArgumentParser(add_help=False)
    base.add_argument("--config", type=Path, default=config, help="default %(default)s")
    form = argparse.ArgumentParser(add_help=False)
    form.add_argument(
        "--format",
        choices=[form.value for form in Format],
        default=Format.TABLE.value,
        help="default %(default)s",
    )
    board = argparse.ArgumentParser(add_help=False)
    board.add_argument("--device", type=_device, help="of this board alone")
    _add_questions(commands, base, form, board)
    _add_words(commands, base)


def _add_questions(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    base: argparse.ArgumentParser,
    form: argparse.ArgumentParser,
    board: argparse.ArgumentParser,
) -> None:
    told = commands.add_parser(
        "events", parents=[base, form, board], help="what is stored, how it is believed, how good its time is"
    )
    told.add_argument("--day", type=_day, help="YYYY-MM-DD, in report.timezone")
    told.add_argument("--undated", action="store_true", help="only what no clock dates, with its bounds")
    told.add_argument("--follow", action="store_true", help="go on with what is stored from now on")
    told.set_defaults(act=_on_database(_events))
    who = commands.add_parser("who", parents=[base, form], help="everybody's first in and last out of a day")
    who.add_argument("--day", type=_day, required=True, help="YYYY-MM-DD, in report.timezone")
    who.set_defaults(act=_on_database(_who))
    proving = commands.add_parser(
        "verify",
        parents=[base, form, board],
        help="prove every chain whole from the stored bytes, or say where not",
    )
    proving.set_defaults(act=_on_database(_verify))
    missing = commands.add_parser(
        "reconcile",
        parents=[base, form, board],
        help="what boards have signed and is not stored, as after a restore",
    )
    missing.set_defaults(act=_on_database(_reconcile))
    alerts = commands.add_parser("alerts", parents=[base, form], help="what a person must look at")
    alerts.add_argument("--all", action="store_true", help="closed ones, too")
    alerts.set_defaults(act=_on_database(_alerts))
    schema = commands.add_parser(
        "migrate", parents=[base], help="bring the database to this version's schema"
    )
    schema.set_defaults(act=_on_database(_migrate))


def _add_words(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], base: argparse.ArgumentParser
) -> None:
    word = argparse.ArgumentParser(add_help=False)
    word.add_argument("--who", required=True, help="who decides")
    word.add_argument("--why", required=True, help="and why; both are kept for ever")
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument("--device", type=_device, required=True)
    places.add_argument("--chain", type=_chain, required=True, help="as `events` and `alerts` show it")
    places.add_argument("--seq", type=_seqs, required=True, help="N, N-M, or N- for all from there on")
    release = commands.add_parser(
        "release", parents=[base, places, word], help="let quarantined or held events count"
    )
    release.set_defaults(act=_on_database(_release))
    dating = commands.add_parser(
        "date", parents=[base, places, word], help="say when events happened that no clock dates"
    )
    dating.add_argument(
        "--at", type=_moment, required=True, help="of the first, with offset: 2026-11-24T08:00:00+07:00"
    )
    dating.set_defaults(act=_on_database(_date))
    closing = commands.add_parser("close", parents=[base, word], help="close alerts that were seen to")
    closing.add_argument("--kind", required=True)
    closing.add_argument("--device", default="", help="empty for those of no board")
    closing.set_defaults(act=_on_database(_close))


Act = Callable[[argparse.Namespace, CentralConfig, Engine], int | None]


def _on_database(act: Act) -> Callable[[argparse.Namespace], int | None]:
    """Open the configured database for a command, and close it."""

    def carried_out(options: argparse.Namespace) -> int | None:
        config = load_central(options.config)
        engine = open_database(config.database.url, options.config.parent)
        try:
            migrate(engine, make=act is _migrate)
            return act(options, config, engine)
        finally:
            engine.dispose()

    return carried_out


def _events(options: argparse.Namespace, config: CentralConfig, engine: Engine) -> None:
    conditions = [of_day(day(options.day, config.zone))] if options.day else []
    conditions += [undated()] if options.undated else []

    def record(event: StoredEvent) -> Record:
        whole = event_record(event, config.zone)
        left_out = WIDE if options.format == Format.TABLE and not options.undated else ()
        return {name: value for name, value in whole.items() if name not in left_out}

    begin_ms = _now_ms()
    with reading(engine) as connection:
        found = events(connection, *conditions, device=options.device)
        count = 0 if options.follow and not conditions else show(map(record, found), options.format)
    if options.follow:
        for some in _following(engine, options.device, begin_ms):
            count += show(map(record, some), options.format, header=not count)


def _following(engine: Engine, device: str | None, begin_ms: int) -> Iterator[list[StoredEvent]]:
    """What is stored from now on, each once."""
    seen: dict[tuple[str, str, int], None] = {}
    while True:
        since_ms = max(begin_ms, _now_ms() - OVERLAP_MS)
        with reading(engine) as connection:
            found = list(events(connection, arrived_since(since_ms), device=device))
        new = [event for event in found if (event.device, event.chain, event.seq) not in seen]
        seen |= dict.fromkeys((event.device, event.chain, event.seq) for event in new)
        for key in list(seen)[:-MAX_FOLLOWED]:
            del seen[key]
        if new:
            yield new
        time.sleep(FOLLOW_S)


def _who(options: argparse.Namespace, config: CentralConfig, engine: Engine) -> None:
    span: Span = day(options.day, config.zone)
    with reading(engine) as connection:
        show((presence_record(one, config.zone) for one in who_was_in(connection, span)), options.format)
        without = sum(event.person is not None for event in events(connection, of_day(span), undated()))
    if without:
        print(
            f"hadir-central: {without} attendances that arrived that day have no time that a clock vouches for; see "
            "`hadir-central events --undated`, and `hadir-central date`",
            file=sys.stderr,
        )


def _verify(options: argparse.Namespace, config: CentralConfig, engine: Engine) -> int:
    keyring = Keyring(config.trust.devices_file)
    whole = True

    def watched(proofs: Iterable[Proof]) -> Iterator[Record]:
        nonlocal whole
        for proof in proofs:
            whole &= proof.whole
            yield proof_record(proof)

    with reading(engine) as connection:
        _check_known(connection, options.device)
        keyring.learn(connection)
        show(watched(prove(connection, keyring.registry, options.device)), options.format)
    return 0 if whole else NOT_WHOLE


def _check_known(connection: Connection, device: str | None) -> None:
    """Of a board that is not there nothing is wrong: whoever mistypes its name must not take that for a proof."""
    if device is None:
        return
    known = select(tables.chain.c.device).where(tables.chain.c.device == device)
    told = select(tables.head.c.device).where(tables.head.c.device == device)
    if connection.execute(known.union_all(told).limit(1)).first() is None:
        raise InputError(f"device {device}: nothing of it is stored; `hadir-central events` shows what is")


def _reconcile(options: argparse.Namespace, config: CentralConfig, engine: Engine) -> int:
    with reading(engine) as connection:
        _check_known(connection, options.device)
        found = list(reconcile(connection, options.device))
    show(map(missing_record, found), options.format)
    for one in found:
        if one.resend_from is not None:
            print(
                f"{one.device}, chain {one.chain}: on the board, `hadir-edge resend --from {one.resend_from}`",
                file=sys.stderr,
            )
    return NOT_WHOLE if found else 0


def _alerts(options: argparse.Namespace, config: CentralConfig, engine: Engine) -> None:
    alert = tables.alert.c
    statement = select(tables.alert).order_by(alert.first_ms, alert.kind, alert.device, alert.seq)
    if not options.all:
        statement = statement.where(alert.closed_ms.is_(None))
    with reading(engine) as connection:
        rows = connection.execute(statement).mappings()
        show(
            (
                {**row, **{name: moment(row[name], config.zone) for name in row if name.endswith("_ms")}}
                for row in rows
            ),
            options.format,
        )


def _migrate(options: argparse.Namespace, config: CentralConfig, engine: Engine) -> None:
    """Every command does it before anything else, where it is needed and this user may."""
    print(f"{shown(engine)}: schema {migrate(engine)[1]}")


def _release(options: argparse.Namespace, config: CentralConfig, engine: Engine) -> None:
    keyring = Keyring(config.trust.devices_file)
    with writing(engine) as connection:
        keyring.learn(connection)
        released = words.release(connection, keyring.registry, _range(options), _word(options))
    print(f"released: {released.stored} out of quarantine; what is held in that range counts from now on")
    for why in released.still_refused:
        print(f"still not believed: {why}")


def _date(options: argparse.Namespace, config: CentralConfig, engine: Engine) -> None:
    with writing(engine) as connection:
        count = words.attest(connection, _range(options), options.at, _word(options))
    print(f"dated: {count}")


def _close(options: argparse.Namespace, config: CentralConfig, engine: Engine) -> None:
    with writing(engine) as connection:
        print(f"closed: {words.see_to(connection, options.kind, options.device, _word(options))}")


def _range(options: argparse.Namespace) -> words.Range:
    return words.Range(options.device, options.chain, options.seq.start, options.seq.stop - 1)


def _word(options: argparse.Namespace) -> words.Word:
    return words.Word(options.who, options.why, _now_ms())


def _now_ms() -> int:
    return round(time.time() * 1000)


def _day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be a day, YYYY-MM-DD") from error
    if found.year not in YEARS:  # the day after the calendar's last has no date
        raise argparse.ArgumentTypeError(f"{text!r} must be a day from {YEARS.start} to {YEARS.stop - 1}")
    return found


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be a moment, 2026-11-24T08:00:00+07:00") from error
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset: write +07:00, or Z")
    return at


def _seqs(text: str) -> range:
    match = re.fullmatch(r"([1-9][0-9]{0,14})(?:(-)([1-9][0-9]{0,14})?)?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} must be N, N-M or N-")
    first = int(match[1])
    last = int(match[3]) if match[3] else MAX_INTEGER if match[2] else first
    if last < first:
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins")
    return range(first, last + 1)


def _device(text: str) -> str:
    if not ID_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device id")
    return text


def _chain(text: str) -> str:
    if not CHAIN_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no chain: 22 characters of base64url")
    return text
