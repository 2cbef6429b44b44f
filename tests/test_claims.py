"""From a claim to a board that the fleet knows: once, for one key, and for nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.board.clock import Clock
from edge.config import load_config
from edge.errors import InputError, Refusal, TokenRefused
from edge.records import Direction
from edge.trust.admission import Purpose
from edge.trust.claim import REQUEST_TYP, Claim, sign_request
from edge.trust.events import start_claims
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, parse_object, sign, sign_shared
from edge.trust.receipts import head_claims
from edge.trust.seal import Protection, sealing_key_text
from edge.trust.tokens import EVENT_TYP, HEAD_TYP
from provisioning.claims import (
    DAY_S,
    DELIVERY,
    LIFETIME_S,
    Outcome,
    add_claim,
    add_device,
    approve,
    receive_request,
    take_status,
)
from provisioning.entries import ClaimState
from provisioning.fleet import Fleet
from tests.claiming import LISTENER, NOW_S, Board, ask, let_in, new_fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = new_fleet(tmp_path / "fleet")
    yield made
    made.registry.close()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board.blank(tmp_path / "board")


def door(fleet: Fleet, device: str = "door-01") -> Claim:
    return add_device(
        fleet, device, listener=LISTENER, now_s=NOW_S, direction=Direction.IN, label="Front door"
    )


def state(fleet: Fleet, claim: Claim) -> ClaimState:
    known = fleet.registry.claim(claim.id)
    assert known is not None
    return known.state


def head(board: Board, device: str = "door-01", key: SigningKey | None = None) -> str:
    identity = DeviceIdentity(device, "hq", key or board.current.signing_key())
    return sign(head_claims(identity, "C" * 22, 0, None, Clock().read()), identity.key, HEAD_TYP).compact


def test_a_claim_makes_a_blank_board_a_board_of_the_fleet(fleet: Fleet, board: Board) -> None:
    claim = door(fleet)
    received = ask(fleet, board, claim)
    assert received.outcome is Outcome.PENDING
    assert state(fleet, claim) is ClaimState.PENDING
    answer = approve(fleet, claim.id, listener=LISTENER, now_s=NOW_S).response
    assert answer is not None
    identity = board.install(answer)
    assert board.current == identity
    config = load_config(board.places.config)
    assert (config.device.id, config.device.site, config.device.direction) == ("door-01", "hq", Direction.IN)
    assert config.broker.url == LISTENER.url
    assert config.events.delivery == DELIVERY
    (key,) = fleet.registry.device_keys("door-01")
    assert key.kid == identity.signing_key().kid
    assert key.sealing == sealing_key_text(identity.sealing_key().public_key())
    assert not board.places.claim.exists()
    fleet.write_devices()
    (listed,) = json.loads((fleet.folder / "devices.jwks").read_text())["keys"]
    assert listed["kid"] == key.kid


def test_the_certificate_is_for_the_device_whatever_the_request_calls_itself(
    fleet: Fleet, board: Board
) -> None:
    let_in(fleet, board, door(fleet))
    chain = x509.load_pem_x509_certificates((board.current.folder / "certificate.pem").read_bytes())
    assert [attribute.value for attribute in chain[0].subject] == ["door-01"]
    assert chain[0].public_key() == board.current.signing_key().public


def test_no_private_key_of_a_board_lies_open_and_none_leaves_it(fleet: Fleet, board: Board) -> None:
    claim = door(fleet)
    request = board.request(claim)
    let_in(fleet, board, claim)
    private = board.current.sealing_key().private_bytes_raw()
    scalar = board.current.signing_key().private.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    for path in [*board.places.state_dir.rglob("*"), *fleet.folder.rglob("*")]:
        if path.is_file():
            assert private not in path.read_bytes(), path
            assert scalar not in path.read_bytes(), path
    assert claim.secret.encode() not in request


def test_the_secret_of_a_claim_is_nowhere_in_the_fleets_folder(fleet: Fleet) -> None:
    claim = door(fleet)
    for path in fleet.folder.rglob("*"):
        if path.is_file():
            for secret in (claim.secret.encode(), claim.password.encode(), claim.request_key.secret):
                assert secret not in path.read_bytes(), path


def test_the_same_claim_and_key_again_gets_the_same_answer(fleet: Fleet, board: Board) -> None:
    claim = door(fleet)
    assert ask(fleet, board, claim).outcome is Outcome.PENDING
    assert ask(fleet, board, claim).outcome is Outcome.PENDING
    first = approve(fleet, claim.id, listener=LISTENER, now_s=NOW_S).response
    again = ask(fleet, board, claim, NOW_S + 30 * DAY_S)
    assert again.outcome is Outcome.ANSWERED
    assert again.claim.response == first
    assert len(fleet.registry.device_keys()) == 1


@pytest.mark.parametrize("approved", [False, True])
def test_two_boards_with_one_claim_raise_an_alert_and_get_nothing(
    fleet: Fleet, board: Board, tmp_path: Path, approved: bool
) -> None:
    claim = door(fleet)
    ask(fleet, board, claim)
    if approved:
        approve(fleet, claim.id, listener=LISTENER, now_s=NOW_S)
    received = ask(fleet, Board.blank(tmp_path / "other"), claim)
    assert received.outcome is Outcome.ALERT
    assert state(fleet, claim) is ClaimState.ALERT
    assert all(key.revoked_s is not None for key in fleet.registry.device_keys())
    assert all(c.revoked_s is not None for c in fleet.registry.certificates("door-01"))
    assert len(fleet.registry.device_keys()) == approved
    with pytest.raises(InputError, match="alert, so there is nothing to approve"):
        approve(fleet, claim.id, listener=LISTENER, now_s=NOW_S)
    with pytest.raises(TokenRefused, match="worth nothing any more"):
        ask(fleet, board, claim)
    assert [entry.action for entry in fleet.registry.audit()][-1] == "claim-alert"


def test_the_boards_own_request_with_another_sealing_key_is_a_thiefs(fleet: Fleet, board: Board) -> None:

    claim = door(fleet)
    ask(fleet, board, claim)
    stolen = parse_object(board.request(claim).split(b".")[1], "payload")
    stolen["sealing_key"] = sealing_key_text(X25519PrivateKey.generate().public_key())
    forged = sign_shared(stolen, claim.request_key, REQUEST_TYP).compact.encode()
    assert receive_request(fleet, claim.id, forged, NOW_S).outcome is Outcome.ALERT


def test_a_used_claim_is_useless_and_a_second_board_that_tries_it_is_told_of(
    fleet: Fleet, board: Board, tmp_path: Path
) -> None:
    claim = door(fleet)
    stick = claim.file.encode()
    let_in(fleet, board, claim)
    assert take_status(fleet, "door-01", head(board), NOW_S) is not None
    assert state(fleet, claim) is ClaimState.USED
    received = ask(fleet, Board.blank(tmp_path / "other"), Claim.parse(stick))
    assert received.outcome is Outcome.ALERT
    assert state(fleet, claim) is ClaimState.USED
    (key,) = fleet.registry.device_keys()
    assert key.revoked_s is None


def test_a_claim_ends_and_a_new_one_ends_those_before(fleet: Fleet, board: Board) -> None:
    first = door(fleet)
    second = add_claim(fleet, "door-01", Purpose.RENEW, listener=LISTENER, now_s=NOW_S)
    with pytest.raises(TokenRefused, match="worth nothing any more"):
        ask(fleet, board, first)
    with pytest.raises(TokenRefused, match="has expired"):
        ask(fleet, board, second, NOW_S + LIFETIME_S)
    assert ask(fleet, board, second, NOW_S + LIFETIME_S - 1).outcome is Outcome.PENDING
    with pytest.raises(InputError, match="is expired"):
        approve(fleet, second.id, listener=LISTENER, now_s=NOW_S + LIFETIME_S)


@pytest.mark.parametrize("name", ["never-made", "zzzzzzzzzz", "", "../../etc", "door-01", "+"])
def test_a_claim_that_was_never_made_is_refused(fleet: Fleet, name: str) -> None:
    before = list(fleet.registry.audit())
    with pytest.raises(TokenRefused, match="was never made"):
        receive_request(fleet, name, b"a.b.c", NOW_S)
    assert list(fleet.registry.audit()) == before


def test_a_key_that_is_some_boards_already_gets_no_second_door(fleet: Fleet, board: Board) -> None:
    let_in(fleet, board, door(fleet))
    other = door(fleet, "door-02")
    key = board.current.signing_key()

    request = sign_request(
        other,
        key,
        board.current.sealing_key().public_key(),
        protection=Protection.TPM2,
        version="1",
        board="PC",
        now_s=NOW_S,
    )
    with pytest.raises(TokenRefused) as refused:
        receive_request(fleet, other.id, request.compact.encode(), NOW_S)
    assert refused.value.reason is Refusal.WRONG_OWNER
    assert state(fleet, other) is ClaimState.OPEN


def test_a_head_of_somebody_else_uses_no_claim_up(fleet: Fleet, board: Board) -> None:
    claim = door(fleet)
    let_in(fleet, board, claim)
    with pytest.raises(TokenRefused):
        take_status(fleet, "door-01", head(board, key=SigningKey.generate()), NOW_S)
    with pytest.raises(TokenRefused):
        take_status(fleet, "door-02", head(board), NOW_S)
    assert state(fleet, claim) is ClaimState.ISSUED


def test_renewal_keeps_the_chain_and_the_old_key_hands_it_over(fleet: Fleet, board: Board) -> None:
    let_in(fleet, board, door(fleet))
    old = board.current.signing_key()
    chain = with_a_start(board)
    claim = add_claim(fleet, "door-01", Purpose.RENEW, listener=LISTENER, now_s=NOW_S + 400 * DAY_S)
    let_in(fleet, board, claim, NOW_S + 400 * DAY_S)
    new = board.current.signing_key()
    assert new.kid != old.kid
    events = tokens(board)
    assert [event["kid"] for event in events] == [old.kid, old.kid]
    assert events[-1]["events"]["urn:hadir:event:key:1"]["new_jwk"]["kid"] == new.kid
    outbox = board.outbox()
    assert outbox.head().chain == chain
    outbox.close()
    assert [key.revoked_s for key in fleet.registry.device_keys("door-01")] == [None, None]


def test_replacement_begins_a_new_chain_and_revokes_the_board_before(
    fleet: Fleet, board: Board, tmp_path: Path
) -> None:
    let_in(fleet, board, door(fleet))
    claim = add_claim(fleet, "door-01", Purpose.REPLACE, listener=LISTENER, now_s=NOW_S)
    let_in(fleet, Board.blank(tmp_path / "new"), claim)
    old, new = fleet.registry.device_keys("door-01")
    assert (old.revoked_s, new.revoked_s) == (NOW_S, None)
    assert [c.revoked_s for c in fleet.registry.certificates("door-01")] == [NOW_S, None]


def test_a_board_that_takes_another_door_keeps_what_it_had_not_sent(fleet: Fleet, board: Board) -> None:
    let_in(fleet, board, door(fleet))
    chain = with_a_start(board)
    let_in(fleet, board, door(fleet, "door-02"))
    assert load_config(board.places.config).device.id == "door-02"
    assert (board.places.state_dir / f"outbox-{chain}.db").exists()
    outbox = board.outbox()
    assert outbox.head().chain != chain
    outbox.close()


def test_what_a_prepared_image_says_of_its_camera_stays(fleet: Fleet, board: Board) -> None:
    board.places.config.write_text('[camera]\nkind = "v4l2"\nrotation = 90\n')
    let_in(fleet, board, door(fleet))
    config = load_config(board.places.config)
    assert (config.camera.kind, config.camera.rotation, config.device.id) == ("v4l2", 90, "door-01")
    assert board.places.config.with_name("edge.toml.before").read_text().startswith("[camera]")


def test_a_configuration_that_no_daemon_would_take_is_set_aside(fleet: Fleet, board: Board) -> None:
    board.places.config.write_text('[camera]\nkind = "pinhole"\n')
    let_in(fleet, board, door(fleet))
    assert load_config(board.places.config).device.id == "door-01"


def with_a_start(board: Board) -> str:
    """A first event, signed by the board's current key; its chain."""

    key, made = board.current.signing_key(), Clock().read()
    identity = DeviceIdentity("door-01", "hq", key)
    outbox = board.outbox()
    outbox.append(
        lambda position: sign(
            start_claims(identity, position, made, cause="new", clean=True, version="1", last=None),
            key,
            EVENT_TYP,
        ),
        made.real_ms,
    )
    chain = outbox.head().chain
    outbox.close()
    return chain


def tokens(board: Board) -> list[dict[str, Any]]:
    outbox = board.outbox()
    found = []
    for event in outbox.waiting(0, 100):
        header, payload, _ = event.token.encode().split(b".")
        found.append(parse_object(payload, "payload") | {"kid": parse_object(header, "header")["kid"]})
    outbox.close()
    return found
