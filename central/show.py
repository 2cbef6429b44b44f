"""How answers are printed: as a table for people, CSV for spreadsheets, or a JSON object a line for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import chain, islice
from typing import TextIO
from zoneinfo import ZoneInfo

from central.prove import Proof
from central.query import Presence, StoredEvent
from central.reconcile import Missing

Record = Mapping[str, object]
"""Members in the order of the columns."""

SAMPLE = 200
"""Rows that set the width of a table's columns; what comes later may be wider, and nothing is kept for it."""


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def show(records: Iterable[Record], form: str, *, header: bool = True) -> int:
    """Print them as they come; how many there were. Where there are none, nothing is printed, also no header."""
    if form == Format.JSON:
        return _json(records, sys.stdout)
    return (_table if form == Format.TABLE else _csv)(records, sys.stdout, header)


WIDE = ("earliest", "latest", "hash")
"""Members that a table for people leaves out, unless it is about what they tell."""


def event_record(event: StoredEvent, zone: ZoneInfo) -> Record:
    """One stored event."""
    return {
        "at": moment(event.at_ms, zone),
        "quality": event.quality.value,
        "err_ms": event.err_ms,
        "device": event.device,
        "event": event.type,
        "person": event.person,
        "direction": event.direction,
        "belief": event.belief.value,
        "earliest": moment(event.earliest_ms, zone),
        "latest": moment(event.latest_ms, zone),
        "arrived": moment(event.arrived_ms, zone),
        "chain": event.chain,
        "seq": event.seq,
        "hash": event.hash,
    }


def presence_record(presence: Presence, zone: ZoneInfo) -> Record:
    return {
        "person": presence.person,
        "first_in": moment(presence.first_in_ms, zone),
        "last_out": moment(presence.last_out_ms, zone),
    }


def missing_record(missing: Missing) -> Record:
    """What one chain lacks, and what to do about it."""
    return {
        "device": missing.device,
        "chain": missing.chain,
        "stored_seq": missing.stored_seq,
        "head_seq": missing.head_seq,
        "missing": missing.count,
        "ranges": ", ".join(_range(places) for places in missing.ranges[:5])
        + (", …" if missing.ranges[5:] else ""),
        "resend_from": missing.resend_from,
        "other_history": missing.other_history,
    }


def proof_record(proof: Proof) -> Record:
    return {
        "device": proof.device,
        "chain": proof.chain,
        "whole": proof.whole,
        "events": proof.events,
        "first_seq": proof.first_seq,
        "last_seq": proof.last_seq,
        "signed_seq": proof.signed_seq,
        "gone": proof.gone,
        "problems": "; ".join(proof.problems) + (f"; and {proof.more} more" if proof.more else ""),
    }


def moment(at_ms: int | None, zone: ZoneInfo) -> str | None:
    """ISO 8601 with milliseconds and offset; a board's wrong clock may be far out of any calendar."""
    if at_ms is None:
        return None
    try:
        return datetime.fromtimestamp(at_ms / 1000, zone).isoformat(sep=" ", timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms after 1970"


def _range(places: range) -> str:
    return str(places.start) if len(places) == 1 else f"{places.start}-{places.stop - 1}"


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _table(records: Iterable[Record], out: TextIO, header: bool) -> int:
    waiting = iter(records)
    sample = list(islice(waiting, SAMPLE))
    if not sample:
        return 0
    names = list(sample[0])
    widths = [max(len(name), *(len(_cell(record[name])) for record in sample)) for name in names]
    count = 0
    if header:
        print(_line(names, widths), file=out, flush=True)
    for record in chain(sample, waiting):
        print(_line([_cell(record[name]) for name in names], widths), file=out, flush=True)
        count += 1
    return count


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _csv(records: Iterable[Record], out: TextIO, header: bool) -> int:
    """RFC 4180, with a header."""
    writer, count = csv.writer(out, lineterminator="\r\n"), 0
    for record in records:
        if header and not count:
            writer.writerow(record)
        writer.writerow([_cell(value) for value in record.values()])
        count += 1
        out.flush()
    return count


def _json(records: Iterable[Record], out: TextIO) -> int:
    count = 0
    for record in records:
        print(json.dumps(record, separators=(",", ":")), file=out, flush=True)
        count += 1
    return count
