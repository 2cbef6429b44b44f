"""A fleet and boards that come to an identity: both sides for real, on files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.board.clock import Clock
from edge.claiming import Places, claim_identity, forget_claim, keep_claim, kept_claim, take_up
from edge.trust.admission import Admission
from edge.trust.claim import Claim
from edge.trust.protect import load_key_encryption_key, make_key_file
from edge.trust.seal import KeyEncryptionKey
from edge.trust.store import Identity, IdentityStore
from edge.uplink.outbox import Outbox
from provisioning.claims import Listener, Received, approve, receive_request
from provisioning.fleet import Fleet, init_fleet

NOW_S = 1_800_000_000
LISTENER = Listener("mqtts://127.0.0.1:8883", "127.0.0.1:8884", "P" * 21 + "A")
SCRYPT_N = 2**4
"""What stretches passphrases is tested elsewhere."""


def new_fleet(folder: Path) -> Fleet:
    return init_fleet(folder, site="hq", ask=lambda: "correct horse battery staple", scrypt_n=SCRYPT_N)


@dataclass(frozen=True, slots=True)
class Board:
    """The folders of one board, blank at first."""

    places: Places

    @classmethod
    def blank(cls, folder: Path) -> Board:
        folder.mkdir(parents=True)
        return cls(Places(folder / "edge.toml", folder / "state"))

    @property
    def kek(self) -> KeyEncryptionKey:
        if load_key_encryption_key(self.places.state_dir, {}) is None:
            make_key_file(self.places.state_dir)
        kek = load_key_encryption_key(self.places.state_dir, {})
        assert kek is not None
        return kek

    @property
    def store(self) -> IdentityStore:
        return IdentityStore(self.places.state_dir, self.kek)

    @property
    def current(self) -> Identity:
        current = self.store.current()
        assert current is not None
        return current

    def request(self, claim: Claim) -> bytes:
        """What this board asks under a claim."""
        asked: list[bytes] = []
        keep_claim(self.places, claim.file.encode())

        def wait(claim: Claim, request: bytes, opened: object) -> None:
            asked.append(request)

        assert claim_identity(self.places, claim, self.kek, wait) is None
        return asked[0]

    def install(self, answer: bytes) -> Identity:
        """Take an answer, as `hadir-edge install` does."""
        claim = kept_claim(self.places)
        assert claim is not None

        def opened(claim: Claim, request: bytes, opened: object) -> Admission:
            assert callable(opened)
            admission: Admission = opened(answer)
            return admission

        identity = claim_identity(self.places, claim, self.kek, opened)
        assert identity is not None
        take_up(self.places, self.store, identity, Clock())
        forget_claim(self.places)
        return identity

    def outbox(self) -> Outbox:
        return Outbox(self.places.state_dir / "outbox.db")


def ask(fleet: Fleet, board: Board, claim: Claim, now_s: int = NOW_S) -> Received:
    return receive_request(fleet, claim.id, board.request(claim), now_s)


def let_in(fleet: Fleet, board: Board, claim: Claim, now_s: int = NOW_S) -> Identity:
    """The whole way, on a stick."""
    ask(fleet, board, claim, now_s)
    answer = approve(fleet, claim.id, listener=LISTENER, now_s=now_s).response
    assert answer is not None
    return board.install(answer)
