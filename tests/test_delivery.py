"""With receipts, an event is delivered when the server signed that it has it, and not a moment before."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge.__main__ import main
from edge.config import BrokerConfig, EventsConfig
from edge.errors import CannotRecord, DiskFull, InputError, TokenRefused
from edge.loops import Loop
from edge.records import TamperKind
from edge.trust.jws import SigningKey, token_hash
from edge.trust.receipts import Receipt, RefusedEvent
from edge.trust.tokens import ATTENDANCE, SKIP, START, TAMPER
from edge.uplink.connection import Published
from edge.uplink.drain import (
    NO_MATCHING_SUBSCRIBERS,
    PACKET_OVERHEAD_BYTES,
    SKIP_PACKET_BYTES,
    UNKNOWN_HASH,
    Drain,
)
from edge.uplink.forks import give_up_chain
from edge.uplink.outbox import Outbox, Resend, StoredEvent
from edge.uplink.publish import Publisher
from edge.uplink.reach import SESSION_TAKEN_OVER
from edge.uplink.receipts import Meaning, ReceiptReader
from edge.uplink.recorder import Recorder
from edge.uplink.session import RECEIPT_WAIT_S, State
from edge.uplink.suspects import Suspects
from edge.uplink.troubles import Trouble
from tests.brokers import BROKERS
from tests.chains import NOW_MS, recorder_on, somebody
from tests.peers import Publication, ScriptedBroker
from tests.servers import ISSUER, Server, event_of, receipt, receipt_keys

NOWHERE = BrokerConfig(url="mqtt://127.0.0.1:1")
QUICK = {"retry_min_s": 0.05, "retry_max_s": 0.1}


class Ahead:
    """The monotonic clock, which a test can put ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def status(state: State, conn: int) -> bytes:
    return f'{{"state": "{state}"}}'.encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    with Outbox(path) as outbox:
        yield outbox


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with BROKERS[request.param]() as url:
        yield url


@pytest.fixture
def embedded() -> Iterator[str]:
    with BROKERS["iotcore"]() as url:
        yield url


def filled(outbox: Outbox, attendances: int) -> Recorder:
    """A chain of a start and so many attendances."""
    recorder = recorder_on(outbox)
    recorder.start("1.0")
    for number in range(attendances):
        recorder.attendance(somebody(f"E{number}"))
    return recorder


@contextmanager
def board(
    recorder: Recorder,
    url: str,
    *,
    window: int = 2048,
    drain_s: float = 0,
    delivery: str = "receipt",
    clock: Ahead | None = None,
    now_ms: int = NOW_MS,
    make_room: Callable[[], None] = lambda: None,
) -> Iterator[Publisher]:
    publisher = Publisher(
        recorder,
        BrokerConfig(url=url, **QUICK),  # type: ignore[arg-type]
        EventsConfig(delivery, window=window, drain_s=drain_s),
        status,
        lambda: b"{}",
        receipt_keys,
        make_room=make_room,
        monotonic_s=clock or time.monotonic,
        real_ms=lambda: now_ms,
    )
    loop = Loop("publisher", lambda loop: publisher.run(loop.turned))
    loop.start()
    try:
        yield publisher
    finally:
        publisher.stop()
        loop.join(60)
        assert not loop.running
        if loop.error is not None:
            raise loop.error


def eventually(server: Server, outbox: Outbox, waiting: int = 0) -> bool:
    """Whether so few events wait, soon."""
    return server.wait_until(lambda: outbox.waiting_count() == waiting)


def seqs(tokens: Sequence[str]) -> list[int]:
    return [event_of(token).seq for token in tokens]


def test_what_the_server_has_signed_for_is_archived_and_nothing_else(outbox: Outbox, url: str) -> None:
    recorder = filled(outbox, 9)
    head = outbox.head()
    with Server(url, gives=False) as server, board(recorder, url):
        assert server.wait_for(10)
        assert outbox.waiting_count() == 10, "the broker has acknowledged all of them, which says nothing"
        server.give(head.chain, 6)
        assert eventually(server, outbox, waiting=4)
    after = outbox.head()
    assert (after.acked_seq, after.acked_hash) == (6, token_hash(server.stored[head.chain, 6]))
    assert seqs([event.token for event in outbox.held(0, 100)]) == list(range(1, 11)), (
        "the archive keeps them"
    )


def test_a_backlog_arrives_in_order_through_a_small_window(outbox: Outbox, url: str) -> None:
    recorder = filled(outbox, 299)
    with Server(url) as server, board(recorder, url, window=16, drain_s=30):
        assert server.wait_for(300)
    assert seqs(server.arrivals) == list(range(1, 301)), "in order, and each once"
    assert outbox.waiting_count() == 0


def test_what_a_retained_receipt_covers_is_not_sent_again(outbox: Outbox, url: str) -> None:
    recorder = filled(outbox, 4)
    with Server(url, gives=False) as server:
        with board(recorder, url):
            assert server.wait_for(5)
        server.give(outbox.head().chain, 3)
        server.arrivals.clear()
        with board(recorder, url):
            assert server.wait_until(lambda: len(server.arrivals) >= 2)
            assert eventually(server, outbox, waiting=2)
    assert seqs(server.arrivals) == [4, 5]


def test_without_progress_for_ten_seconds_it_sends_again_from_what_was_receipted(
    outbox: Outbox, embedded: str
) -> None:
    recorder, clock = filled(outbox, 3), Ahead()
    with Server(embedded, gives=False) as server, board(recorder, embedded, clock=clock) as publisher:
        assert server.wait_for(4)
        server.give(outbox.head().chain, 2)
        assert eventually(server, outbox, waiting=2)
        clock.ahead_s += 11
        publisher.wake()
        assert server.wait_until(lambda: len(server.arrivals) >= 6)
        assert Trouble.NO_RECEIPTS not in publisher.troubles.names()
        clock.ahead_s += 30
        publisher.wake()
        assert server.wait_until(lambda: len(server.arrivals) >= 8)
        assert Trouble.NO_RECEIPTS in publisher.troubles.names()
    assert seqs(server.arrivals) == [1, 2, 3, 4, 3, 4, 3, 4]
    assert len(set(server.arrivals)) == 4, "byte for byte the same"


OTHER_CHAIN = "A" * 22


@pytest.mark.parametrize(
    "forge",
    [
        lambda chain, right: receipt(chain, 3, right, key=SigningKey.generate()),
        lambda chain, right: receipt(chain, 3, right, device="door-02"),
        lambda chain, right: receipt(OTHER_CHAIN, 9, right),
        lambda chain, right: receipt(chain, 3, right)[:-4] + b"AAAA",
        lambda chain, right: b"",
        lambda chain, right: b"\xff" * 100,
        lambda chain, right: b"x" * 9000,
    ],
    ids=["another key", "another board", "another chain", "altered", "empty", "no text", "huge"],
)
def test_a_receipt_that_is_forged_or_foreign_changes_nothing(
    outbox: Outbox, path: Path, forge: object, url: str
) -> None:
    recorder = filled(outbox, 3)
    head = outbox.head()
    right = outbox.hash_at(3)
    with Server(url, gives=False) as server, board(recorder, url):
        server.publish(forge(head.chain, right))  # type: ignore[operator]
        assert server.wait_for(4)
        recorder.attendance(somebody())
        server.give(head.chain, 1)
        assert eventually(server, outbox, waiting=4)
    assert outbox.head().chain == head.chain
    assert outbox.head().acked_seq == 1
    assert list(path.parent.glob("outbox-*")) == []


def test_a_receipt_that_is_rolled_back_changes_nothing(outbox: Outbox, embedded: str) -> None:
    recorder = filled(outbox, 3)
    chain = outbox.head().chain
    with Server(embedded, gives=False) as server, board(recorder, embedded) as publisher:
        assert server.wait_for(4)
        server.give(chain, 3)
        assert eventually(server, outbox, waiting=1)
        server.give(chain, 1)
        recorder.attendance(somebody())
        publisher.wake()
        assert server.wait_for(5)
        server.give(chain, 4)
        assert eventually(server, outbox, waiting=1)
    assert outbox.head().acked_seq == 4
    assert seqs(server.arrivals) == [1, 2, 3, 4, 5], "nothing was sent again"


@pytest.mark.parametrize(("seq", "said"), [(150, "beyond"), (2, "another hash")])
def test_a_card_that_was_restored_or_cloned_begins_a_new_chain_and_loses_nothing(
    path: Path, url: str, seq: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Outbox(path) as outbox, Server(url) as server:
        recorder = filled(outbox, 3)
        old = outbox.head().chain
        before = [event.token for event in outbox.held(0, 100)]
        server.publish(receipt(old, seq, "B" * 43))
        with board(recorder, url):
            assert server.wait_for(6)
            assert eventually(server, outbox)
        new = outbox.head().chain
        assert new != old
        told = server.events(new)
        assert [event.type for event in told] == [START, TAMPER, START, ATTENDANCE, ATTENDANCE, ATTENDANCE]
        assert told[0].payload["cause"] == "fork"
        assert told[1].payload["kind"] == "fork"
        assert [event.was and (event.was.chain, event.was.seq) for event in told[2:]] == [
            (old, 1), (old, 2), (old, 3), (old, 4),
        ]  # fmt: skip
        assert [event.person for event in told[3:]] == ["E0", "E1", "E2"]
        assert server.events(old) == [], "nothing of the fork was sent under the old name"
    frozen = path.parent / f"outbox-{old}.db"
    with Outbox(frozen) as kept:
        assert [event.token for event in kept.held(0, 100)] == before
    assert str(frozen) in caplog.text


def test_an_event_that_the_server_does_not_believe_is_delivered_all_the_same(
    outbox: Outbox, embedded: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = filled(outbox, 1)
    head = outbox.head()
    assert head.hash is not None
    with Server(embedded, gives=False) as server, board(recorder, embedded):
        assert server.wait_for(2)
        refused = RefusedEvent(seq=2, hash=head.hash, reason="unknown-key")
        server.publish(receipt(head.chain, 2, head.hash, refused=(refused,)))
        assert eventually(server, outbox)
    assert "seq 2 is stored there, and not believed (unknown-key)" in caplog.text


def alter(path: Path, statement: str) -> None:
    """What a bad card, or somebody with a screwdriver, does to a row."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement)


UNDECODABLE = "UPDATE event SET token = CAST(x'ff00ff' AS TEXT) WHERE seq = 3"
ALTERED = "UPDATE event SET token = 'x' || substr(token, 2) WHERE seq = 3"
LAST_ALTERED = "UPDATE event SET token = 'x' || substr(token, 2) WHERE seq = 5"


@pytest.mark.parametrize(
    ("statement", "seq", "reason"),
    [(UNDECODABLE, 3, "undecodable"), (ALTERED, 3, "altered"), (LAST_ALTERED, 5, "altered")],
    ids=["undecodable", "altered", "last altered"],
)
def test_a_row_that_was_damaged_or_altered_is_told_of_and_holds_nothing_up(
    outbox: Outbox, path: Path, embedded: str, statement: str, seq: int, reason: str
) -> None:
    recorder = filled(outbox, 4)
    right = outbox.hash_at(seq)
    alter(path, statement)
    with Server(embedded) as server, board(recorder, embedded):
        assert server.wait_for(6)
        assert eventually(server, outbox)
    told = server.events(outbox.head().chain)
    assert [event.seq for event in told] == [n for n in range(1, 8) if n != seq]
    assert [event.type for event in told[-2:]] == [TAMPER, SKIP]
    assert told[-2].payload["kind"] == "database"
    assert told[-1].payload["skipped"] == {"seq": seq, "hash": right}
    assert told[-1].payload["reason"] == reason
    assert seqs(server.arrivals).index(7) == seq - 1, (
        "what tells of it takes its place, whatever waits behind"
    )


def test_a_hash_that_was_altered_beside_a_good_token_is_set_right(
    outbox: Outbox, path: Path, embedded: str
) -> None:
    recorder = filled(outbox, 4)
    alter(path, "UPDATE event SET hash = replace(hash, substr(hash, 1, 1), '-') WHERE seq = 3")
    with Server(embedded) as server, board(recorder, embedded):
        assert server.wait_for(6)
        assert eventually(server, outbox)
    told = server.events(outbox.head().chain)
    assert [event.type for event in told] == [START, *[ATTENDANCE] * 4, TAMPER]


def test_a_token_that_is_too_large_for_the_broker_is_set_aside(outbox: Outbox) -> None:
    recorder = filled(outbox, 1)
    recorder.tamper(TamperKind.CAMERA, "x" * 256)
    recorder.attendance(somebody())
    largest = max(len(event.token) for event in outbox.held(0, 9))
    with (
        ScriptedBroker(packet_max=largest + PACKET_OVERHEAD_BYTES - 1) as broker,
        board(recorder, broker.url, delivery="broker", drain_s=20),
    ):
        assert broker.wait_for_events(4)
    sent = [event_of(publication.payload.decode()) for publication in broker.events()]
    assert [event.seq for event in sent[:4]] == [1, 2, 5, 4]
    assert len(broker.events()[2].payload) + PACKET_OVERHEAD_BYTES < SKIP_PACKET_BYTES
    assert (sent[2].type, sent[2].payload["reason"]) == (SKIP, "too-large")
    assert sent[2].payload["skipped"] == {"seq": 3, "hash": outbox.hash_at(3)}


def test_a_broker_that_takes_no_event_at_all_makes_none_be_set_aside(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = filled(outbox, 1)
    with (
        ScriptedBroker(packet_max=600) as broker,
        board(recorder, broker.url, delivery="broker") as publisher,
    ):
        assert broker.wait_until(lambda: Trouble.NOT_AUTHORIZED in publisher.troubles.names())
    assert broker.events() == []
    assert outbox.head().seq == 2
    assert "takes packets of at most 600 bytes" in caplog.text


def test_an_event_that_breaks_the_connection_again_and_again_is_set_aside(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, clock = filled(outbox, 4), Ahead()
    (poison,) = outbox.held(2, 1)

    def answer(publication: Publication) -> int | None:
        if publication.payload == poison.token.encode():
            raise ConnectionError
        return 0

    with (
        ScriptedBroker(answer=answer) as broker,
        board(recorder, broker.url, delivery="broker", clock=clock) as publisher,
    ):
        assert broker.wait_until(lambda: "next try in about 300 s" in caplog.text)
        clock.ahead_s += 301  # four ends in a row may also be another board
        publisher.wake()
        assert broker.wait_until(lambda: outbox.waiting_count() == 0)
    arrived = {event_of(publication.payload.decode()).seq for publication in broker.events()}
    assert arrived == {1, 2, 4, 5, 6}
    assert event_of(broker.events()[-1].payload.decode()).payload.get("reason") == "breaks-connection"


@pytest.mark.parametrize(("made_before_ms", "historical"), [(59_000, False), (61_000, True)])
def test_an_event_that_is_sent_a_minute_after_it_was_made_says_so(
    outbox: Outbox, made_before_ms: int, historical: bool
) -> None:
    recorder = filled(outbox, 0)
    with (
        ScriptedBroker() as broker,
        board(recorder, broker.url, delivery="broker", now_ms=NOW_MS + made_before_ms),
    ):
        assert broker.wait_for_events(1)
    assert broker.events()[0].historical is historical


def test_what_nobody_subscribes_to_is_kept_and_sent_again(outbox: Outbox) -> None:
    recorder = filled(outbox, 0)
    answers = iter([NO_MATCHING_SUBSCRIBERS])

    def answer(publication: Publication) -> int:
        return next(answers, 0) if publication.topic.endswith("/event") else 0

    clock = Ahead()
    with ScriptedBroker(answer=answer) as broker, board(recorder, broker.url, clock=clock) as publisher:
        assert broker.wait_until(lambda: len(broker.publications) == 1)
        clock.ahead_s += RECEIPT_WAIT_S
        publisher.wake()
        assert broker.wait_for_events(2)
    first, second = broker.events()
    assert first.payload == second.payload
    assert outbox.waiting_count() == 1, "even a PUBACK of success is no receipt"


def test_what_is_asked_for_is_sent_again_from_the_archive(outbox: Outbox, path: Path, url: str) -> None:
    """By another process, beside the running daemon: both have the file open."""
    recorder = filled(outbox, 5)
    with Server(url) as server, board(recorder, url) as publisher:
        assert eventually(server, outbox)
        server.arrivals.clear()
        with Outbox(path) as beside:
            assert beside.ask_resend(3) == Resend(3, 6)
        publisher.wake()
        assert server.wait_until(lambda: len(server.arrivals) >= 4)
        assert server.wait_until(lambda: outbox.resend() is None)
    assert seqs(server.arrivals) == [3, 4, 5, 6]


def test_a_server_that_lost_what_it_had_gets_it_again_in_order(outbox: Outbox, embedded: str) -> None:
    recorder = filled(outbox, 5)
    chain = outbox.head().chain
    with Server(embedded) as server, board(recorder, embedded, window=2) as publisher:
        assert eventually(server, outbox)
        server.forget_after(chain, 2)
        outbox.ask_resend(3)
        publisher.wake()
        assert server.wait_until(lambda: outbox.resend() is None)
    assert [event.seq for event in server.events(chain)] == [1, 2, 3, 4, 5, 6]
    assert outbox.head().acked_seq == 6, "what was acknowledged stays acknowledged"


def test_what_is_not_held_cannot_be_asked_for(outbox: Outbox) -> None:
    filled(outbox, 3)
    outbox.acknowledge([1, 2], at_real_ms=1)
    outbox.prune_archive(acked_before_real_ms=2)
    for seq in (2, 5):
        with pytest.raises(InputError, match=rf"seq {seq} of chain .* is not held; seq 3 to 4 is"):
            outbox.ask_resend(seq)
    outbox.ask_resend(4)
    assert outbox.ask_resend(3) == Resend(3, 4), "an earlier wish is widened"
    outbox.resent(Resend(4, 4))
    assert outbox.resend() == Resend(3, 4), "and only all of it fulfils it"


def test_an_event_that_was_set_aside_is_skipped_when_it_is_sent_again(outbox: Outbox) -> None:
    recorder = filled(outbox, 2)
    recorder.skip(2, str(outbox.hash_at(2)), "too-large")
    assert seqs([event.token for event in outbox.held(0, 9)]) == [1, 4, 3, 4]


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A board's configuration, with an outbox of six events in its state folder."""
    config = tmp_path / "edge.toml"
    config.write_text(
        '[device]\nid = "door-01"\nsite = "hq"\nroot_thumbprint = "' + "A" * 43 + '"\n'
        '[broker]\nurl = "mqtt://127.0.0.1:1"\n[events]\ndelivery = "receipt"\n'
    )
    with Outbox(tmp_path / "state" / "outbox.db") as outbox:
        filled(outbox, 5)
    return config


def test_an_installer_asks_for_it_beside_the_daemon(
    configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resend", "--config", str(configured), "--from", "4"]) == 0
    assert "seq 4 to 6 of chain" in capsys.readouterr().out
    with Outbox(configured.parent / "state" / "outbox.db") as outbox:
        assert outbox.resend() == Resend(4, 6)


@pytest.mark.parametrize("seq", ["0", "7", "-1"])
def test_an_installer_who_asks_for_what_is_not_held_is_told_what_is(
    configured: Path, seq: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resend", "--config", str(configured), "--from", seq]) == InputError.exit_code
    assert "is not held; seq 1 to 6 is" in capsys.readouterr().err


def test_an_installer_who_asks_where_there_is_no_outbox_makes_none(
    configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outbox = configured.parent / "state" / "outbox.db"
    outbox.unlink()
    assert main(["resend", "--config", str(configured), "--from", "1"]) == InputError.exit_code
    assert f"{outbox}: there is no outbox" in capsys.readouterr().err
    assert not outbox.exists()


class Failing(Outbox):
    """A disk that is full at the first receipt."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.failures = 1

    def take_receipt(self, chain: str, seq: int, token_hash: str, at_real_ms: int) -> bool:
        if self.failures:
            self.failures -= 1
            raise DiskFull("no room for the receipt")
        return super().take_receipt(chain, seq, token_hash, at_real_ms)


def test_on_a_full_disk_room_is_made_and_the_receipt_is_taken_when_it_comes_again(
    path: Path, embedded: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Failing(path) as outbox, Server(embedded) as server:
        recorder = filled(outbox, 2)
        made: list[int] = []
        with board(recorder, embedded, make_room=lambda: made.append(1)):
            assert eventually(server, outbox)
        assert made == [1]
    assert "no room for the receipt. Events wait in the outbox" in caplog.text


def test_a_session_that_was_taken_over_is_told_in_the_next_status(outbox: Outbox) -> None:
    clock = Ahead()
    recorder = filled(outbox, 0)
    with (
        ScriptedBroker(disconnect_reason=SESSION_TAKEN_OVER) as broker,
        board(recorder, broker.url, delivery="broker", clock=clock) as publisher,
    ):
        assert broker.wait_until(lambda: Trouble.TAKEN_OVER in publisher.troubles.names())
        clock.ahead_s += 301
        publisher.wake()
        assert broker.wait_until(lambda: len(broker.connects) == 2)
        assert Trouble.TAKEN_OVER in publisher.troubles.names(), "until a connection ends in another way"


def test_a_receipt_for_a_row_that_vanished_is_judged_by_what_the_next_one_says(
    outbox: Outbox, path: Path
) -> None:
    recorder = filled(outbox, 3)
    head, right = outbox.head(), str(outbox.hash_at(3))
    alter(path, "DELETE FROM event WHERE seq = 3")
    drain = Drain(recorder, EventsConfig("receipt"), NOWHERE, Suspects(), lambda: NOW_MS)
    wrong = Receipt(ISSUER, "urn:hadir:device:door-01", 1, head.chain, 3, "A" * 43, ())
    assert drain.take_receipt(wrong, 0.0) is Meaning.FORK
    assert drain.take_receipt(dataclasses.replace(wrong, hash=right), 0.0) is Meaning.PROGRESS
    assert outbox.head().acked_seq == 3


def test_an_event_of_which_nothing_is_known_any_more_is_set_aside_all_the_same(
    outbox: Outbox, path: Path
) -> None:
    recorder = filled(outbox, 3)
    alter(path, "UPDATE event SET token = CAST(x'ff' AS TEXT), hash = '?' WHERE seq IN (2, 3)")
    sent: list[StoredEvent] = []

    def publish(event: StoredEvent, historical: bool) -> int:
        sent.append(event)
        return len(sent)

    drain = Drain(recorder, EventsConfig("receipt"), NOWHERE, Suspects(), lambda: NOW_MS)
    for _ in range(9):
        drain.send(publish, now_s=0.0)
    told = [event_of(event.token) for event in sent]
    skipped = {
        event.payload["skipped"]["seq"]: event.payload["skipped"]["hash"]
        for event in told
        if event.type == SKIP
    }
    assert skipped == {2: UNKNOWN_HASH, 3: event_of(sent[3].token).prev}


def test_a_suspect_that_was_receipted_and_pruned_meanwhile_is_forgotten(outbox: Outbox) -> None:
    recorder, suspects = filled(outbox, 3), Suspects()
    for _ in range(3):
        suspects.ended({2}, reason=0x81)
    outbox.acknowledge([1, 2], at_real_ms=1)
    outbox.prune_archive(acked_before_real_ms=2)
    drain = Drain(recorder, EventsConfig("receipt"), NOWHERE, suspects, lambda: NOW_MS)
    sent: list[int] = []

    def publish(event: StoredEvent, historical: bool) -> int:
        sent.append(event.seq)
        return len(sent)

    for _ in range(2):
        drain.send(publish, now_s=0.0)
    assert (sent, suspects.alone) == ([3, 4], None)


def test_a_suspect_goes_alone_and_then_the_others_in_order(outbox: Outbox) -> None:
    recorder, suspects = filled(outbox, 3), Suspects()
    for _ in range(3):
        suspects.ended({2}, reason=0x81)
    drain = Drain(recorder, EventsConfig("receipt"), NOWHERE, suspects, lambda: NOW_MS)
    sent: list[int] = []

    def publish(event: StoredEvent, historical: bool) -> int:
        sent.append(event.seq)
        return len(sent)

    for _ in range(3):
        drain.send(publish, now_s=0.0)
    assert sent == [2]
    drain.settle([Published(mid=1, reason=0)], now_s=0.0)
    drain.send(publish, now_s=0.0)
    assert sent == [2, 1, 2, 3, 4]


def test_where_the_old_outbox_cannot_be_kept_no_new_chain_begins(outbox: Outbox, path: Path) -> None:
    recorder = filled(outbox, 1)
    chain = outbox.head().chain
    path.with_name(f"outbox-{chain}.part").mkdir()
    fork = Receipt(ISSUER, "urn:hadir:device:door-01", 1, chain, 99, "A" * 43, ())
    with pytest.raises(CannotRecord, match="the old outbox cannot be kept"):
        give_up_chain(recorder, fork, lambda: None)
    assert outbox.head().chain == chain


def test_a_retained_receipt_that_was_deleted_is_no_receipt() -> None:
    with pytest.raises(TokenRefused, match="was deleted"):
        ReceiptReader("door-01", receipt_keys).read(b"")


@pytest.mark.parametrize(
    ("gone", "tampers"), [([3], 1), ([2], 1), ([5], 1), ([3, 4], 1), ([2, 4], 2), ([2, 3, 4, 5], 1)]
)
def test_rows_that_were_deleted_are_told_of_and_hold_nothing_up(
    outbox: Outbox, path: Path, gone: list[int], tampers: int
) -> None:
    """The server would wait for them: they are above `low`, so they might still come."""
    recorder = filled(outbox, 4)
    hashes = {seq: outbox.hash_at(seq) for seq in gone}
    outbox.take_receipt(outbox.head().chain, 1, str(outbox.hash_at(1)), at_real_ms=1)
    for seq in gone:
        alter(path, f"DELETE FROM event WHERE seq = {seq}")  # noqa: S608 - a number of ours
    sent: list[StoredEvent] = []

    def publish(event: StoredEvent, historical: bool) -> int:
        sent.append(event)
        return len(sent)

    drain = Drain(recorder, EventsConfig("receipt"), NOWHERE, Suspects(), lambda: NOW_MS)
    for _ in range(20):
        drain.send(publish, now_s=0.0)
    assert [event.seq for event in sent] == list(range(2, outbox.head().seq + 1)), "each place once, in order"
    told = [event_of(event.token) for event in sent]
    skipped = [event.payload["skipped"] for event in told if event.type == SKIP]
    skips = {one["seq"]: one["hash"] for one in skipped}
    assert set(skips) == set(gone)
    assert skips[gone[-1]] == hashes[gone[-1]], "the next event says it"
    assert [event.type for event in told].count(TAMPER) == tampers


def test_what_was_delivered_and_pruned_is_not_missing(outbox: Outbox) -> None:
    recorder = filled(outbox, 4)
    outbox.acknowledge([1, 2, 4], at_real_ms=1)
    outbox.prune_archive(acked_before_real_ms=2)
    assert outbox.first_missing(0, None) is None
    assert outbox.first_missing(0, 3) is None
    drain = Drain(recorder, EventsConfig("broker"), NOWHERE, Suspects(), lambda: NOW_MS)
    sent: list[int] = []

    def publish(event: StoredEvent, historical: bool) -> int:
        sent.append(event.seq)
        return len(sent)

    for _ in range(3):
        drain.send(publish, now_s=0.0)
    assert sent == [3, 5]
