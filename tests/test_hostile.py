"""The proof of hostile messages: a small one of it passes, and it finds what it is there to find."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from demo.mosquitto import program
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey
from torture.forgeries import (
    AHEAD,
    IN_FORM,
    IN_MEANING,
    KNOWN,
    WAITING,
    Hostile,
    Party,
    World,
    events,
    receipts,
    said,
)
from torture.hostile import fate_of, main, run


def party(device: str) -> Party:
    made = Party(DeviceIdentity(device, "hq", SigningKey.generate()), device[-1] * 22, [])
    for _ in range(5):
        made.go_on(1_764_000_000)
    return made


@pytest.fixture
def world() -> World:
    keys = {use: SigningKey.generate() for use in ("receipt", "command", "gallery", "provision")}
    chance = Random(1)  # noqa: S311 - to be repeatable
    return World(
        [party("door-02"), party("door-03")],
        party("door-07"),
        party("door-08"),
        party("door-09"),
        keys,
        chance,
        1_764_000_000,
    )


def test_at_least_half_are_rightly_signed_and_every_family_comes(world: World) -> None:
    made = events(world, 3000)
    assert sum(message.signed for message in made) * 2 >= len(made)
    assert {message.family for message in made} == IN_MEANING.keys() | IN_FORM.keys()
    for kind in ("status", "health"):
        told = said(world, kind, 100)
        assert sum(message.signed for message in told) * 2 >= len(told)
        assert all(message.topic.endswith(f"/up/{kind}") for message in told)
    forged = receipts(world, world.parties[0], [b"an.old.one"], 100)
    assert "rolled back" in {message.family for message in forged}


@pytest.mark.usefixtures("people")
def test_two_hundred_on_each_topic_are_neither_believed_nor_lost(tmp_path: Path) -> None:
    """Mosquitto, `hadir-central run` and a daemon as processes of their own."""
    if program() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    outcome = run(tmp_path, 1, messages=200, honest=20)
    assert outcome.problems == []
    assert outcome.sent == {"event": 200, "status": 200, "health": 200, "receipt": 200}
    assert {kind.split(": ")[1] for kind in outcome.fates} >= {KNOWN, WAITING, "bad-claims", "wrong-owner"}


@pytest.mark.usefixtures("people")
def test_without_mosquitto_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torture.receipts.program", lambda: None)
    assert main(["--messages", "1", "--seed", "1"]) == 69
    assert "apt install mosquitto" in capsys.readouterr().err


def test_what_becomes_of_a_message_is_told_from_what_the_server_kept(world: World) -> None:
    token = world.parties[0].tokens[0]
    message = Hostile("forged", "hadir/v1/door-02/up/event", token.compact.encode(), frozenset(), signed=True)
    digest = sha256(message.payload).hexdigest()
    assert fate_of(message, {digest: "bad-claims"}, {}, set()) == "bad-claims"
    assert fate_of(message, {}, {}, set()) == "lost"
    assert fate_of(message, {}, {token.hash: (True, "synced")}, {token.hash}) == KNOWN
    assert fate_of(message, {}, {token.hash: (True, "synced")}, set()) == "believed"
    assert fate_of(message, {}, {token.hash: (True, "bounded")}, set()) == AHEAD
    assert fate_of(message, {}, {token.hash: (False, "synced")}, set()) == WAITING
