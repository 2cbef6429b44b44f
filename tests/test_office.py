"""What the server makes of what boards do: every case of the design, by real tokens, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from central import heads
from central.keyring import Keyring, newest_taken
from central.server import Server, Signer
from central.store import tables
from central.store.database import reading, writing
from central.words import Range, Word, attest, release, see_to
from edge.errors import InputError, KeyFileError
from edge.records import ClockState
from edge.trust.jws import SigningKey
from tests.office import HOLDOVER, NOW_MS, SYNCED, UNSYNCED, Chain, Office, message, register, versioned
from tests.test_central import altered, malleated

WORD = Word("Ada", "looked at the door's camera", NOW_MS)


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def office(database: Engine, chain: Chain, tmp_path: Path) -> Office:
    return Office(database, register(tmp_path / "devices.jwks", chain))


def test_every_event_is_stored_byte_for_byte_and_its_receipt_names_the_hash(
    office: Office, chain: Chain
) -> None:
    (receipt,) = office.take(chain.start(), chain.attend(), chain.attend("E7"))
    assert (receipt.seq, receipt.hash, receipt.issuer) == (
        3,
        chain.tokens[2].hash,
        "urn:hadir:central:central-1",
    )
    assert [(event.person, event.direction, event.hash) for event in office.events()] == [
        (None, None, chain.tokens[0].hash),
        ("E1042", "in", chain.tokens[1].hash),
        ("E7", "in", chain.tokens[2].hash),
    ]


def test_acknowledged_only_once_it_is_stored(
    office: Office, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: list[int] = []
    start = chain.start()
    slow = type(start)(start.topic, start.payload, lambda: acknowledged.append(len(office.events())))
    office.take(slow)
    assert acknowledged == [1]


# Refused, and receipted all the same


def test_an_altered_token_is_evidence_and_the_chain_goes_on_over_it(office: Office, chain: Chain) -> None:
    """As a bit that fell over in a board's outbox: that event is not believed, those after it are."""
    office.take(chain.start(), chain.attend())
    chain.attend()
    broken = message(chain.device, altered(chain.tokens[2].compact))
    (receipt,) = office.take(broken)
    assert receipt.seq == 3, "or the board would send it for ever"
    assert [(one.seq, one.reason) for one in receipt.refused] == [(3, "bad-signature")]
    (receipt,) = office.take(chain.attend())
    assert (receipt.seq, receipt.hash) == (4, chain.tokens[3].hash)
    assert office.beliefs() == [("A", 1, "counted"), ("A", 2, "counted"), ("A", 4, "counted")]
    assert office.evidence() == [("door-01", "bad-signature", 3)]
    assert office.alerts() == [("bad-signature", "door-01", 0)]


def test_the_genuine_token_takes_the_place_of_one_that_was_refused(office: Office, chain: Chain) -> None:
    office.take(chain.start())
    genuine = chain.attend()
    office.take(message(chain.device, altered(chain.tokens[1].compact)), chain.attend())
    (receipt,) = office.take(genuine)
    assert (receipt.seq, receipt.refused) == (3, ())
    assert [belief for _, _, belief in office.beliefs()] == ["counted"] * 3


def test_a_refused_token_ahead_of_its_turn_waits_with_the_others(office: Office, chain: Chain) -> None:
    start, second = chain.start(), chain.attend()
    chain.attend()
    (receipt,) = office.take(start, message(chain.device, altered(chain.tokens[2].compact)), chain.attend())
    assert receipt.seq == 1
    (receipt,) = office.take(second)
    assert (receipt.seq, [one.seq for one in receipt.refused]) == (4, [3])


def test_the_genuine_token_takes_a_refused_place_also_before_its_turn(office: Office, chain: Chain) -> None:
    start, second, third = chain.start(), chain.attend(), chain.attend()
    office.take(start, message(chain.device, altered(chain.tokens[2].compact)))
    office.take(third)
    (receipt,) = office.take(second)
    assert (receipt.seq, receipt.hash, receipt.refused) == (3, chain.tokens[2].hash, ())


def test_a_malleated_signature_of_what_is_stored_is_the_same_token(office: Office, chain: Chain) -> None:
    office.take(chain.start(), chain.attend())
    (receipt,) = office.take(message(chain.device, malleated(chain.tokens[1].compact)))
    assert (receipt.seq, office.evidence(), office.alerts()) == (2, [], [])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x00\xff junk", "malformed"),
        (b"", "malformed"),
        (b"a.b.c", "malformed"),
        (b"x" * 5000, "too-large"),
    ],
)
def test_rubbish_is_kept_counted_and_stops_nothing(
    office: Office, chain: Chain, payload: bytes, reason: str
) -> None:
    (receipt,) = office.take(chain.start(), message(chain.device, payload), message(chain.device, payload))
    assert (receipt.seq, receipt.refused) == (1, ())
    assert office.evidence() == [("door-01", reason, None)]
    with reading(office.engine) as connection:
        assert connection.execute(select(tables.alert.c.count)).scalars().all() == [2]


def test_a_boards_token_on_anothers_topic_is_an_alert_of_the_topics_board(
    office: Office, chain: Chain
) -> None:
    chain.start()
    office.take(message("door-02", chain.tokens[0].compact))
    assert office.evidence() == [("door-02", "wrong-owner", 1)]
    assert office.alerts() == [("wrong-owner", "door-02", 0)]


def test_a_topic_that_is_no_boards_is_kept_too(office: Office, chain: Chain) -> None:
    start = chain.start()
    assert office.take(type(start)("hadir/v1/EVIL\n/up/event", start.payload, lambda: None)) == []
    assert office.evidence() == [("", "wrong-owner", None)]


def test_what_came_before_its_key_was_known_is_taken_up_when_it_is(
    database: Engine, chain: Chain, tmp_path: Path
) -> None:
    """A new board is quicker than the file that tells of it: nothing of it may be lost, though it was receipted."""
    office = Office(database, register(tmp_path / "devices.jwks", Chain("door-09")))
    (receipt,) = office.take(chain.start(), chain.attend())
    assert [(one.seq, one.reason) for one in receipt.refused] == [(1, "unknown-key"), (2, "unknown-key")]
    register(tmp_path / "devices.jwks", Chain("door-09"), chain)
    office.look_around()
    assert office.beliefs() == [("A", 1, "counted"), ("A", 2, "counted")]
    assert (office.alerts(), office.alerts(closed=True)) == ([], [("unknown-key", "door-01", 0)])
    (receipt,) = office.take(chain.attend())
    assert (receipt.seq, receipt.refused) == (3, ())


def test_a_new_boards_first_status_is_no_alarm_for_long(
    database: Engine, chain: Chain, tmp_path: Path
) -> None:
    """Regression: each new board left an open alert, because its first status is quicker than the file, too."""
    office = Office(database, register(tmp_path / "devices.jwks", Chain("door-09")))
    stranger = Chain("door-02")
    stranger.start()
    office.take(chain.start(), chain.status(), stranger.status())
    assert office.alerts() == [("unknown-key", "door-01", 0), ("unknown-key", "door-02", 0)]
    register(tmp_path / "devices.jwks", Chain("door-09"), chain)
    office.look_around()
    assert office.alerts() == [("unknown-key", "door-02", 0)]
    assert office.beliefs() == [("A", 1, "counted")]


def test_an_alert_of_an_unknown_key_stays_while_one_is_unknown_still(
    database: Engine, chain: Chain, tmp_path: Path
) -> None:
    office = Office(database, register(tmp_path / "devices.jwks", Chain("door-09")))
    thief = Chain(chain.device, chain="B" * 22)
    office.take(chain.start(), thief.start())
    register(tmp_path / "devices.jwks", Chain("door-09"), chain)
    office.look_around()
    assert office.beliefs() == [("A", 1, "counted")]
    assert office.alerts() == [("unknown-key", "door-01", 0)]


@pytest.mark.parametrize("kind", ["status", "health"])
def test_a_retained_message_that_is_cleared_is_no_alarm(office: Office, chain: Chain, kind: str) -> None:
    """Regression: each revocation, which clears the board's status at the broker, raised one."""
    office.take(chain.start(), message(chain.device, b"", kind))
    assert (office.alerts(), office.evidence()) == ([], [])


def test_an_older_copy_of_the_registry_undoes_no_revocation(
    database: Engine, chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: a copy from before a theft, put over the newer one, let the thief in again without a word."""
    devices = tmp_path / "devices.jwks"
    office = Office(database, versioned(register(devices, chain, revoked_at=1_764_000_000), 7))
    office.look_around()
    versioned(register(devices, chain), 6)
    office.look_around()
    assert "version 6 is older than 7" in caplog.text
    assert "copy the newest devices.jwks from the fleet" in caplog.text
    register(devices, chain)
    office.look_around()
    assert "version none is older than 7" in caplog.text
    office.take(chain.start())
    assert office.evidence() == [("door-01", "revoked-key", 1)]
    versioned(register(devices, chain, Chain("door-02"), chain="B" * 22), 8)
    office.look_around()
    assert {one.device for one in office.keyring.registry.registrations.values()} == {"door-01", "door-02"}


def test_what_a_consumer_has_taken_it_does_not_go_back_from_after_a_restart(
    database: Engine, chain: Chain, tmp_path: Path
) -> None:
    """Each for itself: a file is copied to one server after another."""
    devices = versioned(register(tmp_path / "devices.jwks", chain), 7)
    Office(database, devices).look_around()
    with reading(database) as connection:
        newest = {name: newest_taken(connection, name) for name in ("central-1", "central-2")}
    assert newest == {"central-1": 7, "central-2": 0}
    with pytest.raises(KeyFileError, match=f"{devices}: version 6 is older than 7, .* copy the newest"):
        Keyring(versioned(devices, 6)).require(newest["central-1"])
    Keyring(versioned(devices, 7)).require(newest["central-1"])


@pytest.mark.parametrize("consumer", ["central-1", "central-2"])
def test_a_revocation_is_not_forgotten_whatever_the_file_says_later(
    consumer: str, database: Engine, chain: Chain, tmp_path: Path
) -> None:
    """Regression: files without a version, and those of another consumer, say nothing of their age."""
    devices = register(tmp_path / "devices.jwks", chain, revoked_at=1_764_000_000)
    Office(database, devices).look_around()
    again = Office(database, register(devices, chain))
    again.server = Server(database, again.keyring, Signer(consumer, again.desk.key), now=lambda: again.now_s)
    again.take(chain.start())
    assert again.evidence() == [("door-01", "revoked-key", 1)]


def test_a_key_that_a_revoked_one_handed_over_to_stays_revoked_under_an_older_file(
    database: Engine, chain: Chain, tmp_path: Path
) -> None:
    devices = register(tmp_path / "devices.jwks", chain)
    office, before = Office(database, devices), replace(chain)
    office.take(chain.start(), chain.hand_over(SigningKey.generate()))
    register(devices, before, revoked_at=1_764_000_000)
    office.look_around()
    again = Office(database, register(devices, before))
    again.take(chain.attend())
    assert again.evidence() == [("door-01", "revoked-key", 3)]


def test_a_damaged_registry_leaves_the_one_before_in_force(office: Office, chain: Chain) -> None:
    office.devices.write_text("{")
    office.look_around()
    assert office.take(chain.start())[0].refused == ()


# Gaps, forks, words of the board


def test_a_gap_is_an_alert_after_a_minute_and_closes_when_it_is_filled(office: Office, chain: Chain) -> None:
    start, second, third = chain.start(), chain.attend(), chain.attend()
    office.take(start, third)
    office.look_around(55)
    assert office.alerts() == []
    office.look_around(10)
    office.look_around(10)
    assert office.alerts() == [("gap", "door-01", 2)]
    office.take(second)
    office.look_around()
    assert (office.alerts(), office.alerts(closed=True)) == ([], [("gap", "door-01", 2)])


def test_a_cloned_card_is_a_fork_both_are_kept_and_nothing_of_it_is_paid(
    office: Office, chain: Chain
) -> None:
    office.take(chain.start(), chain.attend())
    clone = chain.fork()
    office.take(chain.attend("E1"))
    (receipt,) = office.take(clone.attend("E2"))
    assert receipt.hash == chain.tokens[2].hash, "whose hash is another knows by this that it is a clone"
    office.take(chain.attend("E3"))
    assert office.beliefs()[2:] == [("A", 3, "held"), ("A", 4, "held")]
    assert office.evidence() == [("door-01", "fork", 3)]
    assert office.alerts() == [("fork", "door-01", 3)]


def test_a_person_may_let_held_events_count_and_those_that_follow(office: Office, chain: Chain) -> None:
    office.take(chain.start())
    clone = chain.fork()
    office.take(chain.attend("E1"), clone.attend("E2"), chain.attend("E3"))
    with writing(office.engine) as connection:
        release(connection, office.keyring.registry, Range(chain.device, chain.chain, 2, 2), WORD)
    assert office.beliefs()[1:] == [("A", 2, "counted"), ("A", 3, "held")]
    with writing(office.engine) as connection:
        release(connection, office.keyring.registry, Range(chain.device, chain.chain, 2), WORD)
    office.take(chain.attend("E4"))
    assert [belief for _, _, belief in office.beliefs()] == ["counted"] * 4


def test_nothing_to_release_is_said(office: Office, chain: Chain) -> None:
    office.take(chain.start())
    with (
        pytest.raises(InputError, match="nothing in quarantine and nothing held"),
        writing(office.engine) as connection,
    ):
        release(connection, office.keyring.registry, Range(chain.device, chain.chain, 1), WORD)


@pytest.mark.parametrize("who", ["", "  ", "x" * 501, "a\nb"])
def test_a_word_without_a_name_is_none(who: str) -> None:
    with pytest.raises(InputError, match="--who"):
        Word(who, "because", NOW_MS)


def test_an_event_signed_anew_after_a_fork_is_paid_once(office: Office, chain: Chain) -> None:
    """The receipt of seq 2 was lost with the card, so that the board signs it once more in its new chain."""
    office.take(chain.start(), chain.attend())
    second = Chain(chain="B" * 22, key=chain.key)
    office.take(second.start(), second.sign_anew(chain.tokens[1]))
    assert office.beliefs() == [
        ("A", 1, "counted"),
        ("A", 2, "counted"),
        ("B", 1, "counted"),
        ("B", 2, "repeated"),
    ]
    third = Chain(chain="C" * 22, key=chain.key)
    office.take(third.start(), third.sign_anew(second.tokens[1]))
    assert office.beliefs()[-1] == ("C", 2, "repeated")


def test_signed_anew_twice_and_never_seen_before_it_is_paid_once(office: Office, chain: Chain) -> None:
    chain.start()
    chain.attend()
    for name in "BC":
        other = Chain(chain=name * 22, key=chain.key)
        office.take(other.start(), other.sign_anew(chain.tokens[1]))
    assert office.beliefs() == [
        ("B", 1, "counted"),
        ("B", 2, "counted"),
        ("C", 1, "counted"),
        ("C", 2, "repeated"),
    ]


def test_what_was_signed_anew_is_paid_where_its_first_place_is_held_or_anothers(
    office: Office, chain: Chain
) -> None:
    """The place that `was` names holds a clone's event, of another moment."""
    office.take(chain.start())
    clone = chain.fork()
    clone.later(5)
    office.take(clone.attend("E2"))
    chain.attend("E1")
    second = Chain(chain="B" * 22, key=chain.key)
    office.take(second.start(), second.sign_anew(chain.tokens[1]))
    assert office.beliefs()[-1] == ("B", 2, "counted")


def test_an_event_that_the_board_set_aside_does_not_stop_the_chain(office: Office, chain: Chain) -> None:
    office.take(chain.start())
    chain.attend()
    third = chain.attend()
    (receipt,) = office.take(third, chain.skip(2))
    assert receipt.seq == 4
    assert office.alerts() == [("skipped", "door-01", 2)]
    assert [seq for _, seq, _ in office.beliefs()] == [1, 3, 4]


def test_tampering_is_an_alert(office: Office, chain: Chain) -> None:
    office.take(chain.start(), chain.tamper("receipt beyond the head"))
    assert office.alerts() == [("tamper", "door-01", 2)]


def test_a_token_from_the_future_is_stored_and_flagged(office: Office, chain: Chain) -> None:
    chain.start()
    chain.real_ms += 1_000_000
    office.take(chain.message(1), chain.attend())
    assert office.alerts() == [("ahead", "door-01", 2)]
    assert office.beliefs() == [("A", 1, "counted"), ("A", 2, "counted")]


def test_a_clock_that_is_ahead_dates_neither_itself_nor_others(office: Office, chain: Chain) -> None:
    """Once, one `clock:1` of a clock that was set wrong dated a whole boot."""
    chain.clock, chain.real_ms = UNSYNCED, 0
    office.take(chain.start(), chain.set_clock(NOW_MS + 86_400_000))
    assert times(office) == [(1, None, "unknown"), (2, None, "unknown")]
    assert office.alerts() == [("ahead", "door-01", 2)]


# Keys


def test_a_key_hands_over_to_the_next(office: Office, chain: Chain) -> None:
    old = chain.key
    (receipt,) = office.take(chain.start(), chain.hand_over(SigningKey.generate()), chain.attend())
    assert (receipt.seq, receipt.refused) == (3, ())
    after = Chain(key=old, tokens=list(chain.tokens))
    office.take(after.attend())
    assert office.evidence() == [("door-01", "wrong-use", 4)], "the old key has said its last"


def test_another_consumer_learns_of_the_next_key_from_the_database(
    office: Office, chain: Chain, database: Engine
) -> None:
    office.take(chain.start())
    other = Office(database, office.devices)
    other.take(chain.hand_over(SigningKey.generate()))
    (receipt,) = office.take(chain.attend())
    assert (receipt.seq, receipt.refused) == (3, ())


def test_an_event_that_overtakes_the_handover_is_taken_up_after_it(office: Office, chain: Chain) -> None:
    office.take(chain.start())
    handover, event = chain.hand_over(SigningKey.generate()), chain.attend()
    office.take(event)
    office.take(handover)
    office.look_around()
    assert [belief for _, _, belief in office.beliefs()] == ["counted"] * 3


def test_a_key_that_is_no_longer_its_boards_cannot_hand_over(
    office: Office, chain: Chain, tmp_path: Path
) -> None:
    register(tmp_path / "devices.jwks", chain, revoked_at=1)
    office.look_around()
    office.take(chain.start(), chain.hand_over(SigningKey.generate()), chain.attend())
    reasons = sorted(reason for _, reason, _ in office.evidence())
    assert reasons == ["revoked-key", "revoked-key", "unknown-key"]


def test_a_revoked_key_counts_up_to_where_it_had_come_and_waits_from_then_on(
    office: Office, chain: Chain, tmp_path: Path
) -> None:
    office.take(chain.start(), chain.attend())
    register(tmp_path / "devices.jwks", chain, revoked_at=1_764_000_000)
    office.look_around()
    with reading(office.engine) as connection:
        noted = connection.execute(select(tables.revocation.c.kid, tables.revocation.c.seq)).all()
    assert [tuple(one) for one in noted] == [(chain.key.kid, 2)]
    (receipt,) = office.take(chain.message(2), chain.attend())
    assert (receipt.seq, [one.reason for one in receipt.refused]) == (3, ["revoked-key"])
    assert office.evidence() == [("door-01", "revoked-key", 3)], "seq 2 only came again"
    with writing(office.engine) as connection:
        released = release(connection, office.keyring.registry, Range(chain.device, chain.chain, 3), WORD)
    assert (released.stored, released.still_refused) == (1, [])
    assert office.beliefs() == [("A", 1, "counted"), ("A", 2, "counted"), ("A", 3, "counted")]
    (receipt,) = office.take(chain.message(3))
    assert (receipt.seq, receipt.refused) == (3, ())


def test_a_key_that_a_thief_had_handed_over_is_revoked_with_the_board(
    office: Office, chain: Chain, tmp_path: Path
) -> None:
    """Regression: provisioning revokes the keys that it knows; one that the thief had made went on to count."""
    registered = replace(chain)
    office.take(chain.start(), chain.hand_over(SigningKey.generate()), chain.attend())
    assert office.beliefs()[-1] == ("A", 3, "counted")
    register(tmp_path / "devices.jwks", registered, revoked_at=1_764_000_000)
    office.look_around()
    (receipt,) = office.take(chain.attend())
    assert [(one.seq, one.reason) for one in receipt.refused] == [(4, "revoked-key")]
    assert office.beliefs()[-1] == ("A", 3, "counted"), "what came before stays"


def test_what_does_not_verify_stays_in_quarantine_whatever_is_released(office: Office, chain: Chain) -> None:
    office.take(chain.start())
    chain.attend()
    office.take(message(chain.device, altered(chain.tokens[1].compact)))
    with writing(office.engine) as connection:
        released = release(connection, office.keyring.registry, Range(chain.device, chain.chain, 2), WORD)
    assert (released.stored, len(released.still_refused)) == (0, 1)
    assert [seq for _, seq, _ in office.beliefs()] == [1]


# Times


def times(office: Office) -> list[tuple[int, int | None, str]]:
    """Seq, seconds after the clocks' beginning and quality, in order of place."""
    found = sorted(office.events(), key=lambda event: event.seq)
    return [
        (one.seq, None if one.at_ms is None else (one.at_ms - NOW_MS) // 1000, one.quality.value)
        for one in found
    ]


def test_a_clock_that_is_set_dates_what_the_boot_did_before(office: Office, chain: Chain) -> None:
    chain.clock, chain.real_ms = UNSYNCED, 0
    early = [chain.start(), chain.attend()]
    chain.later(100)
    office.take(*early)
    assert times(office) == [(1, None, "unknown"), (2, None, "unknown")]
    office.take(chain.set_clock(NOW_MS + 200_000))
    assert times(office) == [(1, 100, "corrected"), (2, 100, "corrected"), (3, 200, "synced")]


def test_it_dates_what_comes_after_it_too(office: Office, chain: Chain) -> None:
    """Out of order: `clock:1` came first."""
    chain.clock, chain.real_ms = UNSYNCED, 0
    start, attend = chain.start(), chain.attend()
    chain.later(100)
    office.take(chain.set_clock(NOW_MS + 200_000))
    office.take(attend, start)
    assert times(office)[:2] == [(1, 100, "corrected"), (2, 100, "corrected")]


def test_the_error_of_a_correction_grows_with_what_lies_between(office: Office, chain: Chain) -> None:
    chain.clock, chain.real_ms = UNSYNCED, 0
    start = chain.start()
    chain.later(10_000)
    office.take(start, chain.set_clock(NOW_MS, err_ms=20))
    (first, _) = sorted(office.events(), key=lambda event: event.seq)
    assert first.err_ms == 20 + 500 + 1, "50 ppm of 10,000 s"


def test_another_boots_clock_dates_nothing(office: Office, chain: Chain) -> None:
    chain.clock, chain.real_ms = UNSYNCED, 0
    office.take(chain.start())
    chain.reboot("boot-2", UNSYNCED)
    office.take(chain.start("boot"), chain.set_clock(NOW_MS))
    assert [quality for _, _, quality in times(office)] == ["unknown", "corrected", "synced"]


def test_holdover_is_dated_by_itself_until_a_clock_that_was_set_knows_better(
    office: Office, chain: Chain
) -> None:
    chain.clock, chain.err_ms = HOLDOVER, 4000
    office.take(chain.start(), chain.attend())
    assert times(office)[1] == (2, 0, "synced")
    chain.later(60)
    office.take(chain.set_clock(chain.real_ms + 3000))
    assert times(office)[1] == (2, 3, "corrected")


def test_what_no_clock_dates_lies_between_its_neighbours(office: Office, chain: Chain) -> None:
    first = chain.start()
    chain.reboot("boot-2", UNSYNCED)
    unsure = chain.attend()
    chain.reboot("boot-3")
    chain.later(500)
    office.take(first, unsure, chain.attend("E7"))
    found = office.events()[1]
    assert (found.seq, found.at_ms, found.quality.value) == (2, None, "bounded")
    assert (found.earliest_ms, found.latest_ms) == (NOW_MS, round(office.now_s * 1000)), (
        "it came before the other"
    )


def test_a_persons_word_dates_it_and_keeps_the_distances(office: Office, chain: Chain) -> None:
    chain.clock = ClockState.UNSYNCED
    office.take(chain.start())
    chain.later(30)
    office.take(chain.attend())
    at = datetime.fromtimestamp(NOW_MS / 1000 - 1000, UTC)
    with writing(office.engine) as connection:
        assert attest(connection, Range(chain.device, chain.chain, 1, 2), at, WORD) == 2
    assert times(office) == [(1, -1000, "attested"), (2, -970, "attested")]


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda chain: [chain.start(), chain.attend()], "a clock dates it"),
        (lambda chain: [_unsynced(chain).start(), _rebooted(chain).attend()], "of several boots"),
        (lambda chain: [], "no such event is stored"),
    ],
)
def test_a_word_that_cannot_be_is_refused(
    office: Office, chain: Chain, prepare: Callable[[Chain], list[object]], why: str
) -> None:
    office.take(*prepare(chain))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=why), writing(office.engine) as connection:
        attest(connection, Range(chain.device, chain.chain, 1, 2), datetime.now(UTC), WORD)


def _unsynced(chain: Chain) -> Chain:
    chain.clock = UNSYNCED
    return chain


def _rebooted(chain: Chain) -> Chain:
    chain.reboot("boot-2", UNSYNCED)
    return chain


# What boards say of themselves


def test_states_follow_the_connection_that_said_online_last(office: Office, chain: Chain) -> None:
    office.take(chain.start(), chain.status(conn=1), chain.status("lost", conn=1), chain.status(conn=2))
    office.take(chain.status("lost", conn=1))
    with reading(office.engine) as connection:
        state = connection.execute(select(tables.board.c.state, tables.board.c.conn)).one()
    assert tuple(state) == ("online", 2), "a late will of the connection before"


def test_a_head_beyond_what_is_stored_is_an_alert_after_ten_minutes(office: Office, chain: Chain) -> None:
    office.take(chain.start())
    chain.attend()
    office.take(chain.status())
    office.look_around(500)
    assert office.alerts() == []
    office.look_around(200)
    assert office.alerts() == [("behind", "door-01", 2)]
    office.take(chain.message(2))
    office.look_around()
    assert office.alerts() == []


def test_two_consumers_never_wait_for_each_other_over_what_boards_say(
    office: Office, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told all of it, in batches of its own; rows are locked in one order, whatever they came in."""
    noted: list[str] = []
    monkeypatch.setattr(heads, "_note_status", lambda _, said, __: noted.append(said.device))
    devices = [
        Chain(f"door-0{number}", chain=letter * 22) for number, letter in ((3, "C"), (2, "B"), (1, "A"))
    ]
    register(office.devices, *devices)
    office.look_around()
    for one in devices:
        one.start()
    office.take(*(one.status() for one in devices))
    assert noted == ["door-01", "door-02", "door-03"]


def test_a_head_of_another_history_is_an_alert(office: Office, chain: Chain) -> None:
    office.take(chain.start())
    clone = chain.fork()
    office.take(chain.attend())
    clone.attend("E2")
    office.take(clone.status())
    assert office.alerts() == [("rolled-back", "door-01", 2)]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b'{"head": 5}',
        b'{"head": "a.b.c"}',
        b'{"state": "online", "boot": 1, "conn": -1}',
        b"x" * 9000,
    ],
)
def test_a_status_that_cannot_be_read_stops_nothing(office: Office, chain: Chain, payload: bytes) -> None:
    (receipt,) = office.take(message(chain.device, payload, "status"), chain.start())
    assert receipt.seq == 1
    with reading(office.engine) as connection:
        assert connection.execute(select(tables.board)).all() == []


@pytest.mark.parametrize("what", ["another board", "another site", "revoked"])
def test_a_head_that_is_not_to_be_believed_binds_nobody(office: Office, chain: Chain, what: str) -> None:
    office.take(chain.start())
    other = Chain("door-02" if what == "another board" else chain.device, key=chain.key, site="hq")
    other.attend()
    if what == "another site":
        other.site = "branch"
    if what == "revoked":
        register(office.devices, chain, revoked_at=1)
        office.look_around()
    said = other.status()
    office.take(type(said)(f"hadir/v1/{chain.device}/up/status", said.payload, lambda: None))
    with reading(office.engine) as connection:
        assert connection.execute(select(tables.head)).all() == []


def test_an_alert_is_closed_with_who_and_why(office: Office, chain: Chain) -> None:
    office.take(chain.start(), chain.tamper("camera covered"))
    with writing(office.engine) as connection:
        assert see_to(connection, "tamper", chain.device, WORD) == 1
    assert office.alerts() == []
    with pytest.raises(InputError, match="no open alert tamper"), writing(office.engine) as connection:
        see_to(connection, "tamper", chain.device, WORD)


def test_clock_states_are_as_the_tests_call_them() -> None:
    assert {SYNCED, HOLDOVER, UNSYNCED} == set(ClockState)
