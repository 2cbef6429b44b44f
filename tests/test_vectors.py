"""The published vectors: this implementation says of each token what their file says, and a run makes the same."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from central.chain import Verdict
from central.registry import Registry, load_registry
from central.verify import verify_event
from central.watch import Ledger
from edge.errors import Refusal, TokenRefused
from edge.trust.fleetkeys import USES
from edge.trust.jws import VerificationKey, key_from_jwk, parse_object, token_hash, verify
from edge.trust.receipts import parse_head, verify_receipt
from edge.trust.tokens import HEAD_TYP
from tests.schemas import FOLDER, fits

ROOT = Path(__file__).parent.parent
FILE = FOLDER / "vectors.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The published devices.jwks, read as any other."""
    path = tmp_path_factory.mktemp("vectors") / "devices.jwks"
    path.write_text(json.dumps(VECTORS["devices"]))
    return load_registry(path)


@pytest.fixture(scope="module")
def fleet_keys() -> dict[str, VerificationKey]:
    keys = [key_from_jwk(jwk, USES[jwk["hadir_use"]]) for jwk in VECTORS["fleet_keys"]["keys"]]
    return {key.kid: key for key in keys}


def by_name(kind: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS[kind]]


def test_the_script_writes_the_very_file_that_is_published() -> None:
    made = runpy.run_path(str(ROOT / "docs/vectors.py"))["vectors"]()
    assert made == FILE.read_text(encoding="utf-8"), "run `make docs`"


@pytest.mark.parametrize("vector", by_name("events"))
def test_an_event_is_believed_or_refused_as_its_vector_says(
    vector: dict[str, Any], registry: Registry
) -> None:
    token = vector["token"].encode()
    try:
        received = verify_event(vector["topic"], token, registry, VECTORS["arrived_s"])
    except TokenRefused as refused:
        assert vector["refused"] == refused.reason
    else:
        assert vector["refused"] is None
        assert (received.hash, received.ahead) == (vector["hash"], vector.get("flagged", False))
        assert fits("event", payload(vector["token"]))


@pytest.mark.parametrize("vector", by_name("receipts"))
def test_a_receipt_is_taken_or_refused_as_its_vector_says(
    vector: dict[str, Any], fleet_keys: dict[str, VerificationKey]
) -> None:
    try:
        receipt = verify_receipt(vector["token"], fleet_keys, vector["device"])
    except TokenRefused as refused:
        assert vector["refused"] == refused.reason
    else:
        assert vector["refused"] is None
        assert receipt.seq == 5
        assert fits("receipt", payload(vector["token"]))


@pytest.mark.parametrize("vector", by_name("heads"))
def test_a_head_is_believed_or_refused_as_its_vector_says(vector: dict[str, Any], registry: Registry) -> None:
    try:
        parse_head(verify(vector["token"], HEAD_TYP, registry.keys).claims)
    except TokenRefused as refused:
        assert vector["refused"] == refused.reason
    else:
        assert vector["refused"] is None
        assert fits("head", payload(vector["token"]))


@pytest.mark.parametrize("vector", by_name("chains"))
def test_of_a_chain_is_counted_what_its_vector_says(vector: dict[str, Any], registry: Registry) -> None:
    assert [token_hash(token) for token in vector["tokens"]] == vector["hashes"]
    ledger = Ledger()
    findings = [
        finding
        for token in vector["tokens"]
        for finding in ledger.take(
            verify_event(vector["topic"], token.encode(), registry, VECTORS["arrived_s"])
        )
    ]
    counted = [finding.received.event.seq for finding in findings if finding.verdict is Verdict.COUNTED]
    gaps = [gap.first_seq for gap in ledger.gaps(VECTORS["arrived_s"] + 3600)]
    alerts = [finding.verdict for finding in findings if finding.verdict in (Verdict.FORKED, Verdict.BROKEN)]
    assert counted == vector["counted"]
    assert gaps == [place for place in [vector["waits_for"]] if place is not None]
    assert alerts == [word for word in [vector["alert"]] if word is not None]
    assert ledger.lost_count() == len(vector["lost"])


OF_EVENTS = (
    Refusal.TOO_LARGE,
    Refusal.MALFORMED,
    Refusal.WRONG_TYPE,
    Refusal.UNKNOWN_KEY,
    Refusal.WRONG_ALGORITHM,
    Refusal.FORBIDDEN_HEADER,
    Refusal.BAD_SIGNATURE,
    Refusal.WRONG_USE,
    Refusal.WRONG_OWNER,
    Refusal.WRONG_AUDIENCE,
    Refusal.BAD_CLAIMS,
    Refusal.REVOKED_KEY,
)


def test_there_is_a_vector_for_every_reason_to_refuse_an_event() -> None:
    assert {vector["refused"] for vector in VECTORS["events"]} == {None, *OF_EVENTS}


def test_at_least_as_many_bad_tokens_are_rightly_signed_as_wrongly() -> None:
    bad = [vector["refused"] for vector in VECTORS["events"] if vector["refused"]]
    in_meaning = {Refusal.BAD_CLAIMS, Refusal.WRONG_AUDIENCE, Refusal.WRONG_OWNER, Refusal.WRONG_USE}
    assert sum(reason in in_meaning for reason in bad) * 2 >= len(bad)


def payload(token: str) -> dict[str, Any]:
    return parse_object(token.split(".")[1].encode(), "payload")
