"""The server's configuration: what is read, and what every refusal tells the person who wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from central.config import CentralConfig, load_central, parse_central
from edge.errors import ConfigError

MINIMAL: dict[str, dict[str, Any]] = {
    "broker": {"url": "mqtts://broker.local"},
    "trust": {"root_thumbprint": "A" * 43},
}
FILE = Path("/etc/hadir/central.toml")


def parsed(**sections: dict[str, Any]) -> CentralConfig:
    document = {
        name: MINIMAL.get(name, {}) | sections.get(name, {}) for name in MINIMAL.keys() | sections.keys()
    }
    return parse_central(document, FILE)


def test_the_least_that_must_be_written_is_enough() -> None:
    config = parsed()
    assert (config.broker.name, config.broker.group, config.report.timezone) == (
        "central-1",
        "central",
        "UTC",
    )
    assert config.trust.devices_file == Path("/etc/hadir/devices.jwks")
    assert config.database.url == "sqlite:///central.db"
    assert config.address.topics == (
        "$share/central/hadir/v1/+/up/event",
        "hadir/v1/+/up/status",
        "hadir/v1/+/up/health",
    )


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "central.toml"
    path.write_text('[broker]\nurl = "mqtt://h"\n[trust]\nroot_thumbprint = "' + "B" * 43 + '"\n')
    assert load_central(path).broker.url == "mqtt://h"


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("broker", "url", "http://broker", "broker.url = 'http://broker': must be a string like"),
        ("broker", "url", "mqtts://", "must be a string like"),
        ("broker", "url", "mqtts://h:99999", "must be mqtt:// or mqtts://, a host"),
        ("broker", "url", "mqtts://user:pw@h", "must be a string like"),
        ("broker", "name", "door-01", "broker.name = 'door-01': must be a string like central"),
        ("broker", "group", "a/b", "broker.group = 'a/b': must be a string like"),
        ("broker", "cert_file", "c.pem", "belong together"),
        ("broker", "nmae", "x", "unknown key broker.nmae; allowed are url, name, group"),
        ("trust", "root_thumbprint", "short", "trust.root_thumbprint = 'short'"),
        ("database", "url", "mysql://x", "database.url = 'mysql://x': must be a string like"),
        (
            "report",
            "timezone",
            "Mars/Olympus",
            'report.timezone = "Mars/Olympus": no time zone of this machine',
        ),
        ("report", "timezone", "../../etc/passwd", "must be a string like"),
        ("reprot", "x", 1, "unknown section [reprot]; allowed are broker, trust, database, report"),
    ],
)
def test_a_mistake_names_file_key_value_and_what_would_be_allowed(
    section: str, key: str, value: object, said: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        parsed(**{section: {key: value}})
    assert str(refusal.value).startswith(str(FILE))
    assert said in str(refusal.value)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"trust.root_thumbprint: is missing and has no default"):
        parse_central({"broker": {"url": "mqtt://h"}}, FILE)


def test_the_password_of_an_address_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as refusal:
        parsed(broker={"url": "mqtts://user:s3cret@h"})
    assert "s3cret" not in str(refusal.value)
