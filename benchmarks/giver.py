"""Gives receipts and does nothing else: nothing is verified or stored. Beside it shows what a board alone can do.

Run as a process of its own by `benchmarks.outbox`, so that it shares no interpreter with the board.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.crowd_site import Site, authority_file, certified
from edge.trust.identity import load_signing_key, write_signing_key
from edge.trust.jws import parse_object, sign, token_hash
from edge.trust.receipts import RECEIPT_TYP, central_urn, receipt_claims

NAME = "central-1"
EVERY_S = 0.03
"""Between two receipts, while there is anything new: well within the 100 ms that a server has."""

READY = "ready\n"


class Covered:
    """How far the one board's chain has come in order."""

    def __init__(self) -> None:
        self.last = (0, "", "")
        """Seq, chain and token; replaced as a whole, since another thread reads it."""

    def take(self, token: str) -> None:
        """An event; what does not follow is passed over, and must come again."""
        ((_, event),) = parse_object(token.split(".")[1].encode(), "payload")["events"].items()
        if event["seq"] == self.last[0] + 1:
            self.last = (event["seq"], event["chain"], token)


@contextmanager
def giving(site: Site, device: str, url: str) -> Iterator[None]:
    """Receipts for this board, from a process of their own, until the end."""
    pair, key = certified(site, NAME), site.folder / "receipt.pem"
    write_signing_key(key, site.fleet.signing_key("receipt"))
    files = (authority_file(site), pair.certificate, pair.key, key)
    command = (sys.executable, "-m", "benchmarks.giver", url, device, *map(str, files))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != READY:
            raise RuntimeError("the giver of receipts did not start")
        try:
            yield
        finally:
            process.kill()


def main(url: str, device: str, authority: str, certificate: str, key: str, receipt_key: str) -> None:
    """Never ends by itself."""
    covered, subscribed = Covered(), threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=NAME, protocol=mqtt.MQTTv5)
    client.on_message = lambda client, userdata, message: covered.take(bytes(message.payload).decode())
    client.on_subscribe = lambda *_: subscribed.set()
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(certificate, key)
    client.tls_set_context(context)
    address = urlsplit(url)
    client.connect(address.hostname or "", address.port or 0)
    client.loop_start()
    client.subscribe("hadir/v1/+/up/event", 1)
    subscribed.wait()
    print(READY, end="", flush=True)
    signing, given = load_signing_key(Path(receipt_key)), 0
    while True:
        time.sleep(EVERY_S)
        seq, chain, token = covered.last
        if seq > given:
            given = seq
            claims = receipt_claims(
                central_urn(NAME), device, int(time.time()), chain=chain, seq=seq, head_hash=token_hash(token)
            )
            receipt = sign(claims, signing, RECEIPT_TYP).compact
            client.publish(f"hadir/v1/{device}/down/receipt", receipt, qos=1, retain=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
