"""A consumer's folder: all that `hadir-central run` needs, kept up to date, its secrets its owner's alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509

from central.config import load_central
from central.registry import load_registry
from central.store.database import open_database, shown
from demo.boards import add_board
from edge.errors import ConfigError, InputError, KeyFileError
from edge.trust.fleetkeys import load_keys_document
from edge.trust.identity import load_signing_key
from edge.trust.jws import SigningKey
from provisioning.cli import main
from provisioning.consumers import DATABASE, add_consumer, renew_consumer
from provisioning.deploy import BrokerSettings, write_broker
from provisioning.fleet import Fleet
from tests.test_broker import reachable

NOW_S = 1_764_000_000


@pytest.fixture
def ready(fleet: Fleet) -> Fleet:
    """A fleet whose broker is set up."""
    reachable(fleet.folder)
    write_broker(fleet, BrokerSettings(("broker.local",), folder=str(fleet.folder / "broker")), NOW_S)
    return fleet


def test_the_server_reads_what_was_written(ready: Fleet) -> None:
    path = add_consumer(ready, "central-1", now_s=NOW_S)
    config = load_central(path)
    assert (config.broker.url, config.broker.name) == ("mqtts://broker.local:8883", "central-1")
    assert config.trust.root_thumbprint == ready.root_thumbprint
    assert {entry.device for entry in load_registry(config.trust.devices_file).registrations.values()} == {
        "door-01",
        "door-02",
    }
    keys = load_keys_document(config.trust.keys_file, config.trust.root_thumbprint)
    receipt = load_signing_key(config.trust.receipt_key_file)
    assert list(keys.verification_keys("hadir-receipt+jwt")) == [receipt.kid]
    assert config.broker.ca_file is not None
    assert config.broker.ca_file.read_text() == (ready.folder / "ca" / "root.crt").read_text()


def test_its_private_keys_are_its_owners_alone(ready: Fleet) -> None:
    folder = add_consumer(ready, "central-1", now_s=NOW_S).parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert (modes["consumer.key"], modes["receipt.pem"]) == (0o600, 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_learns_of_new_boards_and_a_revoked_one_learns_nothing(ready: Fleet) -> None:
    folders = [add_consumer(ready, name, now_s=NOW_S).parent for name in ("central-1", "central-2")]
    with ready.change("revoke", "central-2", now_s=NOW_S) as change:
        change.revoke_consumer("central-2")
    before = (folders[1] / "devices.jwks").read_bytes()
    add_board(ready, "door-03")
    assert b"door-03" in (folders[0] / "devices.jwks").read_bytes()
    assert (folders[1] / "devices.jwks").read_bytes() == before


def test_a_renewed_certificate_is_for_the_same_key(ready: Fleet) -> None:
    folder = add_consumer(ready, "central-1", now_s=NOW_S).parent
    first = x509.load_pem_x509_certificates((folder / "consumer.crt").read_bytes())[0]
    assert renew_consumer(ready, "central-1", now_s=NOW_S + 9) == folder
    renewed = x509.load_pem_x509_certificates((folder / "consumer.crt").read_bytes())[0]
    assert renewed.public_key() == first.public_key()
    assert renewed.serial_number != first.serial_number
    assert len(ready.registry.certificates("central-1")) == 2


@pytest.mark.parametrize("name", ["door-01", "provision", "Central-1", "central/1", "../central-1", ""])
def test_a_name_that_is_no_consumers_is_refused(ready: Fleet, name: str) -> None:
    with pytest.raises(InputError, match="consumer"):
        add_consumer(ready, name, now_s=NOW_S)
    assert not (ready.folder / "consumers").exists()


def test_a_name_is_given_once_and_never_again(ready: Fleet) -> None:
    add_consumer(ready, "central-1", now_s=NOW_S)
    key = (ready.folder / "consumers" / "central-1" / "consumer.key").read_bytes()
    for _ in range(2):
        with pytest.raises(InputError, match="in this fleet already"):
            add_consumer(ready, "central-1", now_s=NOW_S)
        with ready.change("revoke", "central-1", now_s=NOW_S) as change:
            change.revoke_consumer("central-1")
    assert (ready.folder / "consumers" / "central-1" / "consumer.key").read_bytes() == key
    with pytest.raises(InputError, match="revoked"):
        renew_consumer(ready, "central-1", now_s=NOW_S)


def test_without_a_broker_there_is_nothing_to_connect_to(fleet: Fleet) -> None:
    with pytest.raises(InputError, match="the broker is not set up"):
        add_consumer(fleet, "central-1", now_s=NOW_S)


@pytest.mark.parametrize("content", [b"damaged", None])
def test_a_lost_key_cannot_be_certified_again(ready: Fleet, content: bytes | None) -> None:
    path = add_consumer(ready, "central-1", now_s=NOW_S).parent / "consumer.key"
    path.unlink()
    if content is not None:
        path.touch(mode=0o600)
        path.write_bytes(content)
    with pytest.raises(
        KeyFileError, match=r"consumer\.key: the consumer's private key cannot be read; revoke it"
    ):
        renew_consumer(ready, "central-1", now_s=NOW_S)


def test_a_key_that_others_can_read_is_refused(ready: Fleet) -> None:
    path: Path = add_consumer(ready, "central-1", now_s=NOW_S).parent / "consumer.key"
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="mode 0644 is readable by others"):
        renew_consumer(ready, "central-1", now_s=NOW_S)


def test_init_makes_broker_and_consumer_along_with_the_fleet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = tmp_path / "fleet"
    reachable(fleet)
    assert main(["init", str(fleet), "--host", "broker.local", "--consumer", "central-1"]) == 0
    said = capsys.readouterr().out
    assert f"broker mqtts://broker.local:8883: {fleet}/broker/mosquitto.conf" in said
    assert load_central(fleet / "consumers" / "central-1" / "central.toml").broker.name == "central-1"
    assert "user central-1" in (fleet / "broker" / "devices.acl").read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--consumer", "central-1"], "name its --host as well"),
        (["--host", "h", "--consumer", "door-01"], "consumer 'door-01': must match"),
        (["--host", "a b"], "neither a host name nor an address"),
    ],
)
def test_init_refuses_what_cannot_be_before_any_key_is_made(
    tmp_path: Path, options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "fleet"), *options]) == InputError.exit_code
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "fleet").exists()


def test_the_commands_say_where_the_folder_is_and_what_to_do_with_it(
    ready: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["consumer", "add", str(ready.folder), "central-1"]) == 0
    folder = ready.folder / "consumers" / "central-1"
    said = capsys.readouterr().out
    assert f"`hadir-central run --config {folder / 'central.toml'}` runs it here" in said
    assert "user central-1" in (ready.folder / "broker" / "devices.acl").read_text()
    assert main(["consumer", "renew", str(ready.folder), "central-1"]) == 0
    assert f"copy {folder} to the server and restart that" in capsys.readouterr().out


def test_a_renewed_consumer_has_the_receipt_key_of_now(ready: Fleet) -> None:
    folder = add_consumer(ready, "central-1", now_s=NOW_S).parent
    following = SigningKey.generate()
    ready.store.save("receipt", following.private)
    renew_consumer(ready, "central-1", now_s=NOW_S)
    assert load_signing_key(folder / "receipt.pem").kid == following.kid


DATABASES = (
    "sqlite:////var/lib/hadir-central/central.db",
    "sqlite:///central.db",
    "postgresql://hadir@db:5433/hadir",
)


@pytest.mark.parametrize("url", DATABASES)
def test_the_server_stores_where_the_command_said(
    ready: Fleet, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["consumer", "add", str(ready.folder), "central-1", "--database", url]) == 0
    config = ready.folder / "consumers" / "central-1" / "central.toml"
    assert load_central(config).database.url == url
    engine = open_database(load_central(config).database.url, config.parent)
    assert shown(engine).startswith(("sqlite:////", "postgresql+psycopg://hadir@db:5433/hadir"))


def test_where_nothing_is_said_it_stores_beside_its_configuration(ready: Fleet) -> None:
    path = add_consumer(ready, "central-1", now_s=NOW_S)
    assert load_central(path).database.url == DATABASE


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hadir:very-secret@db/hadir",
        "postgresql://db/hadir?password=very-secret",
        "mysql://db/hadir",
        "sqlite:central.db",
        "postgresql://[db/hadir",
        "sqlite:///two\nlines",
        "",
    ],
)
def test_a_database_that_cannot_be_one_registers_nothing_and_a_password_is_not_repeated(
    ready: Fleet, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["consumer", "add", str(ready.folder), "central-1", "--database", url]
    assert main(asked) == InputError.exit_code
    said = capsys.readouterr()
    assert "--database: " in said.err
    assert "very-secret" not in said.out + said.err
    assert ready.registry.consumers() == ()
    assert not (ready.folder / "consumers").exists()


def test_the_server_refuses_a_password_wherever_it_stands_in_the_url(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a password in it would be readable") as refused:
        open_database("postgresql://db/hadir?password=very-secret", tmp_path)
    assert "very-secret" not in str(refused.value)
