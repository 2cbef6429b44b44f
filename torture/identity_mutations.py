"""Errors to build into boards, desk and administrator, each of which `torture.identity` must find.

A mutation changes the modules of the process that calls it, before the program begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge import claim_cli
from edge.board.clock import Clock
from edge.claiming import Answer, Places
from edge.files import point_durably
from edge.trust.admission import Admission
from edge.trust.claim import Claim
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey
from edge.trust.store import CERTIFICATE_FILE, CURRENT, KEY_FILE, SEALING_FILE, Identity, IdentityStore
from edge.uplink import succession
from edge.uplink.outbox import Outbox
from provisioning import claims, serve
from provisioning import handover as handovers
from provisioning.authority import Role, moment
from provisioning.claims import Listener, Outcome, Received
from provisioning.entries import Claim as Known
from provisioning.entries import ClaimState
from provisioning.fleet import CA, NEXT, ROOT, Fleet
from provisioning.handover import Handover
from provisioning.serve import Desk


def activate_before_staged() -> None:
    """The link changes as soon as there is a certificate; keys documents and authorities come after it."""
    put = Identity.put_certificate

    def taken_up_at_once(self: Identity, chain: tuple[str, ...]) -> None:
        put(self, chain)
        point_durably(self.folder.parent / CURRENT, self.name)

    Identity.put_certificate = taken_up_at_once  # type: ignore[method-assign]


def keys_not_synced() -> None:
    """Keys die with the process that made them, as a power cut takes what was not synced before the board asked."""
    begin = IdentityStore.begin

    def anew(self: IdentityStore, name: str, sealing_key: X25519PrivateKey | None = None) -> Identity:
        identity = self.named(name)
        if not (identity.folder / CERTIFICATE_FILE).exists():
            for file in (KEY_FILE, SEALING_FILE):
                (identity.folder / file).unlink(missing_ok=True)
        return begin(self, name, sealing_key)

    IdentityStore.begin = anew  # type: ignore[method-assign]


def claim_deleted_before_used() -> None:
    """The claim goes as soon as its answer is there, and not once the identity is in use."""
    become = claim_cli._become

    def forgetful(places: Places, claim: Claim, answer: Answer, claim_file: Path | None) -> None:
        def answered(*asked: Any) -> Admission | None:
            admission = answer(*asked)
            for path in (places.claim, claim_file):
                if path is not None and admission is not None:
                    path.unlink(missing_ok=True)
            return admission

        become(places, claim, answered, claim_file)

    claim_cli._become = forgetful


def predecessor_kept() -> None:
    """Nobody removes the identity before where a power cut left it behind."""
    IdentityStore.drop_predecessor = lambda self: None  # type: ignore[method-assign]


def activate_before_handing_over() -> None:
    """The next identity is in use before the old key's last token is in the chain."""
    hand_over = succession._hand_over

    def late(successor: Identity, outbox: Outbox, old: DeviceIdentity, new: SigningKey, clock: Clock) -> None:
        IdentityStore(successor.folder.parent.parent, successor.kek).activate(successor)
        hand_over(successor, outbox, old, new, clock)

    succession._hand_over = late


def certify_again() -> None:
    """Whoever asks again is certified again: a second serial number for one claim."""
    receive = claims.receive_request

    def certifying(fleet: Fleet, claim_id: str, content: bytes, now_s: int) -> Received:
        received = receive(fleet, claim_id, content, now_s)
        device = received.claim.device
        if received.outcome is Outcome.ANSWERED:
            first = x509.load_pem_x509_certificate(fleet.registry.certificates(device)[-1].pem.encode())
            public: Any = first.public_key()  # P-256, as all of ours
            second = fleet.authority().issue_device(public, device, moment(now_s))
            with fleet.change("certify-again", device, now_s=now_s) as change:
                change.add_certificate(second, Role.DEVICE, device)
        return received

    serve.receive_request = certifying  # type: ignore[attr-defined]


def used_up_at_approval() -> None:
    """A claim counts as used once it is approved, and not once its board was seen."""
    approve = claims.approve

    def hasty(fleet: Fleet, claim_id: str, *, listener: Listener, now_s: int) -> Known:
        approved = approve(fleet, claim_id, listener=listener, now_s=now_s)
        with fleet.change("hasty", approved.device, now_s=now_s) as change:
            change.update_claim(claim_id, ClaimState.USED, used_s=now_s)
        return approved

    serve.approve = hasty  # type: ignore[attr-defined]


def files_not_owed() -> None:
    """Whoever sits down at the desk leaves unwritten what whoever died there had not written."""
    run = Desk.run

    def careless(self: Desk, stop: Callable[[], bool]) -> None:
        self._owing = False
        run(self, stop)

    Desk.run = careless  # type: ignore[method-assign]


def next_keys_anew() -> None:
    """A change of the fleet's keys that is begun again makes other keys than those that were announced."""
    make = handovers._make_next

    def anew(fleet: Fleet, handover: Handover) -> None:
        for folder in (fleet.store.path(ROOT, offline=True).parent, fleet.store.path(CA).parent):
            for path in folder.glob(f"{NEXT}*"):
                path.unlink()
        make(fleet, handover)

    handovers._make_next = anew


MUTATIONS: Mapping[str, Callable[[], None]] = {
    "activate-before-staged": activate_before_staged,
    "keys-not-synced": keys_not_synced,
    "claim-deleted-before-used": claim_deleted_before_used,
    "predecessor-kept": predecessor_kept,
    "activate-before-handing-over": activate_before_handing_over,
    "certify-again": certify_again,
    "used-up-at-approval": used_up_at_approval,
    "files-not-owed": files_not_owed,
    "next-keys-anew": next_keys_anew,
}
