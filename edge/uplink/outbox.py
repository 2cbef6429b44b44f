"""Where an event is safe: committed here before anything else happens to it.

The event takes its sequence number in the transaction that stores it. The one-row table
`head` moves in that same transaction and is never derived from the event rows, because
delivery empties those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edge.board.clock import KnownClock, LastSync
from edge.errors import CannotRecord, InputError, TokenRefused
from edge.records import ChainPosition, SignedToken
from edge.steps import Step, reached
from edge.trust.jws import parse_object, token_hash
from edge.trust.tokens import MAX_EVENT_BYTES
from edge.uplink.database import Database, Run, new_chain

Sign = Callable[[ChainPosition], SignedToken]
"""Signs an event for a place in the chain."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of this board's chain, and how much of it has been delivered."""

    chain: str
    seq: int
    """0 before the first event."""
    hash: str | None
    acked_seq: int
    """Everything up to here was acknowledged."""
    acked_hash: str | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it was signed; what is sent, and sent again, is exactly this text."""

    seq: int
    token: str
    """Empty where the row cannot be read."""
    made_real_ms: int = 0
    """The board's clock when it was stored."""
    fault: str = ""
    """Why it must not be sent: `undecodable` or `altered`."""


@dataclass(frozen=True, slots=True)
class Aside:
    """An event that cannot be sent, and the hash that the chain says it had."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class FormerEvent:
    """An unreceipted event of another chain of this board, as it is stored."""

    seq: int
    token: bytes
    made_real_ms: int


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """How the daemon's last run on this outbox ended."""

    boot: str
    clean: bool


@dataclass(frozen=True, slots=True)
class Resend:
    """What somebody asked to be sent again, both ends included."""

    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Space:
    """How much room the outbox takes."""

    used_bytes: int
    waiting: int
    archived: int


class Outbox(Database):
    """The durable queue between recognition and the broker. Safe to use from several threads.

    Raises:
        CannotRecord: the file cannot be opened or written; the message says which and why.
    """

    def append(self, sign: Sign, made_real_ms: int, *, sets_aside: Aside | None = None) -> StoredEvent:
        """Give the next place in the chain to `sign` and store what it returns, in one transaction.

        With `sets_aside`, the new event is from then on sent in the place of that one, whose row may be gone.
        """
        with self._transaction("written") as run:
            stored = _append(run, sign, made_real_ms)
            if sets_aside is not None:
                run(
                    "INSERT INTO event (seq, hash, token, made_real_ms, aside_by) VALUES (?, ?, '', ?, ?) "
                    "ON CONFLICT (seq) DO UPDATE SET aside_by = excluded.aside_by",
                    (sets_aside.seq, sets_aside.hash, made_real_ms, stored.seq),
                )
        reached(Step.COMMITTED)
        return stored

    def waiting(self, after_seq: int, limit: int) -> tuple[StoredEvent, ...]:
        """The oldest unacknowledged events beyond `after_seq`, in order; set-aside ones by what tells of them."""
        return self._events(after_seq, limit, archived=False)

    def held(self, after_seq: int, limit: int) -> tuple[StoredEvent, ...]:
        """The oldest events beyond `after_seq` in the same way, acknowledged ones among them."""
        return self._events(after_seq, limit, archived=True)

    def _events(self, after_seq: int, limit: int, *, archived: bool) -> tuple[StoredEvent, ...]:
        with self._reading() as run:
            rows = run(
                # As bytes: one row that is no UTF-8 must not keep the others from being read.
                "SELECT e.seq, CAST(coalesce(a.token, e.token) AS BLOB), CAST(coalesce(a.hash, e.hash) AS BLOB), "
                "e.made_real_ms FROM event e LEFT JOIN event a ON a.seq = e.aside_by "
                "WHERE e.seq > ? AND (e.acked_real_ms IS NULL OR ?) ORDER BY e.seq LIMIT ?",
                (after_seq, archived, limit),
            ).fetchall()
        return tuple(_stored(*row) for row in rows)

    def waiting_count(self) -> int:
        """How many events are not yet acknowledged, or not yet signed for this chain."""
        with self._reading() as run:
            (count,) = run(
                "SELECT (SELECT count(*) FROM event WHERE acked_real_ms IS NULL) + (SELECT count(*) FROM former)"
            ).fetchone()
        return int(count)

    def acknowledge(self, seqs: Iterable[int], at_real_ms: int) -> None:
        """Note that these were delivered; they move to the archive, out of the queue."""
        with self._transaction("written") as run:
            for seq in seqs:
                run(
                    "UPDATE event SET acked_real_ms = ? WHERE seq = ? AND acked_real_ms IS NULL",
                    (at_real_ms, seq),
                )
            run(
                "UPDATE head SET acked_seq = coalesce("
                "(SELECT min(seq) - 1 FROM event WHERE acked_real_ms IS NULL), seq)"
            )
            run(
                "UPDATE head SET acked_hash = coalesce("
                "(SELECT hash FROM event WHERE event.seq = head.acked_seq), acked_hash)"
            )
            reached(Step.ACKNOWLEDGING)
        reached(Step.ACKNOWLEDGED)

    def take_receipt(self, chain: str, seq: int, token_hash: str, at_real_ms: int) -> bool:
        """Move everything up to `seq` to the archive; False, and nothing done, if this is not our chain's."""
        with self._transaction("written") as run:
            head = Head(*run("SELECT chain, seq, hash, acked_seq, acked_hash FROM head").fetchone())
            if chain != head.chain or not head.acked_seq < seq <= head.seq:
                return False
            if _hash_at(run, head, seq) != token_hash:
                return False
            run(
                "UPDATE event SET acked_real_ms = ? WHERE seq <= ? AND acked_real_ms IS NULL",
                (at_real_ms, seq),
            )
            run("UPDATE head SET acked_seq = ?, acked_hash = ?", (seq, token_hash))
            reached(Step.RECEIPT_WRITTEN)
        reached(Step.RECEIPT_KEPT)
        return True

    def hash_at(self, seq: int) -> str | None:
        """Our own hash at a place of the chain; None where it is not held any more, or not yet."""
        with self._reading() as run:
            head = Head(*run("SELECT chain, seq, hash, acked_seq, acked_hash FROM head").fetchone())
            return _hash_at(run, head, seq)

    def hash_by_successor(self, seq: int) -> str | None:
        """The hash that the rest of the chain says this event had; None where it does not say."""
        with self._reading() as run:
            end, end_hash = run("SELECT seq, hash FROM head").fetchone()
            if seq == end:
                return str(end_hash)
            return _prev_at(run, seq + 1)

    def first_missing(self, after_seq: int, before_seq: int | None) -> int | None:
        """The first unreceipted place between the two, or up to the head, whose row is gone; None where none is."""
        with self._reading() as run:
            end, acked_seq = run("SELECT seq, acked_seq FROM head").fetchone()
            first = max(after_seq, acked_seq) + 1
            last = end if before_seq is None else before_seq - 1
            (found,) = run("SELECT count(*) FROM event WHERE seq BETWEEN ? AND ?", (first, last)).fetchone()
            if found >= last - first + 1:
                return None
            (before,) = run(
                "SELECT min(seq) FROM (SELECT ? AS seq UNION ALL SELECT seq FROM event WHERE seq BETWEEN ? AND ?) "
                "AS here WHERE NOT EXISTS (SELECT 1 FROM event WHERE event.seq = here.seq + 1)",
                (first - 1, first, last),
            ).fetchone()
        return int(before) + 1

    def repair_hash(self, seq: int, token_hash: str) -> None:
        """Set a row's hash right; the token in it is what the chain says it is."""
        with self._transaction("written") as run:
            run("UPDATE event SET hash = ? WHERE seq = ?", (token_hash, seq))

    def prune_archive(self, acked_before_real_ms: int) -> int:
        """Delete events acknowledged before then; returns how many. Never touches a waiting one."""
        with self._transaction("written") as run:
            deleted = run(
                "DELETE FROM event WHERE acked_real_ms < ? AND seq <= (SELECT acked_seq FROM head)",
                (acked_before_real_ms,),
            ).rowcount
            reached(Step.PRUNING)
        reached(Step.PRUNED)
        return deleted

    def prune_oldest(self, count: int) -> int:
        """Delete so many of the oldest of the archive; returns how many there were."""
        with self._transaction("written") as run:
            return run(
                "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE acked_real_ms IS NOT NULL "
                "AND seq <= (SELECT acked_seq FROM head) ORDER BY seq LIMIT ?)",
                (count,),
            ).rowcount

    def space(self) -> Space:
        """Room taken by pages in use; the file itself may be larger, and what was deleted is used again."""
        with self._reading() as run:
            pages, free, page_bytes = (
                run(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
            )
            waiting, archived = run(
                "SELECT count(*) FILTER (WHERE acked_real_ms IS NULL) + (SELECT count(*) FROM former), "
                "count(acked_real_ms) FROM event"
            ).fetchone()
        return Space((pages - free) * page_bytes, waiting, archived)

    def redate_archive(self, before_real_ms: int, at_real_ms: int) -> None:
        """Count the age of what was acknowledged before then from `at_real_ms` on.

        For acknowledgements noted before the clock was set: once it is, they would look
        decades old, and the archive would forget them at once.
        """
        with self._transaction("written") as run:
            run("UPDATE event SET acked_real_ms = ? WHERE acked_real_ms < ?", (at_real_ms, before_real_ms))

    def head(self) -> Head:
        """The end of the chain as it stands on disk."""
        with self._reading() as run:
            row = run("SELECT chain, seq, hash, acked_seq, acked_hash FROM head").fetchone()
        return Head(*row)

    def begin_new_chain(self, first: Sequence[Sign], made_real_ms: int) -> str:
        """Give up this chain: what is not acknowledged waits to be signed anew, in a chain that begins with `first`.

        All of it at once. The file of the old chain is kept by whoever calls (`freeze`).
        """
        with self._transaction("written") as run:
            run(
                "INSERT INTO former (chain, seq, token, made_real_ms) SELECT head.chain, event.seq, token, "
                "made_real_ms FROM event, head WHERE acked_real_ms IS NULL AND aside_by IS NULL ORDER BY event.seq"
            )
            run("DELETE FROM event")
            run("DELETE FROM resend")
            run(
                "UPDATE head SET chain = ?, seq = 0, hash = NULL, acked_seq = 0, acked_hash = NULL",
                (new_chain(),),
            )
            for sign in first:
                _append(run, sign, made_real_ms)
            (chain,) = run("SELECT chain FROM head").fetchone()
            reached(Step.CHAIN_WRITTEN)
        reached(Step.CHAIN_BEGUN)
        return str(chain)

    def adopt(self, events: Iterable[FormerEvent]) -> None:
        """Have unreceipted events of another outbox of this board signed anew in this one."""
        with self._transaction("written") as run:
            for event in events:
                run(
                    "INSERT INTO former (chain, seq, token, made_real_ms) VALUES ('', ?, CAST(? AS TEXT), ?)",
                    (event.seq, event.token, event.made_real_ms),
                )

    def sign_former(self, sign: Callable[[bytes], Sign | None], limit: int) -> int:
        """Bring the oldest events of a chain that was given up into this one; returns how many were looked at.

        `sign` is given the old token and returns how to sign it, or None for one that stays
        behind in the frozen file.
        """
        with self._transaction("written") as run:
            rows = run(
                "SELECT number, CAST(token AS BLOB), made_real_ms FROM former ORDER BY number LIMIT ?",
                (limit,),
            ).fetchall()
            for number, token, made_real_ms in rows:
                signer = sign(token)
                if signer is not None:
                    _append(run, signer, made_real_ms)
                run("DELETE FROM former WHERE number = ?", (number,))
            if rows:
                reached(Step.FORMER_WRITTEN)
        if rows:
            reached(Step.FORMER_SIGNED)
        return len(rows)

    def ask_resend(self, from_seq: int) -> Resend:
        """Have everything from `from_seq` on sent again; the daemon notices. An earlier wish is widened.

        Raises:
            InputError: nothing from there on is held; names what is.
        """
        with self._transaction("written") as run:
            chain, end = run("SELECT chain, seq FROM head").fetchone()
            (low,) = run("SELECT min(seq) FROM event").fetchone()
            if low is None or not low <= from_seq <= end:
                held = "nothing" if low is None else f"seq {low} to {end}"
                raise InputError(f"{self.path}: seq {from_seq} of chain {chain} is not held; {held} is")
            run(
                "INSERT INTO resend (one, chain, from_seq, to_seq) VALUES (1, ?, ?, ?) ON CONFLICT (one) DO "
                "UPDATE SET from_seq = min(from_seq, excluded.from_seq), to_seq = excluded.to_seq",
                (chain, from_seq, end),
            )
            reached(Step.RESEND_WRITTEN)
            found = run("SELECT from_seq, to_seq FROM resend").fetchone()
        reached(Step.RESEND_ASKED)
        return Resend(*found)

    def resend(self) -> Resend | None:
        """What is to be sent again; None where nothing is."""
        with self._reading() as run:
            row = run("SELECT from_seq, to_seq FROM resend, head WHERE resend.chain = head.chain").fetchone()
        return None if row is None else Resend(*row)

    def resent(self, done: Resend) -> None:
        """It was sent again; a wish that was widened meanwhile stays."""
        with self._transaction("written") as run:
            run("DELETE FROM resend WHERE from_seq >= ? AND to_seq <= ?", (done.from_seq, done.to_seq))
            reached(Step.RESENT_WRITTEN)
        reached(Step.RESENT)

    def previous_run(self) -> PreviousRun | None:
        """How the last run ended; None on the first."""
        with self._reading() as run:
            row = run("SELECT boot, clean FROM run").fetchone()
        return None if row is None else PreviousRun(boot=row[0], clean=bool(row[1]))

    def mark_run(self, boot: str, *, clean: bool) -> None:
        """Remember this run, for the `start` event of the next."""
        with self._transaction("written") as run:
            run(
                "INSERT INTO run (one, boot, clean, conn) VALUES (1, ?, ?, 0) ON CONFLICT (one) DO UPDATE SET "
                "conn = CASE WHEN boot = excluded.boot THEN conn ELSE 0 END, "
                "boot = excluded.boot, clean = excluded.clean",
                (boot, clean),
            )
            reached(Step.RUN_WRITTEN)

    def known_clock(self) -> KnownClock | None:
        """What was last noted of the clock; None if nothing ever was."""
        with self._reading() as run:
            row = run("SELECT boot, synced, offset_ms, sync_mono_ms, sync_err_ms FROM clock").fetchone()
        if row is None:
            return None
        boot, synced, offset_ms, mono_ms, err_ms = row
        sync = None if mono_ms is None else LastSync(mono_ms, err_ms)
        return KnownClock(boot, bool(synced), offset_ms, sync)

    def note_clock(self, known: KnownClock) -> None:
        """Remember it across power cuts."""
        mono_ms, err_ms = (None, None) if known.sync is None else (known.sync.mono_ms, known.sync.err_ms)
        with self._transaction("written") as run:
            run(
                "INSERT INTO clock VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET "
                "boot = excluded.boot, synced = excluded.synced, offset_ms = excluded.offset_ms, "
                "sync_mono_ms = excluded.sync_mono_ms, sync_err_ms = excluded.sync_err_ms",
                (known.boot, known.synced, known.offset_ms, mono_ms, err_ms),
            )
            reached(Step.CLOCK_WRITTEN)
        reached(Step.CLOCK_NOTED)

    def next_conn(self) -> int:
        """The number of the connection that is about to be made, counted within the boot, across restarts."""
        with self._transaction("written") as run:
            run(
                "INSERT INTO run (one, boot, clean, conn) VALUES (1, '', 0, 1) "
                "ON CONFLICT (one) DO UPDATE SET conn = conn + 1"
            )
            (conn,) = run("SELECT conn FROM run").fetchone()
        return int(conn)


def _append(run: Run, sign: Sign, made_real_ms: int) -> StoredEvent:
    """The next event of the chain, within a transaction."""
    chain, seq, prev = run("SELECT chain, seq, hash FROM head").fetchone()
    (lowest,) = run("SELECT min(seq) FROM event").fetchone()
    low = seq + 1 if lowest is None else lowest
    reached(Step.POSITION_TAKEN)
    signed = sign(ChainPosition(chain=chain, seq=seq + 1, prev=prev, low=low))
    reached(Step.SIGNED)
    if len(signed.compact) > MAX_EVENT_BYTES:
        raise CannotRecord(
            f"event {seq + 1} of chain {chain} has {len(signed.compact)} bytes; at most {MAX_EVENT_BYTES}"
        )
    run(
        "INSERT INTO event (seq, hash, token, made_real_ms) VALUES (?, ?, ?, ?)",
        (seq + 1, signed.hash, signed.compact, made_real_ms),
    )
    reached(Step.INSERTED)
    run("UPDATE head SET seq = ?, hash = ?", (seq + 1, signed.hash))
    reached(Step.HEAD_MOVED)
    return StoredEvent(seq=seq + 1, token=signed.compact, made_real_ms=made_real_ms)


def _stored(seq: int, token: bytes, stored_hash: bytes, made_real_ms: int) -> StoredEvent:
    """A row, and whether it can be sent: it must be text, and still have the hash that it was stored with."""
    try:
        text = token.decode("ascii")
    except UnicodeDecodeError:
        return StoredEvent(seq, "", made_real_ms, fault="undecodable")
    fault = "" if token_hash(text).encode() == stored_hash else "altered"
    return StoredEvent(seq, text, made_real_ms, fault)


def _hash_at(run: Run, head: Head, seq: int) -> str | None:
    if seq == head.seq:
        return head.hash
    if seq == head.acked_seq:
        return head.acked_hash
    row = run("SELECT CAST(hash AS BLOB) FROM event WHERE seq = ?", (seq,)).fetchone()
    return _prev_at(run, seq + 1) if row is None else row[0].decode("ascii", "replace")


def _prev_at(run: Run, seq: int) -> str | None:
    row = run("SELECT CAST(token AS BLOB) FROM event WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else _prev_in(row[0])


def _prev_in(token: bytes) -> str | None:
    """`prev` of an event, unverified."""
    try:
        ((_, event),) = parse_object(token.split(b".")[1], "payload")["events"].items()
        return str(event["prev"])
    except (TokenRefused, LookupError, ValueError, TypeError, AttributeError):
        return None
