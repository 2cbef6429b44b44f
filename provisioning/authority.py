"""The fleet's certificate authority: a root that stays offline, an issuing one below it, and its revocation list.

Certificates govern TLS with the broker and nothing else; a token's validity comes from the
keys document and the registry. Everything is P-256 (X.509 v3, RFC 5280). All certificates
are backdated by a day, for boards whose clock is behind, and have random serial numbers of
159 bits (section 4.1.2.2), which no restored registry can give out twice.

Functions of their arguments, time included; who registers what was issued is the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.errors import InputError
from edge.trust.identity import check_device_id, device_urn

BACKDATED = timedelta(hours=24)

ROOT_LIFETIME = timedelta(days=25 * 365)
"""Longer than any board hangs at a door; it is changed by `rotate-fleet`, not by its end."""
ISSUING_LIFETIME = timedelta(days=10 * 365)
DEVICE_LIFETIME = timedelta(days=365)
"""Boards renew by themselves at two thirds of it, so that one may sleep for four months."""
SERVICE_LIFETIME = timedelta(days=2 * 365)
"""Of brokers, consumers and provisioning, which an administrator renews by running the same command again."""
EVICTION_LIFETIME = timedelta(minutes=15)
"""Of the certificate with which provisioning takes over a revoked board's session."""
CRL_LIFETIME = timedelta(days=365)
"""An expired list locks out every board."""
CRL_WARNING = timedelta(days=30)
CRL_KEEPS = timedelta(days=30)
"""How long a revoked certificate stays listed after its end, when its dates alone keep it out: by then a list that
was issued after its end has named it (RFC 5280, section 3.3). Else the list would grow for ever."""

PROVISION = "provision"
CONSUMER_PATTERN = re.compile(r"central[a-z0-9-]{0,25}")

MAX_REQUEST_BYTES = 4096
"""A P-256 certificate request has about 500."""

_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I
)
"""RFC 1123, section 2.1."""

Curve = ec.EllipticCurvePublicKey
CurvePrivate = ec.EllipticCurvePrivateKey


class Role(StrEnum):
    """Whose certificate it is; the registry stores the value."""

    DEVICE = "device"
    CONSUMER = "consumer"
    PROVISION = "provision"
    BROKER = "broker"
    EVICTION = "eviction"
    AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class Authority:
    """What signs the certificates of boards, consumers and brokers."""

    root: x509.Certificate
    certificate: x509.Certificate
    key: CurvePrivate

    @property
    def chain(self) -> str:
        """The issuing certificate in PEM: what follows a leaf in the file that TLS sends."""
        return pem(self.certificate)

    def issue_device(self, public: Curve, device: str, now: datetime) -> x509.Certificate:
        """A board's certificate; its common name becomes user name and client id at the broker. Raises InputError."""
        return self._client(public, check_device_id(device), now, DEVICE_LIFETIME, device_urn(device))

    def issue_eviction(self, public: Curve, name: str, now: datetime) -> x509.Certificate:
        """For a quarter of an hour, the right to take a revoked board's or consumer's session over."""
        if not CONSUMER_PATTERN.fullmatch(name):
            check_device_id(name)
        return self._client(public, name, now, EVICTION_LIFETIME, f"urn:hadir:{Role.EVICTION}")

    def issue_consumer(self, public: Curve, name: str, now: datetime) -> x509.Certificate:
        """A central consumer's certificate. Raises InputError where the name is not its to have."""
        return self._client(
            public, check_consumer_name(name), now, SERVICE_LIFETIME, f"urn:hadir:consumer:{name}"
        )

    def issue_provision(self, public: Curve, now: datetime) -> x509.Certificate:
        """For provisioning's own connection to the broker."""
        return self._client(public, PROVISION, now, SERVICE_LIFETIME, f"urn:hadir:{PROVISION}")

    def issue_broker(self, public: Curve, hosts: Sequence[str], now: datetime) -> x509.Certificate:
        """A broker's certificate for these host names and addresses, the first of them its common name."""
        names = [_alternative_name(host) for host in hosts]
        if not names:
            raise InputError("a broker's certificate needs a host name or address")
        return _sign(
            _leaf(
                public, self._builder(hosts[0][:64], now, SERVICE_LIFETIME), ExtendedKeyUsageOID.SERVER_AUTH
            ).add_extension(x509.SubjectAlternativeName(names), critical=False),
            self.key,
            self.certificate,
        )

    def revocation_list(
        self, revoked: Iterable[tuple[int, datetime]], number: int, now: datetime
    ) -> x509.CertificateRevocationList:
        """All serials that must not be let in; `number` only rises (RFC 5280, section 5.2.3)."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(now + CRL_LIFETIME)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_issuer_id(self.certificate), critical=False)
        )
        for serial, at in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
            )
        return builder.sign(self.key, SHA256())

    def _client(
        self, public: Curve, name: str, now: datetime, lifetime: timedelta, urn: str
    ) -> x509.Certificate:
        identifiers = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(urn)])
        return _sign(
            _leaf(public, self._builder(name, now, lifetime), ExtendedKeyUsageOID.CLIENT_AUTH).add_extension(
                identifiers, critical=False
            ),
            self.key,
            self.certificate,
        )

    def _builder(self, name: str, now: datetime, lifetime: timedelta) -> x509.CertificateBuilder:
        return _builder(_named(name), self.certificate.subject, now, lifetime)


def make_root(key: CurvePrivate, name: str, now: datetime) -> x509.Certificate:
    """The self-signed root, which issues nothing but the issuing authority."""
    builder = _builder(_named(name), _named(name), now, ROOT_LIFETIME)
    return _sign(_authority(builder, key.public_key(), path_length=1), key, None)


def make_issuing(
    root_key: CurvePrivate, root: x509.Certificate, public: Curve, name: str, now: datetime
) -> x509.Certificate:
    """The certificate of the authority that issues all others."""
    builder = _builder(_named(name), root.subject, now, ISSUING_LIFETIME)
    return _sign(_authority(builder, public, path_length=0), root_key, root)


def requested_key(request: bytes) -> Curve:
    """The public key of a certificate request (PKCS #10, RFC 2986) in DER or PEM, proven to be the sender's.

    Subject, attributes and wished-for extensions are ignored: who somebody is, a claim tells.

    Raises:
        InputError: too large, not a request, not for a P-256 key, or not signed with that key.
    """
    if len(request) > MAX_REQUEST_BYTES:
        raise InputError(f"certificate request: {len(request)} bytes, at most {MAX_REQUEST_BYTES}")
    in_pem = request.lstrip().startswith(b"-----BEGIN")
    try:
        parsed = (x509.load_pem_x509_csr if in_pem else x509.load_der_x509_csr)(request)
        public, proven = parsed.public_key(), parsed.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise InputError("certificate request: not a request that can be read") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise InputError("certificate request: its key is not P-256")
    if not proven:
        raise InputError("certificate request: not signed with the key that it is for")
    return public


def check_consumer_name(name: str) -> str:
    """The name itself. Raises InputError where it cannot be a consumer's."""
    if not CONSUMER_PATTERN.fullmatch(name):
        raise InputError(f"consumer {name!r}: must match {CONSUMER_PATTERN.pattern}, such as central-1")
    return name


def check_host(host: str) -> str:
    """The host name or address itself. Raises InputError where it is neither."""
    _alternative_name(host)
    return host


def pem(certificate: x509.Certificate | x509.CertificateRevocationList) -> str:
    """In PEM, with a line end."""
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def moment(now_s: float) -> datetime:
    """Seconds since 1970 as X.509 counts time: whole seconds, UTC."""
    return datetime.fromtimestamp(int(now_s), UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _leaf(
    public: Curve, builder: x509.CertificateBuilder, use: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    """What only shows who it is: in TLS, on one side."""
    return (
        builder.public_key(public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    )


def _authority(builder: x509.CertificateBuilder, public: Curve, path_length: int) -> x509.CertificateBuilder:
    return (
        builder.public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _sign(
    builder: x509.CertificateBuilder, key: CurvePrivate, issuer: x509.Certificate | None
) -> x509.Certificate:
    """With its issuer's key identifier (RFC 5280, section 4.2.1.1); no issuer: self-signed."""
    if issuer is not None:
        builder = builder.add_extension(_issuer_id(issuer), critical=False)
    return builder.sign(key, SHA256())


def _issuer_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        raise InputError(f"host {host!r}: neither a host name nor an address")
    return x509.DNSName(host)
