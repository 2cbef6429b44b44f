"""The fleet's revocation list as a board holds it: the broker's list that decides about this board.

Mosquitto asks the list of whoever issued a certificate, and lets nobody in once that has ended
(RFC 5280, section 5). A board cannot see the broker's files, so it is told: what comes down is
the list that the fleet issued last. It proves itself: the authority that issued this board's own
certificate signed it, and that one comes from an authority of the keys document. Nothing is
decided by it; it is there so that a board can say in time that every door will be locked out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from edge.errors import Refusal, TokenRefused
from edge.files import read_bounded
from edge.trust.admission import check_chain, issued_by

FILE = "crl.pem"
"""In the state folder."""

MAX_LISTS = 2
"""During a change of the fleet's keys there are two authorities."""
MAX_LISTS_BYTES = 128 * 1024
"""Of all lists in PEM: some 2,500 certificates that were revoked and have not ended."""

_MAX_CHAIN_BYTES = 16 * 1024
_PEM = re.compile(rb"-----BEGIN X509 CRL-----\n[A-Za-z0-9+/=\n]+-----END X509 CRL-----\n")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.S)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A list that was verified."""

    number: int
    until: datetime
    """From then on whoever goes by it lets nobody in."""
    pem: bytes
    serials: frozenset[int] = field(repr=False)
    """Of the certificates that are let in no more."""


@dataclass(frozen=True, slots=True)
class Certified:
    """A board's certificate, and who issued it."""

    serial: int
    issuer: x509.Certificate


def certified(cert_file: Path, device: str, authorities: Sequence[str]) -> Certified:
    """Who issued a board's certificate, traced to an authority of the keys document.

    Raises:
        TokenRefused: it cannot be traced.
        OSError, ValueError: the file cannot be read.
    """
    listed = _CERTIFICATE.findall(read_bounded(cert_file, _MAX_CHAIN_BYTES).decode("ascii"))
    chain = [x509.load_pem_x509_certificate(pem.encode()) for pem in listed]
    public = chain[0].public_key() if chain else None
    check_chain(listed, public, device, authorities)
    roots = [x509.load_pem_x509_certificate(pem.encode()) for pem in authorities]
    issuer = next(one for one in (*chain[1:], *roots) if issued_by(chain[0], one))
    return Certified(chain[0].serial_number, issuer)


def verify_revocation_list(lists: bytes, issuer: x509.Certificate) -> RevocationList:
    """The one of these lists that this issuer signed. Raises TokenRefused."""
    if len(lists) > MAX_LISTS_BYTES:
        raise TokenRefused(Refusal.TOO_LARGE, f"more than {MAX_LISTS_BYTES} bytes")
    found = _PEM.findall(lists)
    if not 1 <= len(found) <= MAX_LISTS or b"".join(found) != lists:
        raise TokenRefused(Refusal.MALFORMED, f"not 1 to {MAX_LISTS} revocation lists in PEM")
    try:
        parsed = [x509.load_pem_x509_crl(pem) for pem in found]
        ours = [one for one in parsed if one.issuer == issuer.subject]
        if not ours:
            raise TokenRefused(
                Refusal.UNKNOWN_KEY, "no list of the authority that issued this board's certificate"
            )
        return _read(_signed(ours, issuer))
    except (ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise TokenRefused(Refusal.MALFORMED, "not a revocation list with a number") from error


def _signed(
    lists: Sequence[x509.CertificateRevocationList], issuer: x509.Certificate
) -> x509.CertificateRevocationList:
    """Two authorities may have one name, never one key."""
    public = issuer.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        for one in lists:
            if one.is_signature_valid(public):
                return one
    raise TokenRefused(Refusal.BAD_SIGNATURE, "the list is not signed by the authority that it names")


def _read(crl: x509.CertificateRevocationList) -> RevocationList:
    critical = [extension.oid.dotted_string for extension in crl.extensions if extension.critical]
    if critical or crl.next_update_utc is None:
        # RFC 5280, section 5.2: what is critical and not understood makes a list unusable.
        raise TokenRefused(
            Refusal.BAD_CLAIMS, f"the list is of another kind ({', '.join(critical) or 'no end'})"
        )
    return RevocationList(
        number=crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        until=crl.next_update_utc,
        pem=crl.public_bytes(Encoding.PEM),
        serials=frozenset(entry.serial_number for entry in crl),
    )


def load_revocation_list(state_dir: Path, issuer: x509.Certificate) -> RevocationList | None:
    """What this board holds; None where that is nothing.

    Raises:
        TokenRefused: it is damaged, or another authority's, as after a change of the fleet's keys.
        OSError, ValueError: it cannot be read.
    """
    path = state_dir / FILE
    if not path.exists():
        return None
    return verify_revocation_list(read_bounded(path, MAX_LISTS_BYTES), issuer)
