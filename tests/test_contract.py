"""docs/events.md names everything that a consumer meets, and its example is one of the vectors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.records import ClockState, TamperKind
from edge.trust.jws import FORBIDDEN_HEADERS
from edge.trust.tokens import MAX_EVENT_BYTES
from tests.schemas import FOLDER, schema
from tests.test_example import NEEDS_CODE_OF_ITS_OWN
from tests.test_vectors import OF_EVENTS, VECTORS, payload

PAGE = (FOLDER.parent / "events.md").read_text(encoding="utf-8")
CODE = set(re.findall(r"`([^`\n]+)`", PAGE))


@pytest.mark.parametrize(
    "name", ["chained", *(urn.split(":")[3] for urn in schema("event")["properties"]["events"]["properties"])]
)
def test_every_type_and_member_of_the_schema_is_on_the_page(name: str) -> None:
    described = schema("event")["$defs"][name]
    missing = {member for member in described["properties"] if member not in CODE}
    assert missing == set()
    assert name in CODE or name == "chained"


WORDS = sorted(
    {*OF_EVENTS, *ClockState, *TamperKind, *FORBIDDEN_HEADERS}
    | {member for name in ("event", "receipt", "head") for member in schema(name)["properties"]}
)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_that_a_consumer_meets_is_on_the_page(word: str) -> None:
    assert word in CODE


def test_its_example_is_the_first_vector_whole() -> None:
    first = VECTORS["events"][0]
    assert first["token"] in PAGE.replace("\n", "")
    assert f"`{first['hash']}`" in PAGE
    assert payload(first["token"])["jti"] in PAGE
    assert f"{MAX_EVENT_BYTES:,} bytes" in PAGE
    assert len(NEEDS_CODE_OF_ITS_OWN) == 8, "the page says eight"


def test_every_file_that_it_links_to_exists() -> None:
    for link in re.findall(r"\]\((\S+?)\)", PAGE):
        assert (FOLDER.parent / Path(link)).exists(), link


def test_every_file_of_the_contract_is_linked() -> None:
    linked = set(re.findall(r"\]\(events/(\S+?)\)", PAGE))
    assert linked == {path.name for path in FOLDER.iterdir() if path.is_file()}
