"""The broker between board and consumer: Mosquitto where it is installed, else the embedded one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from demo.broker import embedded_broker
from demo.mosquitto import mosquitto, program, version


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker."""

    name: str
    url: str


@contextmanager
def real_broker() -> Iterator[Broker]:
    """A broker that runs until the end. Raises BrokerUnavailable where it does not start."""
    path = program()
    if path is None:
        with embedded_broker() as url:
            yield Broker("iotcore (embedded)", url)
    else:
        with mosquitto(path) as url:
            yield Broker(f"Mosquitto {version(path)}", url)
