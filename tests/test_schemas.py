"""The schemas of docs/events say what the parsers do: no token passes one and fails the other, but for named rules."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import TokenRefused
from edge.records import ClockState
from edge.trust.commands import Command, Status, command_claims, reply_claims
from edge.trust.events import resigned_claims
from edge.trust.jws import parse_object
from edge.trust.receipts import parse_head, parse_receipt
from edge.trust.tokens import ATTENDANCE, START, parse_event
from provisioning.fleet import KEYS_FILE, Fleet
from tests.schemas import FOLDER, fits, schema
from tests.test_events import BAD, IDENTITY, MAKERS, NEW_PLACE, READINGS, SYNCED, values, with_member
from tests.test_receipts import COMMON, REFUSALS, REFUSED, changed, head, receipt
from tests.test_tokens import MEMBERS
from tests.test_tokens import changed as changed_attendance

Parse = Callable[[Mapping[str, Any]], object]

PARSERS: dict[str, Parse] = {"event": parse_event, "head": parse_head, "receipt": parse_receipt}

NO_SCHEMA_SAYS = (
    "low: ",  # at most seq
    "was: of this very chain",
    "new_jwk: the old key again",
    "new_jwk: not a public P-256 or Ed25519 JWK",  # a point on the curve, of canonical base64url
    "new_jwk: kid",  # the thumbprint of the key beside it
    "seq: ",  # of a refusal, at most the receipt's
    "not 1 to 256 printable characters",  # Unicode knows more that does not print than a pattern can list
    "does not match",  # `$` lets a line end pass, where patterns are Python's
    "not a int",  # 5.0 is an integer to JSON Schema
    "events: ",  # as above, of the name of a type
)
"""What a schema lets pass and the parser does not: docs/events.md, "What a consumer must verify"."""


def json_only(value: object) -> bool:
    """Without NaN and infinity; `...` stands for a member that is missing."""
    if value is ...:
        return True
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def accepts(parse: Parse, claims: Mapping[str, Any]) -> tuple[bool, str]:
    try:
        parse(claims)
    except TokenRefused as refused:
        return False, refused.detail
    return True, ""


def agree(name: str, claims: dict[str, Any]) -> None:
    """The parser never takes what the schema refuses; the other way round only by a rule that no schema can say."""
    taken, why = accepts(PARSERS[name], claims)
    if taken:
        assert fits(name, claims)
    elif fits(name, claims):
        assert any(rule in why for rule in NO_SCHEMA_SAYS), why


@pytest.mark.parametrize("state", ClockState)
@pytest.mark.parametrize("kind", MAKERS)
def test_whatever_a_board_signs_fits_the_schema(kind: str, state: ClockState) -> None:
    assert fits("event", json.loads(json.dumps(MAKERS[kind](READINGS[state]))))


@pytest.mark.parametrize("kind", MAKERS)
def test_the_schema_knows_every_member_of_every_type(kind: str) -> None:
    name = kind.split(":")[-2]
    described = schema("event")["$defs"][name]
    plain = (
        MAKERS[kind](SYNCED)["events"][kind].keys() - schema("event")["$defs"]["chained"]["properties"].keys()
    )
    assert plain <= described["properties"].keys()
    assert described["description"]


def test_the_schema_has_no_type_that_boards_do_not_sign() -> None:
    assert schema("event")["properties"]["events"]["properties"].keys() == MAKERS.keys()


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(*where, value) for where, some in BAD.items() for value in some if json_only(value)],
)
def test_of_a_bad_member_schema_and_parser_say_the_same(kind: str, name: str, value: object) -> None:
    agree("event", with_member(kind, name, value))


NAMES_BY_PATTERN = ("iss", "aud")
"""The schema gives their form; the parser leaves them to the comparison with the topic and the registry."""


@pytest.mark.parametrize(
    ("where", "value"), [(where, value) for where in MEMBERS for value in MEMBERS[where]]
)
def test_of_a_bad_claim_schema_and_parser_say_the_same(where: str, value: object) -> None:
    if not isinstance(value, float) or value == value:  # noqa: PLR0124 - NaN is not JSON
        agree("event", changed_attendance(where, value))


@pytest.mark.parametrize("name", NAMES_BY_PATTERN)
def test_a_name_that_no_board_and_no_site_has_does_not_fit(name: str) -> None:
    assert not fits("event", MAKERS[ATTENDANCE](SYNCED) | {name: "urn:hadir:central:central-1"})


@pytest.mark.parametrize("value", REFUSALS)
def test_of_a_bad_list_of_refusals_schema_and_parser_say_the_same(value: object) -> None:
    agree("receipt", receipt() | {"refused": value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in COMMON for value in COMMON[name]])
def test_of_a_bad_receipt_and_a_bad_head_schema_and_parser_say_the_same(name: str, value: object) -> None:
    agree("receipt", changed(receipt(refused=(REFUSED,)), name, value))
    agree("head", changed(head(), name, value))


def test_commands_and_their_answers_fit_their_schemas() -> None:
    given = command_claims(
        "urn:hadir:fleet:x",
        "door-01",
        jti="j" * 22,
        n=7,
        name="set",
        args={"decide": {}},
        now_s=1,
        expires_s=2,
    )
    assert fits("command", given)
    assert fits("command", given | {"boot": "boot"})
    assert not fits("command", given | {"n": 0})
    command = Command("j" * 22, 7, "set", {}, 1, 2, None)
    answer = reply_claims(IDENTITY, command, SYNCED, Status.REFUSED, reason="n = 7: 7 was the last")
    assert fits("reply", answer)
    assert not fits("reply", answer | {"status": "perhaps"})


def test_the_keys_document_of_a_fleet_fits_its_schema(fleet: Fleet) -> None:
    document = (fleet.folder / KEYS_FILE).read_text().split()[-1]
    claims = parse_object(document.split(".")[1].encode(), "payload")
    assert fits("keys", claims)
    assert not fits("keys", claims | {"version": 0})


def test_receipts_and_heads_fit_their_schemas() -> None:
    assert fits("receipt", receipt())
    assert fits("receipt", receipt(refused=(REFUSED,)))
    assert fits("head", head())
    assert fits("head", head(0, None))
    assert not fits("head", head(5, None))
    assert not fits("receipt", receipt(seq=0))


@given(kind=st.sampled_from(sorted(MAKERS)), data=st.data(), value=values().filter(json_only))
def test_of_one_arbitrary_member_schema_and_parser_say_the_same(
    kind: str, data: st.DataObject, value: object
) -> None:
    names = [*MAKERS[kind](SYNCED)["events"][kind], "prev", "err_ms", "was", "low"]
    agree("event", with_member(kind, data.draw(st.sampled_from(names) | st.text(max_size=8)), value))


@given(name=st.sampled_from(sorted(MEMBERS)), value=values().filter(json_only))
def test_of_one_arbitrary_claim_schema_and_parser_say_the_same(name: str, value: object) -> None:
    claims = changed_attendance(name, value)
    if name not in NAMES_BY_PATTERN:
        agree("event", claims)


def test_a_chain_begins_with_a_start_by_the_schema_too() -> None:
    for kind, make in MAKERS.items():
        claims = copy.deepcopy(make(SYNCED))
        claims["events"][kind] |= {"seq": 1, "low": 1}
        del claims["events"][kind]["prev"]
        assert fits("event", claims) == (kind == START)
        agree("event", claims)


def test_what_is_signed_anew_fits_and_an_unknown_type_keeps_its_members() -> None:
    claims = resigned_claims(MAKERS[ATTENDANCE](SYNCED), NEW_PLACE)
    assert fits("event", claims)
    ((_, event),) = claims["events"].items()
    assert fits("event", claims | {"events": {"urn:hadir:event:weather:2": event | {"wind": [1]}}})
    assert not fits("event", claims | {"events": {ATTENDANCE: event | {"wind": [1]}}})


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.name)
def test_every_file_is_written_as_json_writes_it(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
