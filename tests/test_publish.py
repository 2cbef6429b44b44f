"""The publisher: nothing leaves the outbox before a PUBACK of success, whatever the broker does."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from edge.board.clock import RELEASED_REAL_MS
from edge.config import BrokerConfig, EventsConfig
from edge.loops import Loop
from edge.records import ChainPosition, SignedToken
from edge.trust.jws import token_hash
from edge.uplink.connection import SESSION_EXPIRY_S, Closed, Connection
from edge.uplink.drain import NO_MATCHING_SUBSCRIBERS, Drain
from edge.uplink.outbox import Outbox
from edge.uplink.patience import STEADY_S, Patience
from edge.uplink.publish import Publisher
from edge.uplink.session import Session, State
from edge.uplink.suspects import Suspects
from edge.uplink.troubles import Troubles
from edge.uplink.upkeep import Upkeep
from edge.uplink.window import NOT_AUTHORIZED
from tests.chains import recorder_on
from tests.peers import Publication, ScriptedBroker

QUOTA_EXCEEDED = 0x97
SESSION_TAKEN_OVER = 0x8E


def signed(position: ChainPosition) -> SignedToken:
    text = f"token-{position.seq}"
    return SignedToken(compact=text, hash=token_hash(text))


def status(state: State, conn: int) -> bytes:
    return json.dumps({"state": state, "conn": conn}).encode()


class Clock:
    """The monotonic clock, which a test can put ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


class Listener(logging.Handler):
    """Waits for words in the log."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words
        self._heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._words in record.getMessage():
            self._heard.set()

    def heard(self) -> bool:
        return self._heard.wait(20)


@contextmanager
def listening_for(words: str) -> Iterator[Listener]:
    listener = Listener(words)
    logger = logging.getLogger("edge.uplink.publish")
    logger.addHandler(listener)
    try:
        yield listener
    finally:
        logger.removeHandler(listener)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


def fill(outbox: Outbox, count: int) -> None:
    for _ in range(count):
        outbox.append(signed, made_real_ms=0)


@contextmanager
def publishing(
    outbox: Outbox, url: str, *, window: int = 2048, drain_s: float = 20, clock: Clock | None = None
) -> Iterator[Publisher]:
    broker = BrokerConfig(url=url, retry_min_s=0.05, retry_max_s=0.1)
    events = EventsConfig("broker", window=window, drain_s=drain_s)
    publisher = Publisher(
        recorder_on(outbox),
        broker,
        events,
        status,
        lambda: b"{}",
        dict,
        monotonic_s=clock or time.monotonic,
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


NOWHERE = BrokerConfig(url="mqtt://127.0.0.1:1")


def unconnected(outbox: Outbox) -> Publisher:
    return Publisher(recorder_on(outbox), NOWHERE, EventsConfig("broker"), status, lambda: b"{}", dict)


def payloads(publications: list[Publication]) -> list[str]:
    return [publication.payload.decode() for publication in publications]


def numbered(count: int) -> list[str]:
    return [f"token-{seq}" for seq in range(1, count + 1)]


def test_everything_in_the_outbox_is_sent_in_order_and_leaves_it_once_acknowledged(outbox: Outbox) -> None:
    fill(outbox, 300)
    with ScriptedBroker() as broker, publishing(outbox, broker.url):
        assert broker.wait_for_events(300)
    assert payloads(broker.events()) == numbered(300)
    assert outbox.waiting_count() == 0
    assert outbox.head().acked_seq == 300


def test_an_event_that_comes_while_connected_is_sent_at_once(outbox: Outbox) -> None:
    with ScriptedBroker() as broker, publishing(outbox, broker.url) as publisher:
        assert broker.wait_until(lambda: len(broker.publications) > 0)
        for count in (1, 2, 3):
            fill(outbox, 1)
            publisher.wake()
            assert broker.wait_for_events(count)
    assert payloads(broker.events()) == numbered(3)


def test_without_an_acknowledgement_nothing_leaves_the_outbox(outbox: Outbox) -> None:
    fill(outbox, 3)
    with (
        ScriptedBroker(answer=lambda publication: None) as broker,
        publishing(outbox, broker.url, drain_s=0),
    ):
        assert broker.wait_for_events(3)
    assert outbox.waiting_count() == 3


def test_what_was_in_flight_when_the_connection_broke_is_sent_again_byte_for_byte(outbox: Outbox) -> None:
    fill(outbox, 20)
    with (
        ScriptedBroker(drop_after=7, answer=lambda p: None if p.connection == 1 else 0) as broker,
        publishing(outbox, broker.url),
    ):
        assert broker.wait_until(lambda: outbox.waiting_count() == 0 or len(broker.events()) >= 27)
    first = [p.payload for p in broker.events() if p.connection == 1]
    second = [p.payload for p in broker.events() if p.connection == 2]
    assert [payload.decode() for payload in second] == numbered(20)
    assert first == second[: len(first)]
    assert outbox.waiting_count() == 0


def test_events_made_while_the_broker_is_away_arrive_once_it_is_there(outbox: Outbox) -> None:
    fill(outbox, 2)
    late = ScriptedBroker()
    with (
        listening_for("next try") as log,
        publishing(outbox, "mqtt://127.0.0.1:1", drain_s=0),
    ):
        assert log.heard()
    assert outbox.waiting_count() == 2
    with late as broker, publishing(outbox, broker.url):
        assert broker.wait_for_events(2)
    assert outbox.waiting_count() == 0


@pytest.mark.parametrize("reason", [QUOTA_EXCEEDED, NO_MATCHING_SUBSCRIBERS, 0x80])
def test_an_event_that_the_broker_did_not_take_is_kept_and_sent_again(outbox: Outbox, reason: int) -> None:
    refused: set[bytes] = set()

    def once(publication: Publication) -> int:
        if publication.payload == b"token-2" and publication.payload not in refused:
            refused.add(publication.payload)
            return reason
        return 0

    fill(outbox, 3)
    with ScriptedBroker(answer=once) as broker, publishing(outbox, broker.url):
        assert broker.wait_for_events(4)
    sent = payloads(broker.events())
    assert sent[:3] == numbered(3)
    assert sent[3] == "token-2"
    assert outbox.waiting_count() == 0


def test_a_broker_that_takes_nothing_for_long_is_told_of_once(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: a line at every try, several a second, for as long as a quota was exceeded."""

    def answer(publication: Publication) -> int:
        return QUOTA_EXCEEDED if publication.topic.endswith("/event") else 0

    fill(outbox, 3)
    with ScriptedBroker(answer=answer) as broker, publishing(outbox, broker.url):
        assert broker.wait_for_events(12)
    assert [record.message for record in caplog.records if "PUBACK" in record.message] == [
        "broker: 1 event(s) kept, PUBACK reason 0x97; sent again until it takes them"
    ]


def test_after_not_authorized_it_pauses_for_ten_minutes_and_keeps_everything(outbox: Outbox) -> None:
    clock = Clock()
    allowed = threading.Event()

    def answer(publication: Publication) -> int:
        return 0 if allowed.is_set() or publication.topic.endswith("/status") else NOT_AUTHORIZED

    fill(outbox, 1)
    with ScriptedBroker(answer=answer) as broker, publishing(outbox, broker.url, clock=clock) as publisher:
        assert broker.wait_for_events(1)
        fill(outbox, 1)
        publisher.wake()
        publisher.wake()
        assert outbox.waiting_count() == 2
        sent_before = len(broker.events())
        allowed.set()
        clock.ahead_s += 601
        publisher.wake()
        assert broker.wait_until(lambda: len(broker.events()) >= sent_before + 2)
    assert sent_before == 1, "while paused nothing is sent"
    assert outbox.waiting_count() == 0


def test_no_more_are_in_flight_than_the_window_or_the_broker_allows(outbox: Outbox) -> None:
    """paho does not obey the broker's Receive Maximum (MQTT 5, 3.3.4); we do."""
    fill(outbox, 50)
    silent = ScriptedBroker(receive_maximum=4, answer=lambda p: 0 if p.topic.endswith("/status") else None)
    with silent as broker, publishing(outbox, broker.url, window=9, drain_s=0) as publisher:
        assert broker.wait_for_events(4)
        for _ in range(3):
            publisher.wake()
    assert len(broker.events()) == 4
    fast = ScriptedBroker(receive_maximum=4)
    with fast as broker, publishing(outbox, broker.url):
        assert broker.wait_for_events(50)
    assert outbox.waiting_count() == 0


def test_a_broker_that_acknowledges_nothing_is_left_after_thirty_seconds(outbox: Outbox) -> None:
    clock = Clock()
    fill(outbox, 1)
    deaf = ScriptedBroker(answer=lambda p: 0 if p.connection > 1 else None)
    with deaf as broker, publishing(outbox, broker.url, clock=clock) as publisher:
        assert broker.wait_for_events(1)
        clock.ahead_s += 31
        publisher.wake()
        assert broker.wait_for_events(2)
    assert outbox.waiting_count() == 0


def test_a_broker_that_accepts_the_connection_and_then_says_nothing_is_left(outbox: Outbox) -> None:
    clock = Clock()
    with (
        ScriptedBroker(accept_reason=None) as broker,
        listening_for("accepted the connection and then said nothing") as log,
        publishing(outbox, broker.url, clock=clock, drain_s=0) as publisher,
    ):
        assert broker.wait_until(lambda: len(broker.connects) == 1)
        clock.ahead_s += 11
        publisher.wake()
        assert log.heard()


def test_a_refused_connection_is_said_and_tried_again(outbox: Outbox) -> None:
    fill(outbox, 1)
    with (
        ScriptedBroker(accept_reason=NOT_AUTHORIZED) as broker,
        listening_for("refused: Not authorized") as log,
        publishing(outbox, broker.url, drain_s=0),
    ):
        assert broker.wait_until(lambda: len(broker.connects) >= 2)
        assert log.heard()
    assert outbox.waiting_count() == 1


def test_when_another_takes_over_the_session_it_gives_way_for_five_minutes(outbox: Outbox) -> None:
    clock = Clock()
    with (
        ScriptedBroker(disconnect_reason=SESSION_TAKEN_OVER) as broker,
        listening_for("next try in about 300 s") as log,
        publishing(outbox, broker.url, clock=clock) as publisher,
    ):
        assert log.heard()
        publisher.wake()
        assert len(broker.connects) == 1
        clock.ahead_s += 301
        publisher.wake()
        assert broker.wait_until(lambda: len(broker.connects) == 2)


def test_birth_is_retained_and_a_good_stop_leaves_offline(outbox: Outbox) -> None:
    with ScriptedBroker() as broker, publishing(outbox, broker.url):
        assert broker.wait_until(lambda: len(broker.publications) == 1)
    birth, goodbye = broker.publications
    assert (birth.topic, birth.retain) == ("hadir/v1/door-01/up/status", True)
    assert json.loads(birth.payload) == {"state": "online", "conn": 1}
    assert (goodbye.topic, goodbye.retain) == ("hadir/v1/door-01/up/status", True)
    assert json.loads(goodbye.payload) == {"state": "offline", "conn": 1}


def test_birth_is_repeated_every_five_minutes(outbox: Outbox) -> None:
    clock = Clock()
    with ScriptedBroker() as broker, publishing(outbox, broker.url, clock=clock) as publisher:
        assert broker.wait_until(lambda: len(broker.publications) == 1)
        clock.ahead_s += 301
        publisher.wake()
        assert broker.wait_until(lambda: len(broker.publications) == 2)
    assert json.loads(broker.publications[1].payload)["state"] == "online"


def test_the_will_says_lost_in_the_name_of_this_connection(outbox: Outbox) -> None:
    with ScriptedBroker() as broker, publishing(outbox, broker.url):
        assert broker.wait_until(lambda: len(broker.connects) == 1)
    connect = broker.connects[0]
    assert b"door-01" in connect
    assert b"hadir/v1/door-01/up/status" in connect
    assert b'{"state": "lost", "conn": 1}' in connect
    assert b"\x11" + SESSION_EXPIRY_S.to_bytes(4, "big") in connect, "the session outlives the will's delay"
    assert b"\x18" + (30).to_bytes(4, "big") in connect, "the will waits 30 s for a reconnect"


def test_an_address_where_nobody_listens_is_named(outbox: Outbox) -> None:
    with ScriptedBroker() as gone:
        url = gone.url
    with (
        listening_for(f"broker {url}: nobody listens at port") as log,
        publishing(outbox, url, drain_s=0),
    ):
        assert log.heard()


def test_only_what_waits_to_be_sent_again_is_sent_again(outbox: Outbox) -> None:
    """The one that was refused goes back to its place; what is still in flight behind it is passed over."""
    refused_once = threading.Event()

    def answer(publication: Publication) -> int | None:
        if publication.topic.endswith("/status"):
            return 0
        if publication.payload == b"token-2":
            return None
        if refused_once.is_set():
            return 0
        refused_once.set()
        return QUOTA_EXCEEDED

    fill(outbox, 2)
    with ScriptedBroker(answer=answer) as broker, publishing(outbox, broker.url, drain_s=0) as publisher:
        assert broker.wait_until(lambda: payloads(broker.events()).count("token-1") == 2)
        fill(outbox, 1)
        publisher.wake()
        assert broker.wait_until(lambda: payloads(broker.events())[-1] == "token-3")
    assert payloads(broker.events()) == ["token-1", "token-2", "token-1", "token-3"]


def test_a_broker_that_hangs_up_at_the_goodbye_holds_nobody_up(outbox: Outbox) -> None:
    def hang_up(publication: Publication) -> int | None:
        if b"offline" in publication.payload:
            raise ConnectionError
        return 0

    fill(outbox, 1)
    clock = Clock()
    with ScriptedBroker(answer=hang_up) as broker, publishing(outbox, broker.url, clock=clock):
        assert broker.wait_for_events(1)
    assert outbox.waiting_count() == 0


def test_a_connection_that_ends_during_the_goodbye_ends_it_with_its_own_reason(outbox: Outbox) -> None:
    publisher = unconnected(outbox)
    reason = Closed(0x8B, "the server is shutting down")

    class HangsUp(Connection):
        def __init__(self) -> None:
            """Nothing is opened."""

        def publish(self, topic: str, payload: bytes | str, **_: object) -> int | None:
            publisher._inbox.put(reason)
            return 1

    drain = Drain(publisher._uplink.recorder, publisher._events, NOWHERE, Suspects(), lambda: 0)
    session = Session(publisher._uplink, HangsUp(), drain, conn=1, began_s=0.0)
    assert publisher._say_goodbye(session) == reason


def test_before_the_clock_is_set_nothing_in_the_archive_is_dated(tmp_path: Path) -> None:
    """In 1970 every archived event would seem to be from the future, or be given a date that is none."""
    for now_ms, dated in ((60_000, False), (RELEASED_REAL_MS + 1, True)):
        with Outbox(tmp_path / f"{now_ms}.db") as outbox:
            fill(outbox, 1)
            outbox.acknowledge([1], at_real_ms=1_000)
            Upkeep(outbox, EventsConfig("broker"), Troubles(), partial(int, now_ms)).look(now_s=0.0)
            gone = outbox.prune_archive(acked_before_real_ms=RELEASED_REAL_MS)
            assert gone == (0 if dated else 1), "as one of today it is kept, as one of 1970 it goes"


def test_an_event_that_a_broken_connection_did_not_take_is_not_counted_as_sent(outbox: Outbox) -> None:
    """paho refuses it, and says that the connection is gone only afterwards."""
    fill(outbox, 2)
    drain = Drain(recorder_on(outbox), EventsConfig("broker"), NOWHERE, Suspects(), lambda: 0)
    assert drain.send(lambda event, historical: None, now_s=0.0)
    window = drain.window
    assert (window.in_flight, window.cursor, window.more) == ({}, 0, False)
    assert outbox.waiting_count() == 2


BROKE_OFF = Closed(0x80, "the connection ended (Unspecified error)")
UNREACHABLE = Closed(0, "nobody listens")


def test_the_pause_doubles_up_to_its_limit_and_begins_anew_after_a_steady_connection() -> None:
    patience = Patience(retry_min_s=1, retry_max_s=4)
    assert [patience.after(UNREACHABLE, 0)[1] for _ in range(4)] == [1, 2, 4, 4]
    assert patience.after(BROKE_OFF, STEADY_S)[1] == 1


def test_a_connection_that_is_cut_short_again_and_again_is_suspected_to_be_taken_over() -> None:
    """Regression: Mosquitto 2.0 hangs up on a session that is taken over without saying why."""
    patience = Patience(retry_min_s=1, retry_max_s=4)
    told = [patience.after(BROKE_OFF, 0.5) for _ in range(4)]
    assert [pause_s for _, pause_s in told] == [1, 2, 4, 300]
    assert "a second board with the same key" in told[-1][0].detail
    assert "second board" not in told[-2][0].detail


@pytest.mark.parametrize(
    ("closed", "lasted_s"), [(UNREACHABLE, 0), (Closed(0, "silent"), 31), (BROKE_OFF, 61)]
)
def test_what_no_other_client_does_ends_the_suspicion(closed: Closed, lasted_s: float) -> None:
    patience = Patience(retry_min_s=1, retry_max_s=4)
    for _ in range(3):
        patience.after(BROKE_OFF, 0.5)
    patience.after(closed, lasted_s)
    assert "second board" not in patience.after(BROKE_OFF, 0.5)[0].detail


def test_connections_are_counted_within_the_boot_across_restarts(outbox: Outbox) -> None:
    """Regression: a late `lost` of a killed run must not be taken for the one that runs now."""
    outbox.mark_run("boot-a", clean=False)
    assert (outbox.next_conn(), outbox.next_conn()) == (1, 2)
    outbox.mark_run("boot-a", clean=False)
    assert outbox.next_conn() == 3
    outbox.mark_run("boot-b", clean=False)
    assert outbox.next_conn() == 1
