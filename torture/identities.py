"""A board whose identity is tortured: its folders, the programs that work on it, and what is wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509

from demo.boards import PASSPHRASE
from edge.trust.jws import jwk_of, parse_object, thumbprint
from edge.trust.protect import load_key_encryption_key
from edge.trust.store import CERTIFICATE_FILE, CLAIMED, Identity, IdentityStore
from edge.uplink.outbox import Outbox
from provisioning.deploy import BrokerSettings
from provisioning.entries import ClaimState
from provisioning.fleet import DEVICES_FILE, Fleet
from provisioning.keys import PASSPHRASE as PASSPHRASE_VARIABLE

RUN_S = 60.0
"""A run takes about a second; one that takes so long hangs."""

LOG = Path(tempfile.gettempdir()) / "hadir-torture-identity.log"
"""What all processes said, for whoever looks for the cause of a problem."""

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of both sides, each in a process of its own."""

    mutation: str | None = None
    """An error that is built into all of them."""

    def command(self, program: str, arguments: Sequence[str], kill_at: StrEnum | None = None) -> list[str]:
        """What is started."""
        mutated = [] if self.mutation is None else ["--mutation", self.mutation]
        armed = [] if kill_at is None else ["--kill-at", kill_at.value]
        return [sys.executable, "-m", "torture.killing", *mutated, *armed, program, *arguments]

    def run(self, program: str, arguments: Sequence[str], kill_at: StrEnum | None = None) -> int:
        """One of them to its end, or its death; its exit code, negative for a signal."""
        with self.start(program, arguments, kill_at) as process:
            try:
                return process.wait(RUN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

    @contextmanager
    def start(
        self, program: str, arguments: Sequence[str], kill_at: StrEnum | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """One of them in a process, ended with the block."""
        with LOG.open("ab") as log:
            process = subprocess.Popen(
                self.command(program, arguments, kill_at),
                cwd=ROOT,
                env=os.environ | {PASSPHRASE_VARIABLE: PASSPHRASE},
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(RUN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True, slots=True)
class Board:
    """One board's folders, and its processes."""

    programs: Programs
    fleet: Fleet
    device: str
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "edge.toml"

    @property
    def quiet(self) -> list[str]:
        """The arguments of its daemon."""
        return ["--config", str(self.config)]

    @property
    def claim(self) -> Path:
        return self.folder / "hadir-claim.json"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def current(self) -> Identity | None:
        """The identity in use; None where there is none."""
        return IdentityStore(self.state, load_key_encryption_key(self.state, {})).current()

    def kid(self) -> str | None:
        """Of the identity in use; None where there is none."""
        current = self.current()
        return None if current is None else current.signing_key().kid

    @property
    def claim_is_gone(self) -> bool:
        """Whether the claim lies nowhere any more, as befits one that was used."""
        return not self.claim.exists() and not (self.state / "claim").exists()

    def claims(self, kill_at: StrEnum | None = None) -> int:
        """`hadir-edge claim`; its exit code."""
        named = ["--claim", str(self.claim)] if self.claim.exists() else []
        return self.programs.run("edge", ["claim", *self.quiet, *named], kill_at)

    def whole(self) -> Iterator[str]:
        """What is wrong right after a death: whatever identity is in use, a daemon must be able to start with it."""
        current = self.current()
        if current is None:
            return
        if not current.complete or not self.config.exists():
            yield f"{current.name} is in use and not complete"
        elif _kid_of((current.folder / CERTIFICATE_FILE).read_text("ascii")) != current.signing_key().kid:
            yield f"{current.name} is in use with another key's certificate"

    def problems(self) -> Iterator[str]:
        """What is wrong with it at the end of its life."""
        identities = [path.name for path in (self.state / "identity").iterdir() if not path.is_symlink()]
        if len(identities) != 1:
            yield f"{len(identities)} identities: {', '.join(identities)}"
        if not self.claim_is_gone:
            yield "its claim is still there"
        yield from self._registry_problems()
        yield from self._chain_problems()

    def _registry_problems(self) -> Iterator[str]:
        current, kid, registry = self.current(), self.kid(), self.fleet.registry
        working = [k for k in registry.device_keys(self.device) if k.revoked_s is None and k.last_seq is None]
        if [key.kid for key in working] != [kid]:
            yield f"the registry has {[key.kid for key in working]}, the board {kid}"
        good = [_kid_of(c.pem) for c in registry.certificates(self.device) if c.revoked_s is None]
        # A command that is given again has the same key certified again; a claim never does.
        once = current is not None and current.name.startswith(CLAIMED)
        if set(good) != {kid} or (once and len(good) != 1):
            yield f"the board has {kid}, and {len(good)} certificates are good, for {', '.join(good)}"
        open_ones = [c for c in registry.claims(self.device) if c.state is not ClaimState.USED]
        if open_ones:
            yield f"not all of its claims are used up: {[claim.state.value for claim in open_ones]}"

    def _chain_problems(self) -> Iterator[str]:
        """Every event is signed by the key that the chain handed over to, and none is missing."""
        outbox = Outbox(self.state / "outbox.db")
        expected, signer = 1, None
        for event in outbox.held(0, 1000):
            header, payload, _ = event.token.encode().split(b".")
            kid = str(parse_object(header, "header")["kid"])
            if event.seq != expected or signer not in (None, kid):
                yield f"seq {event.seq}: signed by {kid}, expected seq {expected} by {signer}"
            ((kind, said),) = parse_object(payload, "payload")["events"].items()
            signer = said["new_jwk"]["kid"] if kind.endswith(":key:1") else kid
            expected = event.seq + 1
        outbox.close()
        if signer not in (None, self.kid()):
            yield f"the chain ends with {signer}, the board has {self.kid()}"

    def spread(self) -> bool:
        """Whether servers and broker were told what the registry says of it: keys, certificates, claims."""
        registry, folder = self.fleet.registry, Path(BrokerSettings.of(self.fleet).folder)
        listed = {
            key["kid"]: (key["last_seq"], key["revoked_at"])
            for key in json.loads((self.fleet.folder / DEVICES_FILE).read_text())["keys"]
        }
        keys = {key.kid: (key.last_seq, key.revoked_s) for key in registry.device_keys(self.device)}
        revoked = {c.serial for c in registry.certificates(self.device) if c.revoked_s is not None}
        passwords = (folder / "claims.passwd").read_text("ascii")
        return (
            {kid: listed.get(kid) for kid in keys} == keys
            and revoked <= _revoked_serials((folder / "crl.pem").read_text("ascii"))
            and not any(f"{claim.claim}:" in passwords for claim in registry.claims(self.device))
        )


def _kid_of(certificates: str) -> str:
    public = x509.load_pem_x509_certificate(certificates.encode()).public_key()
    return thumbprint(jwk_of(public))  # type: ignore[arg-type]  # ours are P-256


_END_OF_LIST = "-----END X509 CRL-----\n"


def _revoked_serials(lists: str) -> set[int]:
    """Of all the lists in a file: in a handover each of the two authorities has one."""
    parts = [part + _END_OF_LIST for part in lists.split(_END_OF_LIST) if part.strip()]
    return {entry.serial_number for part in parts for entry in x509.load_pem_x509_crl(part.encode("ascii"))}
