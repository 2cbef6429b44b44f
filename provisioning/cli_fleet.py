"""Commands about the fleet as a whole: `init`, `backup`, `restore`, `revoke`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from edge.command import Subparsers
from edge.errors import BrokerUnavailable, InputError, KeyFileError
from provisioning.authority import CONSUMER_PATTERN, check_consumer_name
from provisioning.backup import back_up, restore
from provisioning.consumers import add_consumer
from provisioning.deploy import (
    BrokerSettings,
    check_settings,
    default_folder,
    write_access,
    write_broker,
)
from provisioning.fleet import DEFAULT_SITE, init_fleet, open_fleet
from provisioning.keys import choose_passphrase, read_passphrase
from provisioning.revoke import Revoked, cut_off, revoke


def add_commands(commands: Subparsers) -> None:
    """Add them to the command line."""
    init = commands.add_parser("init", help="make a fleet: its keys, its authority, its registry")
    init.add_argument("fleet", type=Path, metavar="FLEET", help="a folder that does not exist yet")
    init.add_argument(
        "--site", default=DEFAULT_SITE, help="of boards that name none, such as hq; default %(default)s"
    )
    init.add_argument(
        "--host", action="append", help="also write the broker's files, as `broker --host` does; repeatable"
    )
    init.add_argument(
        "--consumer", action="append", default=[], help="and a consumer's, as `consumer add` does; repeatable"
    )
    init.set_defaults(act=_init)
    backup = commands.add_parser("backup", help="the whole fleet in one encrypted file")
    backup.add_argument("fleet", type=Path, metavar="FLEET")
    backup.add_argument("file", type=Path, metavar="FILE", help="a new file")
    backup.set_defaults(act=_backup)
    restoring = commands.add_parser("restore", help="a fleet from a backup")
    restoring.add_argument("file", type=Path, metavar="FILE")
    # Not "fleet": there is none yet whose certificates could be looked after.
    restoring.add_argument("folder", type=Path, metavar="FLEET", help="a folder that does not exist yet")
    restoring.add_argument(
        "--broker",
        type=Path,
        metavar="FOLDER",
        help="of a broker that survived: what was revoked since the backup is taken from it",
    )
    restoring.set_defaults(act=_restore)
    revoking = commands.add_parser("revoke", help="a board or consumer is out, at the broker and the server")
    revoking.add_argument("fleet", type=Path, metavar="FLEET")
    revoking.add_argument("name", metavar="NAME", help="a board's id or a consumer's name")
    revoking.add_argument(
        "--unregistered", action="store_true", help="a board that a restored registry does not know"
    )
    revoking.set_defaults(act=_revoke)


def _init(options: argparse.Namespace) -> None:
    if options.consumer and not options.host:
        raise InputError("--consumer: a consumer needs to know the broker; name its --host as well")
    for name in options.consumer:
        check_consumer_name(name)
    if options.host:
        check_settings(BrokerSettings(tuple(options.host)))
    fleet = init_fleet(options.fleet, site=options.site, ask=choose_passphrase)
    print(f"fleet {fleet.folder}: root key {fleet.root_thumbprint}")
    print(f"carry {fleet.folder / 'offline'} away: everyday work needs nothing of it")
    now_s = int(time.time())
    if options.host:
        settings = BrokerSettings(tuple(options.host), folder=default_folder(fleet))
        print(f"broker {settings.url}: {write_broker(fleet, settings, now_s)}")
    for name in options.consumer:
        print(f"consumer {name}: {add_consumer(fleet, name, now_s=now_s)}")
    if options.consumer:
        write_access(fleet, now_s)


def _backup(options: argparse.Namespace) -> None:
    fleet = open_fleet(options.fleet)
    back_up(fleet, options.file, now_s=int(time.time()))
    print(f"{options.file}: the whole fleet, encrypted under its passphrase")
    if not (fleet.folder / "offline").is_dir():
        print("the root keys are not in it: they are kept offline, and need a copy of their own")


def _restore(options: argparse.Namespace) -> None:
    restored = restore(
        options.file, options.folder, ask=read_passphrase, now_s=int(time.time()), broker=options.broker
    )
    fleet = restored.fleet
    made = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(restored.made_s))
    print(f"fleet {fleet.folder}: as of {made}; versions go on above all that were given out since")
    if restored.revoked:
        print(f"revoked since, as the broker's files say: {', '.join(restored.revoked)}")
    if options.broker is None:
        print(
            "what was revoked since the backup is in again: revoke it once more (`hadir-provision audit` of the old "
            "folder or your notes tell what), or restore with --broker"
        )
    print("boards that claimed since are not in it: revoke them with --unregistered, or replace them")
    print(f"next: hadir-provision broker {fleet.folder}")


def _revoke(options: argparse.Namespace) -> None:
    fleet, now_s = open_fleet(options.fleet), int(time.time())
    revoked = revoke(fleet, options.name, now_s=now_s, unregistered=options.unregistered)
    print(f"{revoked.name}: revoked, with {revoked.keys} keys and {revoked.certificates} certificates")
    print(_consequences(revoked))
    try:
        cut_off(fleet, options.name, now_s=now_s)
    except KeyboardInterrupt:
        print(
            f"{options.name} is revoked in the registry, but may still be connected: run this again",
            file=sys.stderr,
        )
        raise
    except BrokerUnavailable as error:
        raise BrokerUnavailable(
            f"{options.name} is revoked in the registry, but may still be connected: {error}"
        ) from error
    except (InputError, KeyFileError) as error:
        raise type(error)(f"{options.name} is revoked in the registry only: {error}") from error
    print(f"{revoked.name}: not let in any more; whatever the broker kept of it is cleared")


def _consequences(revoked: Revoked) -> str:
    if CONSUMER_PATTERN.fullmatch(revoked.name):
        return (
            "it had the key that signs receipts: change the fleet's keys with `hadir-provision rotate-fleet`"
        )
    if revoked.disclosed:
        return (
            "its templates count as disclosed: the key that protects them lies on the same card "
            f"(protection: {', '.join(sorted(set(revoked.protections))) or 'unknown'})"
        )
    return "its templates stay protected by its TPM, as long as nobody takes that apart"
