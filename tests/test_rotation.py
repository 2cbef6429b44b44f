"""Commands, keys and certificates of a board that runs, over a real Mosquitto with mutual TLS."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.board.clock import Clock
from edge.config import load_config
from edge.errors import InputError
from edge.trust.admission import Purpose
from edge.trust.claim import csr_of
from edge.trust.commands import Reply, Status
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, encode_base64url, parse_object, sign
from edge.trust.receipts import head_claims
from edge.trust.tokens import HEAD_TYP
from provisioning.claims import add_claim, add_device, take_status
from provisioning.cli import main
from provisioning.commands import Answered, give
from provisioning.entries import Given
from provisioning.expiry import warnings
from provisioning.link import listener_of, spread
from provisioning.rotation import begin, due, go_on
from tests.claiming import LISTENER, NOW_S, Board, let_in, new_fleet
from tests.fleet_broker import FleetBroker, fleet_broker
from tests.quietly import claimed, desk, edge, log_of, new_claim, running, settled, wait_for

DAY_S = 24 * 3600


@pytest.fixture
def broker() -> Iterator[FleetBroker]:
    with fleet_broker(()) as running:
        yield running


def told(broker: FleetBroker, name: str, args: dict[str, Any] | None = None) -> Given:
    given = give(broker.fleet, "door-01", name, args or {}, now_s=int(time.time()))
    wait_for(lambda: settled(broker.fleet, given.jti))
    answered = broker.fleet.registry.command(given.jti)
    assert answered is not None
    return answered


def events(board: Board) -> list[tuple[str, str]]:
    """Of the board's own chain, by what key each event is signed and what it is."""
    outbox = board.outbox()
    found = []
    for event in outbox.held(0, 100):
        header, payload, _ = event.token.encode().split(b".")
        (kind,) = parse_object(payload, "payload")["events"]
        found.append((parse_object(header, "header")["kid"], kind.split(":")[3]))
    outbox.close()
    return found


def test_a_board_carries_out_what_it_is_told_and_says_no_to_the_rest(broker: FleetBroker) -> None:
    board = claimed(broker)
    with desk(broker), running(board):
        assert told(broker, "ping").status == "done"
        report = told(broker, "report").result
        assert report is not None
        assert report["kid"] == board.current.signing_key().kid
        assert (report["seq"], report["keys"]) == (1, 1)
        assert told(broker, "sync").status == "done"
        assert told(broker, "resend", {"chain": report["chain"], "from": 1}).result == {"from": 1, "to": 1}
        refused = told(broker, "resend", {"chain": "X" * 22, "from": 1})
        assert (refused.status, refused.reason) == (
            "refused",
            f"resend: chain {'X' * 22} is not this board's, which is {report['chain']}",
        )
        unknown = told(broker, "shell", {"run": "id"})
        assert unknown.status == "refused"
        assert unknown.reason is not None
        assert unknown.reason.startswith("name: shell is not known here")


def test_what_is_set_from_afar_is_checked_like_the_file_and_lasts(broker: FleetBroker) -> None:
    board = claimed(broker)
    with desk(broker), running(board) as process:
        assert (
            told(broker, "set", {"decide": {"cooldown_s": 5}, "camera": {"rotation": 180}}).status == "done"
        )
        for args, why in (
            ({"decide": {"cooldown_s": -1}}, "decide.cooldown_s = -1"),
            ({"camera": {"rotation": 45}}, "camera.rotation = 45"),
            ({"decide": {"min_good_frames": 9, "fused_frames": 3}}, "must lie between"),
            ({"broker": {"url": "mqtts://evil"}}, "broker.url: is not to be set from afar"),
            ({"device": {"key_file": "/etc/shadow"}}, "device.key_file: is not to be set from afar"),
            ({"camera": {"pipeline": "filesrc ! fdsink"}}, "camera.pipeline: is not to be set from afar"),
            ({"events": {"diagnostics": True}}, "events.diagnostics: is not to be set from afar"),
            ({"decide": "all"}, "must be a section"),
            ({}, "args must be sections"),
        ):
            refused = told(broker, "set", args)
            assert refused.status == "refused"
            assert refused.reason is not None
            assert why in refused.reason
        assert told(broker, "restart").status == "done"
        assert process.wait(30) == 0
    config = load_config(board.places.config)
    assert (config.decide.cooldown_s, config.camera.rotation) == (5.0, 180)
    with desk(broker), running(board):
        assert told(broker, "set", {"decide": {"cooldown_s": None}}).status == "done"
    assert load_config(board.places.config).decide.cooldown_s == 60.0


def test_a_board_changes_its_key_and_the_fleet_follows(broker: FleetBroker) -> None:
    board = claimed(broker)
    fleet = broker.fleet
    old = board.current.signing_key().kid
    with desk(broker) as said:
        with running(board) as process:
            wait_for(lambda: "connected" in log_of(board))
            begin(fleet, "door-01", int(time.time()))
            assert process.wait(30) == 0  # to be started again by its service manager
        with running(board):
            wait_for(lambda: any("works with its new key" in line for line in said))
            report = told(broker, "report").result
    new = board.current.signing_key().kid
    assert report is not None
    assert new != old
    assert report["kid"] == new
    assert events(board) == [(old, "start"), (old, "key"), (new, "start")]
    first, second = fleet.registry.device_keys("door-01")
    assert (first.kid, second.kid) == (old, new)
    assert (first.revoked_s, second.revoked_s, second.last_seq) == (None, None, None)
    assert first.chain == report["chain"]
    assert first.last_seq in (2, 3)
    assert [c.revoked_s is None for c in fleet.registry.certificates("door-01")] == [False, True]
    assert len(list(board.store.folder.iterdir())) == 2  # the identity and the link


def test_a_board_whose_clock_was_never_set_is_told_for_its_present_boot(broker: FleetBroker) -> None:
    board = claimed(broker)
    with desk(broker), running(board, clock="never"):
        given = give(broker.fleet, "door-01", "report", {}, now_s=int(time.time()))
        wait_for(lambda: settled(broker.fleet, given.jti))
        again = broker.fleet.registry.last_command("door-01", "report")
        assert again is not None
        assert again.n == given.n + 1
        wait_for(lambda: settled(broker.fleet, again.jti))
    first, second = (broker.fleet.registry.command(one.jti) for one in (given, again))
    assert first is not None
    assert second is not None
    assert first.reason is not None
    assert first.reason.startswith("clock: this board does not know the time")
    assert second.status == "done"


def test_a_board_that_never_took_its_next_certificate_is_told_again(tmp_path: Path) -> None:
    """Regression: the certificate that had not reached it counted as the board's, until the one it had was over."""
    fleet, board = new_fleet(tmp_path / "fleet"), Board.blank(tmp_path / "board")
    claim = add_device(fleet, "door-01", listener=LISTENER, now_s=NOW_S)
    let_in(fleet, board, claim)
    kid, new = board.current.signing_key().kid, SigningKey.generate()
    assert due(fleet, NOW_S + 243 * DAY_S) == ()
    now_s = NOW_S + 244 * DAY_S
    assert due(fleet, now_s) == ("door-01",)
    given = begin(fleet, "door-01", now_s)
    assert due(fleet, now_s) == (), "it was told"
    result = {"csr": encode_base64url(csr_of(new, "door-01"))}
    with fleet.change("reply", "door-01", now_s=now_s) as change:
        change.answer_command(given.jti, "done", None, result)
    answered = fleet.registry.command(given.jti)
    assert answered is not None
    reply = Reply(given.jti, given.n, Status.DONE, None, result, "boot", kid)
    assert go_on(fleet, Answered(answered, reply), now_s) is not None
    assert due(fleet, now_s) == (), "the certificate is on its way"
    assert due(fleet, now_s + 2 * DAY_S) == ("door-01",)
    told = warnings(fleet, NOW_S + 340 * DAY_S)
    assert any("certificate of door-01: ends" in line for line in told), "before it is locked out"
    identity = DeviceIdentity("door-01", "hq", new)
    head = sign(head_claims(identity, "C" * 22, 7, "H" * 43, Clock().read()), new, HEAD_TYP).compact
    assert take_status(fleet, "door-01", head, now_s) is not None
    assert due(fleet, now_s + 2 * DAY_S) == ()
    fleet.registry.close()


def test_a_board_that_is_revoked_between_its_answer_and_the_certificate_gets_none(tmp_path: Path) -> None:
    """Regression: the key that it had just made was registered after the revocation, and not revoked."""
    fleet, board = new_fleet(tmp_path / "fleet"), Board.blank(tmp_path / "board")
    let_in(fleet, board, add_device(fleet, "door-01", listener=LISTENER, now_s=NOW_S))
    kid, given = board.current.signing_key().kid, begin(fleet, "door-01", NOW_S)
    result = {"csr": encode_base64url(csr_of(SigningKey.generate(), "door-01"))}
    reply = Reply(given.jti, given.n, Status.DONE, None, result, "boot", kid)
    with fleet.change("revoke", "door-01", now_s=NOW_S) as change:
        change.revoke_device("door-01")
    with pytest.raises(InputError, match="door-01: was revoked meanwhile; nothing was certified"):
        go_on(fleet, Answered(given, reply), NOW_S)
    assert [key.revoked_s is None for key in fleet.registry.device_keys("door-01")] == [False]
    assert [issued.revoked_s is None for issued in fleet.registry.certificates("door-01")] == [False]
    fleet.registry.close()


def test_without_anybody_at_the_desk_a_command_sits_down_there_itself(
    broker: FleetBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    board, folder = claimed(broker), str(broker.fleet.folder)
    with running(board):
        assert main(["send", folder, "door-01", "ping"]) == 0
        assert "door-01: ping: done" in capsys.readouterr().out
        assert main(["send", folder, "door-01", "set", '{"broker": {"url": "mqtts://evil"}}']) == 1
        assert "refused: set: broker.url: is not to be set from afar" in capsys.readouterr().out
    assert main(["send", folder, "door-01", "ping", "--wait-s", "0.5"]) == 69
    assert "no answer within 0.5 s; it waits for the board" in capsys.readouterr().err
    assert main(["send", folder, "door-01", "set", "{]"]) == 65
    assert main(["send", folder, "door-01", "ping", "--boot", "a b"]) == 65
    assert main(["send", folder, "door-02", "ping"]) == 65
    with running(board):
        wait_for(lambda: "command 3: ping" in log_of(board))


def test_what_the_server_lacks_is_sent_again(
    broker: FleetBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    board, folder = claimed(broker), str(broker.fleet.folder)
    with running(board):
        wait_for(lambda: "connected" in log_of(board))
        outbox = board.outbox()
        chain = outbox.head().chain
        outbox.close()
        record = {"device": "door-01", "chain": chain, "stored_seq": 0, "resend_from": 1, "missing": 1}
        whole = record | {"device": "door-02", "resend_from": None}
        lines = "".join(json.dumps(one) + "\n" for one in (record, whole))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
        assert main(["reconcile", folder]) == 0
    assert "door-01: resend: done" in capsys.readouterr().out
    for wrong in ("nothing", '{"device": "door-01"}', '{"device": 1, "chain": "x", "resend_from": 1}'):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(wrong.encode())))
        assert main(["reconcile", folder]) == 65


def test_a_board_renews_by_a_claim_while_it_goes_on_watching_its_door(broker: FleetBroker) -> None:
    board, fleet = claimed(broker), broker.fleet
    old = board.current.signing_key().kid
    with desk(broker, auto=True) as said:
        with running(board):
            wait_for(lambda: "connected" in log_of(board))
            claim = add_claim(
                fleet, "door-01", Purpose.RENEW, listener=listener_of(fleet), now_s=int(time.time())
            )
            spread(fleet, int(time.time()))
            path = board.places.config.with_name("hadir-claim.json")
            path.write_text(claim.file)
            done = edge("claim", "--config", board.places.config, "--claim", path)
            assert done.returncode == 0, done.stderr
            assert "taken when the daemon starts next" in done.stdout
            assert board.current.signing_key().kid == old
        with running(board):
            wait_for(lambda: any("is used up" in line and claim.id in line for line in said))
    new = board.current.signing_key().kid
    assert events(board) == [(old, "start"), (old, "key"), (new, "start")]
    assert not path.exists()


def test_a_claim_for_another_door_waits_until_the_daemon_is_stopped(broker: FleetBroker) -> None:
    board, claim = claimed(broker), new_claim(broker, "door-02")
    path = board.places.config.with_name("hadir-claim.json")
    path.write_text(claim.file)
    arguments = ("claim", "--config", board.places.config, "--claim", path)
    with desk(broker, auto=True):
        with running(board):
            wait_for(lambda: "connected" in log_of(board))
            refused = edge(*arguments)
            assert refused.returncode == 69
            assert "stop it first" in refused.stderr
        assert load_config(board.places.config).device.id == "door-01"
        assert edge(*arguments).returncode == 0
    assert load_config(board.places.config).device.id == "door-02"
