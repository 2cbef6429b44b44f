"""What must be true of a board's chain, at every death and at the end: plain functions of what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.errors import TokenRefused
from edge.trust.jws import parse_object, token_hash
from edge.trust.tokens import Event, parse_event

HARMLESS = frozenset({"counted", "redelivered"})
"""What a consumer may say of a token; sending again what was on its way is the promise, not a fault."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An outbox as a dead daemon left it, read without the project's own code."""

    chain: str
    head_seq: int
    head_hash: str | None
    waiting: int
    tokens: Mapping[int, str]
    """By seq; delivered ones are among them until they are pruned."""


@dataclass(frozen=True, slots=True)
class Run:
    """One life of the process: what it was killed for, where it found the chain, what it said."""

    killed_at: str
    """A target, "random", or "" where it ended by itself."""
    first_seq: int
    """The chain's next place when it started."""
    last_seq: int
    """The head that it left."""
    told: int
    """Attendances that its log called durable."""


@dataclass(slots=True)
class History:
    """Everything that one outbox held at any time."""

    archive_kept: bool
    """Whether delivered events stay, or are deleted at the next start."""
    chain: str | None = None
    head_seq: int = 0
    head_hash: str | None = None
    waiting: int = 0
    held: int = 0
    """Events in it at the last look, delivered ones included."""
    tokens: dict[int, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def take(self, snapshot: Snapshot | None) -> None:
        """Add what a dead process left; None where there is no outbox."""
        if snapshot is None:
            if self.chain is not None:
                self.problems.append("the outbox has vanished")
            return
        self.problems += _contradictions(self, snapshot)
        self.chain, self.waiting = snapshot.chain, snapshot.waiting
        self.head_seq, self.head_hash = snapshot.head_seq, snapshot.head_hash
        self.held = len(snapshot.tokens)
        self.tokens |= snapshot.tokens

    @property
    def hashes(self) -> dict[int, str]:
        return {seq: token_hash(token) for seq, token in sorted(self.tokens.items())}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one chain's events at the consumer."""

    events: int
    attendances: int
    told: int
    lost: int
    doubled: int
    redelivered: int
    problems: tuple[str, ...]


def judge(history: History, told: Sequence[Mapping[str, Any]]) -> Verdict:
    """Hold what the consumer told (its JSON objects) against what the outbox held."""
    of_chain = [finding for finding in told if finding.get("chain") == history.chain]
    believed = [(finding["seq"], finding["hash"]) for finding in of_chain if finding["believed"]]
    expected = list(history.hashes.items())
    counts = Counter(seq for seq, _ in believed)
    attended = {
        finding["seq"] for finding in of_chain if finding["believed"] and finding["event"] == "attendance"
    }
    lost = [seq for seq in range(1, history.head_seq + 1) if not counts[seq]]
    doubled = [seq for seq, count in counts.items() if count > 1]
    problems = [*history.problems, *_breaks(history)]
    if lost:
        problems.append(f"the consumer does not believe seq {_some(lost)} of {history.head_seq}")
    if doubled:
        problems.append(f"the consumer believes seq {_some(doubled)} more than once")
    if believed != expected:
        problems.append(
            "what the consumer believes is not what the outbox held: order, places or hashes differ"
        )
    problems += _bad_words(of_chain)
    problems += _broken_promises(history, attended)
    return Verdict(
        events=history.head_seq,
        attendances=len(attended),
        told=sum(run.told for run in history.runs),
        lost=len(lost),
        doubled=len(doubled),
        redelivered=sum(finding["verdict"] == "redelivered" for finding in of_chain),
        problems=tuple(problems),
    )


def strangers(chains: Sequence[str | None], told: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the consumer was told of that no outbox ever held."""
    foreign = Counter(
        str(finding.get("chain", finding["verdict"]))
        for finding in told
        if finding.get("chain") not in chains
    )
    return [
        f"the consumer told {count} times of {chain}, which no outbox holds"
        for chain, count in foreign.items()
    ]


def _contradictions(before: History, now: Snapshot) -> Iterator[str]:
    """A later look at an outbox may add; it never changes what was there."""
    if before.chain not in (None, now.chain):
        yield f"the chain became another: {now.chain}"
    if now.head_seq < before.head_seq:
        yield f"the head went back from {before.head_seq} to {now.head_seq}"
    changed = [seq for seq, token in now.tokens.items() if before.tokens.get(seq, token) != token]
    if changed:
        yield f"the token of seq {_some(changed)} was changed"
    beyond = [seq for seq in now.tokens if seq > now.head_seq]
    if beyond:
        yield f"seq {_some(beyond)} lies beyond the head, {now.head_seq}"
    if now.head_seq in now.tokens and token_hash(now.tokens[now.head_seq]) != now.head_hash:
        yield f"the head's hash is not that of seq {now.head_seq}"


def _breaks(history: History) -> Iterator[str]:
    """The chain as a whole: no gap, every `prev` right, nothing waiting."""
    if history.waiting:
        yield f"{history.waiting} events wait in the outbox at the end"
    if history.archive_kept and history.held != history.head_seq:
        yield f"the archive ends with {history.held} events of {history.head_seq}"
    if not history.archive_kept and history.held == history.head_seq:
        yield "nothing was ever pruned"
    missing = [seq for seq in range(1, history.head_seq + 1) if seq not in history.tokens]
    if missing:
        yield f"the outbox held no seq {_some(missing)} of {history.head_seq}"
    hashes = history.hashes
    for seq, token in sorted(history.tokens.items()):
        try:
            event = _event(token)
        except TokenRefused as refused:
            yield f"seq {seq} is no event: {refused}"
            continue
        if (event.chain, event.seq) != (history.chain, seq):
            yield f"seq {seq} calls itself seq {event.seq} of {event.chain}"
        if event.prev != hashes.get(seq - 1) and (seq == 1 or seq - 1 in hashes):
            yield f"prev of seq {seq} is not the hash of the event before it"


def _bad_words(findings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Forks, broken links, refusals, gaps; and events that still wait for others."""
    believed = {finding["seq"] for finding in findings if finding["believed"]}
    for verdict, count in Counter(finding["verdict"] for finding in findings).items():
        if verdict == "waiting":
            stuck = {f["seq"] for f in findings if f["verdict"] == verdict} - believed
            if stuck:
                yield f"seq {_some(sorted(stuck))} still waits at the consumer"
        elif verdict not in HARMLESS:
            yield f"the consumer said {verdict!r} {count} times"


def _broken_promises(history: History, attended: set[int]) -> Iterator[str]:
    """Independent of what the outbox claims: what the log called durable must have arrived.

    One more may have been committed than was told: the kill came between.
    """
    for number, run in enumerate(history.runs, 1):
        arrived = sum(run.first_seq <= seq <= run.last_seq for seq in attended)
        if not run.told <= arrived <= run.told + 1:
            yield f"run {number} ({run.killed_at or 'to its end'}) told of {run.told} attendances, {arrived} arrived"


def _event(token: str) -> Event:
    return parse_event(parse_object(token.split(".")[1].encode(), "payload"))


def _some(seqs: Sequence[int]) -> str:
    shown = ", ".join(map(str, seqs[:5]))
    return shown if len(seqs) <= 5 else f"{shown} and {len(seqs) - 5} more"  # noqa: PLR2004 - enough to look for
