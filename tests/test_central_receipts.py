"""Receipts: what they say, under which key, and when they go out."""

from __future__ import annotations

from pathlib import Path

import pytest

from central.ledger import Due
from central.receipts import PACE_S, Pending, load_receipt_key, signed
from edge.errors import KeyFileError
from edge.trust.identity import write_signing_key
from edge.trust.jws import SigningKey
from edge.trust.receipts import RECEIPT_TYP, RefusedEvent, verify_receipt
from provisioning.fleet import KEYS_FILE, Fleet

CHAIN = "A" * 22


def due(seq: int, chain_id: int = 1, refused: tuple[RefusedEvent, ...] = ()) -> Due:
    return Due(chain_id, "door-01", CHAIN, seq, "h" * 43, refused)


def test_a_receipt_goes_to_its_board_and_says_up_to_where_and_what_not() -> None:
    key = SigningKey.generate()
    refused = RefusedEvent(6, "r" * 43, "bad-signature")
    receipt = signed(due(7, refused=(refused,)), "central-2", key, 1_764_000_000)
    assert receipt.topic == "hadir/v1/door-01/down/receipt"
    keys = {key.kid: key.verification_key(frozenset({RECEIPT_TYP}))}
    said = verify_receipt(receipt.token, keys, "door-01")
    assert (said.chain, said.seq, said.hash, said.refused) == (CHAIN, 7, "h" * 43, (refused,))
    assert (said.issuer, said.issued_s) == ("urn:hadir:central:central-2", 1_764_000_000)


def test_without_a_backlog_what_is_due_goes_out_at_once() -> None:
    pending = Pending()
    pending.add([due(1)], 100.0)
    assert [one.seq for one in pending.take(100.0, idle=True)] == [1]
    assert pending.take(100.0, idle=True) == []


def test_while_a_backlog_flows_receipts_of_a_chain_are_gathered_but_not_for_long() -> None:
    pending = Pending()
    pending.add([due(1), due(5, chain_id=2)], 0.0)
    assert pending.take(PACE_S / 2, idle=False) == []
    pending.add([due(9)], PACE_S / 2)
    assert sorted(one.seq for one in pending.take(PACE_S, idle=False)) == [5, 9]
    pending.add([due(10)], 200.0)
    assert pending.take(200.0, idle=False) == [], "the time counts from the first that is due"


def test_a_key_that_no_board_would_believe_stops_the_start(fleet: Fleet, tmp_path: Path) -> None:
    keys, root = fleet.folder / KEYS_FILE, fleet.root_thumbprint
    write_signing_key(tmp_path / "receipt.pem", fleet.signing_key("receipt"))
    assert load_receipt_key(tmp_path / "receipt.pem", keys, root).kid == fleet.signing_key("receipt").kid
    write_signing_key(tmp_path / "other.pem", SigningKey.generate())
    with pytest.raises(KeyFileError, match="names no receipt key"):
        load_receipt_key(tmp_path / "other.pem", keys, root)
    write_signing_key(tmp_path / "gallery.pem", fleet.signing_key("gallery"))
    with pytest.raises(KeyFileError, match="names no receipt key"):
        load_receipt_key(tmp_path / "gallery.pem", keys, root)


def test_a_key_that_others_can_read_stops_the_start(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "receipt.pem"
    write_signing_key(path, fleet.signing_key("receipt"))
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match=str(path)):
        load_receipt_key(path, fleet.folder / KEYS_FILE, fleet.root_thumbprint)
