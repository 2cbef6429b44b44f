"""TLS with the broker, for boards and servers: what is looked at before a word is said, and how a refusal is heard."""

from __future__ import annotations

import select
import ssl

REFUSED_CERTIFICATE_S = 0.5
"""How long a refusal may take to arrive after the handshake; on a local network a few milliseconds."""


class Stranger(ssl.SSLError):
    """The other side is well-formed, and not the one that we look for."""


SPEAKS_FIRST = "it speaks first, as no MQTT broker does"


class TlsSocket(ssl.SSLSocket):
    """Closes itself when its handshake fails, because paho then forgets it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
            self.look()
        except BaseException:
            self.close()
            raise

    def look(self) -> None:
        """What else must be so before a word is said; raises ssl.SSLError where it is not."""


class Judged(TlsSocket):
    """Waits until the broker has judged our certificate.

    In TLS 1.3 our side is done before the broker has looked at it (RFC 8446, section 4.4.2.4 and appendix D). Who
    writes at once may find the connection reset, and never reads why; so a moment is waited for the first record,
    which is a session ticket or the refusal.
    """

    def look(self) -> None:
        poll, timeout_s = select.poll(), self.gettimeout()
        poll.register(self, select.POLLIN)
        if self.version() != "TLSv1.3" or not poll.poll(REFUSED_CERTIFICATE_S * 1000):
            return
        self.setblocking(False)
        try:
            if self.recv(1):
                raise Stranger(SPEAKS_FIRST)
        except ssl.SSLWantReadError:
            pass  # a ticket: we are let in
        finally:
            self.settimeout(timeout_s)
