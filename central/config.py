"""The configuration of `hadir-central`: one TOML file, as strict as a board's.

Secrets are paths, never values: no password belongs into `database.url` or `broker.url`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from central.consume import BOARD_TOPICS, BrokerAddress, shared
from edge.errors import ConfigError
from edge.settings import Like, check_broker, parse_document, read_document


@dataclass(frozen=True, slots=True)
class BrokerSection:
    """Where messages come from and receipts go."""

    url: Annotated[str, Like(r"mqtts?://[^/@\s]+")]
    name: Annotated[str, Like(r"central[a-z0-9-]{0,25}")] = "central-1"
    """This consumer: its client id and user name, so the common name of its certificate, and `iss` of its receipts."""
    group: Annotated[str, Like(r"[a-z0-9-]{1,32}")] = "central"
    """Consumers of one group on one database share the events among them."""
    ca_file: Path | None = None
    cert_file: Path | None = None
    private_key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class TrustSection:
    """Whom the server believes, and under which key boards believe it."""

    root_thumbprint: Annotated[str, Like(r"[A-Za-z0-9_-]{43}")]
    """RFC 7638 thumbprint of the fleet's root key, which signs the keys document."""
    devices_file: Path = Path("devices.jwks")
    """Of provisioning; read again when it changes."""
    keys_file: Path = Path("keys.jws")
    receipt_key_file: Path = Path("receipt.pem")
    """The private key that signs receipts; readable by its owner alone."""


@dataclass(frozen=True, slots=True)
class DatabaseSection:
    """Where everything is stored."""

    url: Annotated[str, Like(r"(sqlite|postgresql):[ -~]{1,500}")] = "sqlite:///central.db"
    """`sqlite:///FILE`, relative to this file, or `postgresql://[USER@]HOST[:PORT]/NAME`, without a password."""


@dataclass(frozen=True, slots=True)
class ReportSection:
    """How days are told."""

    timezone: Annotated[str, Like(r"[A-Za-z0-9_+/-]{1,64}")] = "UTC"
    """In which a day begins at midnight, as in `Asia/Jakarta`."""


@dataclass(frozen=True, slots=True)
class CentralConfig:
    """Everything that `hadir-central` needs to know."""

    broker: BrokerSection
    trust: TrustSection
    database: DatabaseSection = dataclasses.field(default_factory=DatabaseSection)
    report: ReportSection = dataclasses.field(default_factory=ReportSection)

    @property
    def address(self) -> BrokerAddress:
        broker = self.broker
        topics = (shared(broker.group), *BOARD_TOPICS)
        return BrokerAddress(
            broker.url, broker.name, broker.ca_file, broker.cert_file, broker.private_key_file, topics
        )

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.report.timezone)


def load_central(path: Path) -> CentralConfig:
    """Read and check the server's configuration. Raises ConfigError, naming file, key, value and what is allowed."""
    return parse_central(read_document(path), path)


def parse_central(document: dict[str, Any], path: Path) -> CentralConfig:
    """Turn a parsed document into the configuration; `path` resolves relative paths and names the file in errors."""
    config = parse_document(CentralConfig, document, path)
    check_broker(config.broker, path)
    try:
        ZoneInfo(config.report.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f'{path}: report.timezone = "{config.report.timezone}": no time zone of this machine (package tzdata)'
        ) from error
    return config
