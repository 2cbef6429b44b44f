"""The AsyncAPI document: of the form that AsyncAPI 3.0 asks for, whole in its references, and true of the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from central.verify import EVENT_TOPIC
from edge.trust.claim import MAX_REQUEST_BYTES, REQUEST_TYP
from edge.trust.commands import COMMAND_TYP, MAX_COMMAND_BYTES, MAX_REPLY_BYTES
from edge.trust.fleetkeys import KEYS_TYP, MAX_TRAIL_BYTES
from edge.trust.receipts import MAX_RECEIPT_BYTES, RECEIPT_TYP
from edge.trust.tokens import EVENT_TYP, MAX_EVENT_BYTES, REPLY_TYP
from edge.uplink.session import EVENT_CONTENT_TYPE
from provisioning.broker import CONSUMER_READS, CONSUMER_WRITES
from tests.schemas import FOLDER

DOCUMENT: dict[str, Any] = json.loads((FOLDER / "asyncapi.json").read_text(encoding="utf-8"))


def closed(required: str = "", optional: str = "", **properties: object) -> dict[str, Any]:
    """An object with these members and extensions (`x-…`), and no others; those not described may be anything."""
    names = [*required.split(), *optional.split()]
    return {
        "type": "object",
        "required": required.split(),
        "properties": {name: {} for name in names} | properties,
        "patternProperties": {r"^x-[\w.-]+$": {}},
        "additionalProperties": False,
    }


def each(value: object) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}


TEXT = {"type": "string"}
REFERENCE = {"type": "object", "required": ["$ref"], "properties": {"$ref": TEXT}}
MESSAGE = closed(
    "",
    "headers correlationId name title summary description tags externalDocs bindings examples traits",
    payload={"type": "object"},
    contentType=TEXT,
)
MQTT = closed(
    "bindingVersion",
    "messageExpiryInterval",
    qos={"enum": [0, 1, 2]},
    retain={"type": "boolean"},
)
STRUCTURE = closed(
    "info",
    "defaultContentType",
    asyncapi={"const": "3.0.0"},
    id={"type": "string", "pattern": "^[a-z][a-z0-9+.-]*:"},
    info=closed("title version", "description termsOfService contact license tags externalDocs"),
    servers=each(
        closed(
            "host protocol",
            "protocolVersion pathname description title summary variables security tags externalDocs bindings",
        )
    ),
    channels=each(
        closed(
            "",
            "title summary description servers tags externalDocs bindings",
            address=TEXT,
            messages=each({"anyOf": [REFERENCE, MESSAGE]}),
            parameters=each(closed("", "enum default description examples location")),
        )
    ),
    operations=each(
        closed(
            "action channel",
            "title summary description security tags externalDocs traits reply",
            action={"enum": ["send", "receive"]},
            channel=REFERENCE,
            messages={"type": "array", "items": REFERENCE},
            bindings=closed("", "", mqtt=MQTT),
        )
    ),
    components=closed("", "schemas servers channels operations securitySchemes", messages=each(MESSAGE)),
)
"""What the specification, version 3.0.0, asks of the objects that the document has (its "Schema" chapter)."""


def test_it_has_the_form_that_the_specification_asks_for() -> None:
    errors = [error.message for error in Draft202012Validator(STRUCTURE).iter_errors(DOCUMENT)]
    assert errors == []


@pytest.mark.parametrize(
    "break_it",
    [
        {"asyncapi": "2.6.0"},
        {"info": {"title": "no version"}},
        {"operations": {"x": {"action": "publish", "channel": {"$ref": "#/channels/event"}}}},
        {"channels": {"x": {"topic": "hadir"}}},
    ],
)
def test_another_form_would_be_noticed(break_it: dict[str, Any]) -> None:
    assert not Draft202012Validator(STRUCTURE).is_valid(DOCUMENT | break_it)


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in {"$ref", "x-claims"}:
                assert isinstance(inner, str)
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("reference", sorted(set(references(DOCUMENT))))
def test_every_reference_leads_somewhere(reference: str) -> None:
    file, _, pointer = reference.partition("#")
    place: Any = json.loads((FOLDER / file).read_text(encoding="utf-8")) if file else DOCUMENT
    for step in pointer.split("/")[1:]:
        place = place[step]
    assert place


@pytest.mark.parametrize("name", DOCUMENT["operations"])
def test_an_operation_carries_only_messages_of_its_channel(name: str) -> None:
    operation = DOCUMENT["operations"][name]
    channel = operation["channel"]["$ref"]
    assert operation["messages"]
    for message in operation["messages"]:
        assert message["$ref"].startswith(f"{channel}/messages/")


@pytest.mark.parametrize("name", DOCUMENT["channels"])
def test_a_channel_describes_each_parameter_of_its_address_and_is_used(name: str) -> None:
    channel = DOCUMENT["channels"][name]
    assert set(re.findall(r"\{(\w+)\}", channel["address"])) == channel["parameters"].keys()
    used = {operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()}
    assert f"#/channels/{name}" in used


def test_what_it_says_of_tokens_and_topics_is_what_the_code_does() -> None:
    messages = DOCUMENT["components"]["messages"]
    assert EVENT_TOPIC.fullmatch(DOCUMENT["channels"]["event"]["address"].replace("{device}", "door-01"))
    assert messages["event"]["contentType"] == EVENT_CONTENT_TYPE
    limits = {name: (payload["x-typ"], payload["maxLength"]) for name, payload in tokens(messages)}
    assert limits == {
        "event": (EVENT_TYP, MAX_EVENT_BYTES),
        "receipt": (RECEIPT_TYP, MAX_RECEIPT_BYTES),
        "reply": (REPLY_TYP, MAX_REPLY_BYTES),
        "command": (COMMAND_TYP, MAX_COMMAND_BYTES),
        "keys": (KEYS_TYP, MAX_TRAIL_BYTES),
        "claimRequest": (REQUEST_TYP, MAX_REQUEST_BYTES),
    }


def test_it_has_every_topic_that_a_consumer_may_read_or_write() -> None:
    described = {
        channel["address"].replace("hadir/v1/{device}", "+") for channel in DOCUMENT["channels"].values()
    }
    assert {*CONSUMER_READS, *CONSUMER_WRITES} <= described


def tokens(messages: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, message in messages.items():
        if "x-typ" in message["payload"]:
            yield name, message["payload"]
