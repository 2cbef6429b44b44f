"""Telling systemd how the daemon is, over a real socket."""

from __future__ import annotations

import socket
from pathlib import Path

from edge.board.systemd import Notifier


def test_states_arrive_at_the_managers_socket(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "30000000"})
        notifier.ready("watching")
        notifier.alive("frames=1")
        notifier.stopping()
        received = [manager.recv(1024) for _ in range(3)]
    assert received == [b"READY=1\nSTATUS=watching", b"WATCHDOG=1\nSTATUS=frames=1", b"STOPPING=1"]


def test_an_abstract_socket_is_reached_too() -> None:
    name = f"hadir-test-{id(object())}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("up")
        assert manager.recv(1024).startswith(b"READY=1")


def test_without_a_manager_nothing_happens_and_a_dead_one_does_no_harm(tmp_path: Path) -> None:
    Notifier({}).ready("up")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "soon"}).alive("up")
