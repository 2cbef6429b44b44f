"""From one signing key of a board to the next, in one chain.

`key:1` is the old key's last token and everything after it is the new key's (so says the
server, which knows either by this event alone). It is signed and committed while nothing
else can write to the outbox: by the daemon before its start event, or by a claim while the
daemon does not run. Its hash is made durable before it is committed, so that after a power
cut the chain's head tells whether it was.
"""

from __future__ import annotations

import logging

from edge.board.clock import Clock
from edge.files import unwritable, write_durably
from edge.records import ChainPosition, SignedToken
from edge.steps import IdentityStep, reached
from edge.trust.events import key_claims
from edge.trust.identity import DeviceIdentity
from edge.trust.jws import SigningKey, sign
from edge.trust.store import ROTATED, Identity, IdentityStore
from edge.trust.tokens import BOARD_TYPS, EVENT_TYP
from edge.uplink.outbox import Outbox

log = logging.getLogger(__name__)


def succeed(
    store: IdentityStore, successor: Identity, outbox: Outbox, old: DeviceIdentity, clock: Clock
) -> SigningKey:
    """Hand the chain over and change to the new identity; its key. Whatever was done before a power cut is kept.

    Raises:
        KeyFileError: the new key cannot be read; nothing is changed then.
        CannotRecord: something cannot be written.
    """
    new = successor.signing_key()
    current = store.current()
    if current is not None and successor.name.startswith(ROTATED):
        successor.take_keys_of(current)  # which may have got a newer document since the new key was certified
    head = outbox.head()
    if head.seq > 0 and not _handed_over(successor, head.hash):
        _hand_over(successor, outbox, old, new, clock)
    reached(IdentityStep.SUCCESSION_COMMITTED)
    store.activate(successor)
    store.clean()
    log.info("this board's key is %s from now on; %s is its predecessor", new.kid, old.key.kid)
    return new


def _handed_over(successor: Identity, head_hash: str | None) -> bool:
    try:
        return successor.succession.read_text(encoding="ascii") == head_hash
    except FileNotFoundError:
        return False


def _hand_over(
    successor: Identity, outbox: Outbox, old: DeviceIdentity, new: SigningKey, clock: Clock
) -> None:
    made = clock.read()

    def signed(position: ChainPosition) -> SignedToken:
        claims = key_claims(old, position, made, new.verification_key(BOARD_TYPS))
        token = sign(claims, old.key, EVENT_TYP)
        try:
            write_durably(successor.succession, token.hash.encode("ascii"))
        except OSError as error:
            raise unwritable(str(successor.succession), error) from error
        reached(IdentityStep.SUCCESSION_SIGNED)
        return token

    outbox.append(signed, made.real_ms)
