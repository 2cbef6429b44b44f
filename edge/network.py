"""paho's client with the two things that it does not look after: its own end, and the size of what comes.

Its thread ends without a word where handling a packet raises (a topic that is no UTF-8 does), and what was
sent then waits for answers that nobody reads. And the largest packet that it takes is told to the broker but
not held against it: one that claims 256 MB would be read into memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

MAX_PACKET_BYTES = 4 * 1024 * 1024
"""Twice the largest that anybody here asks for. What is larger than was asked for and smaller than this is read
and left out, so that a broker that is merely careless still takes events."""


class Network(mqtt.Client):
    """An MQTT 5 client; `failed` is told why a connection is given up, where it was an error.

    It connects once, or again and again where `reconnects`.
    """

    def __init__(
        self,
        client_id: str,
        failed: Callable[[str], None],
        *,
        manual_ack: bool = False,
        reconnects: bool = False,
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=reconnects,
            manual_ack=manual_ack,
        )
        self._failed = failed
        self._reconnects = reconnects

    def loop_forever(self, *arguments: Any, **settings: Any) -> MQTTErrorCode:
        """What paho's thread does until the connection is over, or as long as the client lives."""
        while True:
            try:
                return super().loop_forever(*arguments, **settings)
            except Exception as error:  # noqa: BLE001 - whatever it was, the connection is of no use any more
                if (socket := self.socket()) is not None:
                    socket.close()  # nothing that the peer goes on to send is kept for anybody
                self._failed(f"it sent what cannot be read: {error}")
            if not self._reconnects:
                return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _sock_recv(self, bufsize: int) -> bytes:
        """Called with what is missing of a packet, so first with all of it."""
        if bufsize > MAX_PACKET_BYTES:
            raise _TooLarge(f"a packet of {bufsize} bytes, where at most {MAX_PACKET_BYTES} are taken")
        return super()._sock_recv(bufsize)


class _TooLarge(Exception):
    """Not an OSError, which paho would call a lost connection."""


def topic_of(message: mqtt.MQTTMessage) -> str:
    """A message's topic, or what nobody here takes; paho raises where it is no UTF-8, and it would come again."""
    try:
        return message.topic
    except UnicodeDecodeError:
        return "(not UTF-8)"
