"""What every board is to hold, retained at the broker: the keys document, and the revocation list for its check.

Boards take both as soon as they connect, so handing out needs the broker and no board. A list
is issued at every change of a board, and what it says to the others is until when it is good:
so boards get the newest when somebody comes to the desk, and then once an hour at most.
"""

from __future__ import annotations

import logging
from datetime import datetime

from cryptography import x509

from edge.errors import KeyFileError, PublishDenied
from edge.files import read_bounded, write_durably
from edge.trust.fleetkeys import MAX_TRAIL_BYTES
from edge.trust.revocations import MAX_LISTS_BYTES
from edge.uplink.client import Client
from provisioning.broker import TOPICS
from provisioning.fleet import KEYS_FILE, Fleet

log = logging.getLogger(__name__)

LISTS = "crl.pem"
HANDED_OUT = "crl-of-boards.pem"
"""In `ca/`: the broker's list, and the one that boards were given last."""

LISTS_S = 3600.0
"""How often to look for a newer list while somebody is at the desk."""


class Handout:
    """What one connection has published to each board."""

    def __init__(self, fleet: Fleet, client: Client) -> None:
        self._fleet = fleet
        self._client = client
        self._published: dict[tuple[str, str], bytes] = {}
        self._lists: bytes | None = None
        self._next_lists_s = 0.0

    def look(self, monotonic_s: float) -> bool:
        """Publish what a board has not the newest of; whether every board has a list now. Raises BrokerUnavailable."""
        self._to_everybody("keys", read_bounded(self._fleet.folder / KEYS_FILE, MAX_TRAIL_BYTES))
        if monotonic_s >= self._next_lists_s:
            self._next_lists_s = monotonic_s + LISTS_S
            self._lists = _lists(self._fleet)
        if self._lists is None:
            return False
        try:
            self._to_everybody("crl", self._lists)
        except PublishDenied as error:
            self._lists = None
            log.warning(
                "boards do not get the revocation list (down/crl): %s: run `hadir-provision broker`, and see that the "
                "broker gets devices.acl",
                error,
            )
            return False
        return True

    def _to_everybody(self, topic: str, content: bytes) -> None:
        boards = [device.device for device in self._fleet.active_devices()]
        lacking = [board for board in boards if self._published.get((board, topic)) != content]
        # All at once: a broker that is far away answers each of three hundred as late as one.
        sent = [
            self._client.send(f"{TOPICS}/{board}/down/{topic}", content, retain=True) for board in lacking
        ]
        self._client.settle(sent)
        self._published |= {(board, topic): content for board in lacking}
        if lacking and topic == "crl":
            write_durably(self._fleet.folder / "ca" / HANDED_OUT, content, 0o644)


def _lists(fleet: Fleet) -> bytes | None:
    """Those of the broker; None where a board would not take them."""
    path = fleet.folder / "ca" / LISTS
    try:
        return read_bounded(path, MAX_LISTS_BYTES)
    except (OSError, ValueError) as error:
        log.warning("%s: not handed to boards: %s", path, error)
        return None


def end_of(fleet: Fleet, name: str) -> datetime:
    """When a list of `ca/` ends. Raises KeyFileError where it cannot be read."""
    path = fleet.folder / "ca" / name
    try:
        end = x509.load_pem_x509_crl(read_bounded(path, _MAX_CRL_BYTES)).next_update_utc
        if end is None:
            raise ValueError("a list without an end is none of ours")
        return end
    except (OSError, ValueError) as error:
        raise KeyFileError(
            f"{path}: the revocation list cannot be read; run `hadir-provision broker`"
        ) from error


_MAX_CRL_BYTES = 16 * 1024**2
