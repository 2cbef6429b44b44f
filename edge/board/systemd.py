"""Telling systemd how the daemon is: sd_notify(3) in a few lines, over the real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states to the service manager; does nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the abstract namespace's zero byte (sd_notify(3)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = _microseconds(environment.get("WATCHDOG_USEC", "")) / 1e6

    def ready(self, status: str) -> None:
        """Start-up is complete."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Every loop has shown progress since the last call."""
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Shut-down has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(1.0)
            try:
                channel.sendto(message.encode(), self._address)
            except OSError:
                # The manager went away or is busy; the watchdog then judges by silence, as it should.
                return


def _microseconds(text: str) -> int:
    return int(text) if text.isdigit() else 0
