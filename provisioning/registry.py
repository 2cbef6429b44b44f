"""What a fleet consists of: boards, their keys and certificates, claims, consumers, and counters that only rise.

One SQLite file in the fleet's folder, read and written by commands that may run beside
each other. Whatever changes happens inside `Registry.change()`, one transaction that holds
its entry in the audit too; outside of it the registry can only be read. Times are whole
seconds since 1970.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509

from edge.errors import InputError, KeyFileError, RetryLater
from edge.records import Direction
from edge.trust.admission import Purpose
from edge.trust.identity import ID_PATTERN, check_device_id
from provisioning import audit
from provisioning.authority import Role, pem
from provisioning.entries import (
    LIVE_CLAIMS,
    Claim,
    ClaimState,
    Consumer,
    Device,
    DeviceKey,
    Given,
    Issued,
    claim_of,
    device_of,
    given_of,
    issued_of,
    key_of,
)
from provisioning.schema import connect

MAX_LABEL_CHARACTERS = 100

CHANGES = "changes"
"""The counter of all changes: the version of what is made from the registry, so that an older copy is known as one."""


class Registry:
    """An open registry, to be read; `change()` is the only way to write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path)
        self._file = _identity(path)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def change(self, action: str, subject: str, *, who: str, now_s: int, **detail: Any) -> Iterator[Change]:
        """One transaction and its entry in the audit; rolled back whole where the body raises.

        `detail` may be added to by the body (`change.detail`), and holds no secrets. Raises RetryLater where another
        command holds the registry for too long, or the disk is full.
        """
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._check_there()
                change = Change(connection, now_s, dict(detail))
                yield change
                change.next(CHANGES)
                audit.record(connection, action, subject, change.detail, who=who, now_s=now_s)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk makes SQLite roll back by itself
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise RetryLater(
                f"{self._path}: cannot be written now ({error}); nothing was changed. Another command may be at "
                "work, or the disk full"
            ) from error

    def _check_there(self) -> None:
        """Raise KeyFileError where another file lies there: what was written would be lost, and be told as done."""
        if _identity(self._path) != self._file:
            raise KeyFileError(
                f"{self._path}: the fleet was moved or restored while this ran; nothing was changed. Start it again"
            )

    def counter(self, name: str) -> int:
        """The highest number given out; 0 before the first."""
        row = self._connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return row[0] if row else 0

    def counters(self) -> tuple[str, ...]:
        """The names of all counters."""
        return tuple(row[0] for row in self._connection.execute("SELECT name FROM counters ORDER BY name"))

    def setting(self, name: str) -> Any:
        """What was set last under this name; None where nothing was."""
        row = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def devices(self) -> tuple[Device, ...]:
        """All boards, also revoked ones, by id."""
        rows = self._connection.execute("SELECT * FROM devices ORDER BY device")
        return tuple(device_of(row) for row in rows)

    def device(self, device: str) -> Device:
        """This board. Raises InputError where there is none."""
        row = self._connection.execute("SELECT * FROM devices WHERE device = ?", (device,)).fetchone()
        if row is None:
            raise InputError(f"device {device!r}: not in this fleet; `hadir-provision list` shows what is")
        return device_of(row)

    def device_keys(self, device: str | None = None) -> tuple[DeviceKey, ...]:
        """All keys of a board, or of all boards, in the order in which they were added."""
        rows = self._connection.execute(
            "SELECT * FROM keys WHERE ?1 IS NULL OR device = ?1 ORDER BY device, added_s, rowid", (device,)
        )
        return tuple(key_of(row) for row in rows)

    def certificates(self, name: str | None = None) -> tuple[Issued, ...]:
        """All certificates of a name, or all, in the order in which they were issued."""
        rows = self._connection.execute(
            "SELECT * FROM certificates WHERE ?1 IS NULL OR name = ?1 ORDER BY issued_s, rowid", (name,)
        )
        return tuple(issued_of(row) for row in rows)

    def consumers(self) -> tuple[Consumer, ...]:
        """All consumers, also revoked ones, by name."""
        return tuple(
            Consumer(*row) for row in self._connection.execute("SELECT * FROM consumers ORDER BY name")
        )

    def claims(self, device: str | None = None) -> tuple[Claim, ...]:
        """All claims for a board, or all, in the order in which they were made."""
        rows = self._connection.execute(
            "SELECT * FROM claims WHERE ?1 IS NULL OR device = ?1 ORDER BY made_s, rowid", (device,)
        )
        return tuple(claim_of(row) for row in rows)

    def claim(self, claim: str) -> Claim | None:
        """The claim of this id."""
        row = self._connection.execute("SELECT * FROM claims WHERE claim = ?", (claim,)).fetchone()
        return None if row is None else claim_of(row)

    def command(self, jti: str) -> Given | None:
        """The command of this id."""
        row = self._connection.execute("SELECT * FROM commands WHERE jti = ?", (jti,)).fetchone()
        return None if row is None else given_of(row)

    def open_commands(self, now_s: int) -> tuple[Given, ...]:
        """Commands that boards may still answer, in the order in which each is to get its own."""
        rows = self._connection.execute(
            "SELECT * FROM commands WHERE status IS NULL AND expires_s > ? ORDER BY device, n", (now_s,)
        )
        return tuple(given_of(row) for row in rows)

    def last_command(self, device: str, name: str) -> Given | None:
        """The newest command of this name that a board was given."""
        row = self._connection.execute(
            "SELECT * FROM commands WHERE device = ? AND name = ? ORDER BY n DESC LIMIT 1", (device, name)
        ).fetchone()
        return None if row is None else given_of(row)

    def audit(self) -> Iterator[audit.Entry]:
        """Who did what when, verified as it is read. Raises KeyFileError where the chain is broken."""
        return audit.verify_chain(self._connection)

    def last_change_s(self) -> int:
        """The latest time of an entry in the audit; 0 before the first."""
        (at_s,) = self._connection.execute("SELECT coalesce(max(at_s), 0) FROM audit").fetchone()
        return int(at_s)

    def back_up(self, path: Path) -> None:
        """A consistent copy in a new file of mode 0600, while others may write."""
        path.touch(mode=0o600, exist_ok=False)
        target = sqlite3.connect(path)
        try:
            self._connection.backup(target)
        finally:
            target.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies there; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


class Change:
    """What may be changed, inside one transaction."""

    def __init__(self, connection: sqlite3.Connection, now_s: int, detail: dict[str, Any]) -> None:
        self._connection = connection
        self._now_s = now_s
        self.detail = detail

    def next(self, name: str) -> int:
        """The next number of a counter, which is never given out again."""
        return self.at_least(name, self._value(name) + 1)

    def at_least(self, name: str, value: int) -> int:
        """Raise a counter to this value unless it is higher already; what it is now."""
        value = max(value, self._value(name))
        self._connection.execute(
            "INSERT INTO counters VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", (name, value)
        )
        return value

    def set(self, name: str, value: Any) -> None:
        """Remember something of the fleet as a whole."""
        self._connection.execute(
            "INSERT INTO settings VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
            (name, json.dumps(value)),
        )

    def add_device(
        self,
        device: str,
        site: str,
        direction: Direction,
        *,
        label: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Register a board. Raises InputError where an id cannot be, or is there already."""
        check_device_id(device)
        check_site(site)
        self._check_client_id(device)
        row = (
            device,
            site,
            direction.value,
            check_label(label),
            json.dumps(settings or {}),
            self._now_s,
            None,
        )
        self._connection.execute("INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def label(self, device: str, label: str) -> None:
        """Give a board another display name."""
        self._one("UPDATE devices SET label = ? WHERE device = ?", (check_label(label), device))

    def revoke_device(self, device: str) -> None:
        """The board, all its keys and all its certificates are believed no longer."""
        for statement in (
            "UPDATE devices SET revoked_s = ?1 WHERE device = ?2 AND revoked_s IS NULL",
            "UPDATE keys SET revoked_s = ?1 WHERE device = ?2 AND revoked_s IS NULL",
            "UPDATE certificates SET revoked_s = ?1 WHERE name = ?2 AND revoked_s IS NULL",
        ):
            self._connection.execute(statement, (self._now_s, device))
        self._connection.execute(
            "UPDATE claims SET state = ? WHERE device = ? AND state IN (?, ?, ?)",
            (ClaimState.CANCELLED, device, *LIVE_CLAIMS),
        )

    def add_revoked_device(self, device: str, site: str) -> None:
        """A name that is denied everything, of which a restored registry knows nothing else. Raises InputError."""
        self.add_device(device, site, Direction.BOTH)
        self.revoke_device(device)

    def add_revoked_serial(self, serial: int) -> None:
        """A certificate that is not let in, of which a restored registry knows nothing else."""
        row = (f"{serial:x}", Role.DEVICE.value, "", "", 0, self._now_s, self._now_s)
        self._connection.execute("INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def reinstate_device(self, device: str) -> None:
        """The door may have a board again, with keys of its own: the old ones stay revoked."""
        self._one("UPDATE devices SET revoked_s = NULL WHERE device = ?", (device,))

    def add_key(
        self,
        kid: str,
        device: str,
        jwk: Mapping[str, str],
        *,
        sealing: str | None = None,
        protection: str | None = None,
        chain: str | None = None,
        first_seq: int | None = None,
    ) -> None:
        """Register a board's key. Raises InputError where it is registered already, for whomever."""
        row = (
            kid,
            device,
            json.dumps(dict(jwk)),
            sealing,
            protection,
            chain,
            first_seq,
            None,
            self._now_s,
            None,
        )
        try:
            self._connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise InputError(
                f"key {kid}: is registered already, and a key belongs to one board once"
            ) from error

    def bind_key(
        self,
        kid: str,
        *,
        chain: str | None = None,
        first_seq: int | None = None,
        last_seq: int | None = None,
        protection: str | None = None,
    ) -> None:
        """Say for which part of which chain a key speaks; what is None stays as it was."""
        self._one(
            "UPDATE keys SET chain = coalesce(?, chain), first_seq = coalesce(?, first_seq),"
            " last_seq = coalesce(?, last_seq), protection = coalesce(?, protection) WHERE kid = ?",
            (chain, first_seq, last_seq, protection, kid),
        )

    def revoke_key(self, kid: str) -> None:
        """One key is believed no longer; its board may have others."""
        self._one("UPDATE keys SET revoked_s = coalesce(revoked_s, ?) WHERE kid = ?", (self._now_s, kid))

    def add_certificate(self, certificate: x509.Certificate, role: Role, name: str) -> None:
        """Register what was issued. Raises InputError for a serial number that was given out before."""
        row = (
            f"{certificate.serial_number:x}",
            role.value,
            name,
            pem(certificate),
            int(certificate.not_valid_after_utc.timestamp()),
            self._now_s,
            None,
        )
        try:
            self._connection.execute("INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise InputError(f"certificate {row[0]}: this serial number was given out before") from error

    def revoke_certificate(self, serial: int) -> None:
        """One certificate is let in no longer."""
        self._one(
            "UPDATE certificates SET revoked_s = coalesce(revoked_s, ?) WHERE serial = ?",
            (self._now_s, f"{serial:x}"),
        )

    def add_consumer(self, name: str) -> None:
        """Register a consumer. Raises InputError where it is there already."""
        try:
            self._connection.execute("INSERT INTO consumers VALUES (?, ?, NULL)", (name, self._now_s))
        except sqlite3.IntegrityError as error:
            raise InputError(f"consumer {name}: is in this fleet already; choose another name") from error

    def revoke_consumer(self, name: str) -> None:
        """A consumer and its certificates are let in no longer."""
        self._one(
            "UPDATE consumers SET revoked_s = coalesce(revoked_s, ?) WHERE name = ?", (self._now_s, name)
        )
        self._connection.execute(
            "UPDATE certificates SET revoked_s = ? WHERE name = ? AND revoked_s IS NULL", (self._now_s, name)
        )

    def add_claim(
        self, claim: str, device: str, purpose: Purpose, *, secret: bytes, password: str, expires_s: int
    ) -> None:
        """Register a claim. `secret` is wrapped, `password` as `broker.password_hash` makes it. Raises InputError."""
        self._check_client_id(claim)
        self._connection.execute(
            "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, NULL)",
            (claim, device, purpose.value, ClaimState.OPEN.value, secret, password, self._now_s, expires_s),
        )

    def update_claim(
        self,
        claim: str,
        state: ClaimState,
        *,
        request: str | None = None,
        request_kid: str | None = None,
        response: bytes | None = None,
        used_s: int | None = None,
        alert: str | None = None,
    ) -> None:
        """Move a claim on; what is None stays as it was."""
        self._one(
            "UPDATE claims SET state = ?, request = coalesce(?, request), request_kid = coalesce(?, request_kid),"
            " response = coalesce(?, response), used_s = coalesce(?, used_s), alert = coalesce(?, alert)"
            " WHERE claim = ?",
            (state.value, request, request_kid, response, used_s, alert, claim),
        )

    def add_command(self, jti: str, device: str, n: int, name: str, token: str, expires_s: int) -> None:
        """Register a command that is about to be sent."""
        self._connection.execute(
            "INSERT INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL)",
            (jti, device, n, name, token, self._now_s, expires_s),
        )

    def answer_command(self, jti: str, status: str, reason: str | None, result: Mapping[str, Any]) -> None:
        """Note what the board answered. Raises InputError where it had answered before."""
        self._one(
            "UPDATE commands SET status = ?, reason = ?, result = ?, answered_s = ? "
            "WHERE status IS NULL AND jti = ?",
            (status, reason, json.dumps(result), self._now_s, jti),
        )

    def _check_client_id(self, name: str) -> None:
        """A claim's id and a board's are client ids at one broker, where equal ones throw each other off."""
        taken = "SELECT 1 FROM devices WHERE device = ?1 UNION SELECT 1 FROM claims WHERE claim = ?1"
        if self._connection.execute(taken, (name,)).fetchone():
            raise InputError(
                f"{name}: is in this fleet already; another claim for it: `hadir-provision renew`, a new board at the "
                "same door: `hadir-provision replace`"
            )

    def _value(self, name: str) -> int:
        row = self._connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return row[0] if row else 0

    def _one(self, statement: str, values: Sequence[object]) -> None:
        if self._connection.execute(statement, values).rowcount != 1:
            raise InputError(f"{values[-1]}: not in this fleet; `hadir-provision list` shows what is")


def check_site(site: str) -> str:
    """The id itself. Raises InputError where it cannot be a site's."""
    if not ID_PATTERN.fullmatch(site):
        raise InputError(f"site {site!r}: must match {ID_PATTERN.pattern}")
    return site


def check_label(label: str) -> str:
    """The display name itself. Raises InputError where it cannot be shown in one line."""
    if len(label) > MAX_LABEL_CHARACTERS or not (label == "" or label.isprintable()):
        raise InputError(f"label {label[:40]!r}: must be at most {MAX_LABEL_CHARACTERS} printable characters")
    return label


def create_registry(path: Path) -> Registry:
    """A new registry, for its owner alone. Raises OSError."""
    path.touch(mode=0o600, exist_ok=False)
    return Registry(path)
