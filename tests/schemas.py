"""The JSON Schemas of docs/events, ready to validate with."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parent.parent / "docs" / "events"


def schema(name: str) -> dict[str, Any]:
    """One of docs/events, by the part of its name before `.schema.json`."""
    value: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    return value


@cache
def validator(name: str) -> Draft202012Validator:
    """Validates against a schema; the schema itself is checked once."""
    Draft202012Validator.check_schema(schema(name))
    return Draft202012Validator(schema(name))


def fits(name: str, value: object) -> bool:
    """Whether a value is what the schema describes."""
    return bool(validator(name).is_valid(value))
