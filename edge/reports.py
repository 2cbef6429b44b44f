"""What a board says of itself, retained as its status and every minute as its health."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge import __version__
from edge.board.clock import Clock
from edge.board.health import read_memory, read_space, read_temperatures, read_throttling
from edge.trust.identity import DeviceIdentity
from edge.uplink.outbox import Outbox
from edge.uplink.session import State
from edge.uplink.status import Loaded, signed_head, status_payload
from edge.uplink.troubles import Troubles


@dataclass(slots=True)
class Reports:
    """Makes the payloads. Whoever counts or measures something adds it here."""

    identity: DeviceIdentity
    clock: Clock
    outbox: Outbox
    troubles: Troubles
    loaded: Callable[[], Loaded]
    counters: Counter[str] = field(default_factory=Counter)
    """Since the start of the daemon."""
    gauges: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """Asked for each report; what returns None is left out."""

    def status(self, state: State, conn: int) -> bytes:
        """The payload of `up/status`: birth, will and goodbye."""
        return status_payload(
            self.identity,
            self.clock.read(),
            self.outbox.head(),
            state,
            conn,
            self.loaded(),
            self.troubles.names(),
        )

    def health(self) -> bytes:
        """The payload of `up/health`."""
        now = self.clock.read()
        return _json(
            {
                "boot": now.boot,
                "mono_ms": now.mono_ms,
                "real_ms": now.real_ms,
                "clock": now.state,
                **({} if now.err_ms is None else {"err_ms": now.err_ms}),
                "version": __version__,
                "troubles": self.troubles.names(),
                "counters": dict(sorted(dict(self.counters).items())),
                "gauges": self._gauges(),
                "head": signed_head(self.identity, now, self.outbox.head()),
            }
        )

    def _gauges(self) -> dict[str, Any]:
        space, memory, throttling = self.outbox.space(), read_memory(), read_throttling()
        own = {
            "waiting": space.waiting,
            "archived": space.archived,
            "outbox_bytes": space.used_bytes,
            "disk_free_bytes": read_space(self.outbox.path.parent).free_bytes,
            "memory_available_bytes": None if memory is None else memory.available_bytes,
            "temperature_c": max((zone.celsius for zone in read_temperatures()), default=None),
            "throttled": None if throttling is None else int(throttling),
        }
        others = {name: ask() for name, ask in self.gauges.items()}
        return {name: value for name, value in (own | others).items() if value is not None}


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
