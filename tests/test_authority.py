"""Certificates: who may be what, for how long, and which requests are refused."""

from __future__ import annotations

import contextlib
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import InputError
from provisioning.authority import (
    BACKDATED,
    CRL_LIFETIME,
    DEVICE_LIFETIME,
    EVICTION_LIFETIME,
    MAX_REQUEST_BYTES,
    SERVICE_LIFETIME,
    moment,
    pem,
    requested_key,
)
from tests.certificates import new_authority

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PUBLIC = ec.generate_private_key(ec.SECP256R1()).public_key()


AUTHORITY = new_authority("test issuing", NOW)


def common_name(certificate: x509.Certificate) -> object:
    (attribute,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return attribute.value


def uses(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def is_authority(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_boards_certificate_names_it_and_is_for_clients_only() -> None:
    certificate = AUTHORITY.issue_device(PUBLIC, "door-01", NOW)
    assert common_name(certificate) == "door-01"
    assert uses(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not is_authority(certificate)
    assert certificate.public_key() == PUBLIC
    certificate.verify_directly_issued_by(AUTHORITY.certificate)
    AUTHORITY.certificate.verify_directly_issued_by(AUTHORITY.root)


def test_every_certificate_is_backdated_by_a_day_and_ends_when_its_kind_ends() -> None:
    for certificate, lifetime in (
        (AUTHORITY.issue_device(PUBLIC, "door-01", NOW), DEVICE_LIFETIME),
        (AUTHORITY.issue_eviction(PUBLIC, "door-01", NOW), EVICTION_LIFETIME),
        (AUTHORITY.issue_consumer(PUBLIC, "central-1", NOW), SERVICE_LIFETIME),
        (AUTHORITY.issue_provision(PUBLIC, NOW), SERVICE_LIFETIME),
        (AUTHORITY.issue_broker(PUBLIC, ["broker.local"], NOW), SERVICE_LIFETIME),
    ):
        assert certificate.not_valid_before_utc == NOW - BACKDATED
        assert certificate.not_valid_after_utc == NOW + lifetime
    for certificate in (AUTHORITY.root, AUTHORITY.certificate):
        assert certificate.not_valid_before_utc == NOW - timedelta(hours=24)


def test_a_brokers_certificate_is_for_its_hosts_and_addresses_and_for_servers_only() -> None:
    certificate = AUTHORITY.issue_broker(PUBLIC, ["broker.local", "192.0.2.7", "2001:db8::1"], NOW)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.local"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "2001:db8::1"]
    assert uses(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    "host", ["", "a b", "host/path", "*.example.org", "-x", "x" * 64, "user@host", "ä.example"]
)
def test_what_is_no_host_gets_no_certificate(host: str) -> None:
    with pytest.raises(InputError, match="neither a host name nor an address"):
        AUTHORITY.issue_broker(PUBLIC, [host], NOW)


def test_a_broker_without_a_host_gets_no_certificate() -> None:
    with pytest.raises(InputError, match="needs a host name"):
        AUTHORITY.issue_broker(PUBLIC, [], NOW)


@pytest.mark.parametrize("device", ["central-1", "provision", "claim", "", "Door", "a/b", "#", "+", "d\n"])
def test_no_board_gets_a_certificate_of_a_name_that_is_not_a_boards(device: str) -> None:
    with pytest.raises(InputError, match="device id"):
        AUTHORITY.issue_device(PUBLIC, device, NOW)
    if device != "central-1":  # whose session may have to be taken over as well
        with pytest.raises(InputError, match="device id"):
            AUTHORITY.issue_eviction(PUBLIC, device, NOW)


@pytest.mark.parametrize("name", ["door-01", "provision", "", "Central", "central_1", "central\n", "c" * 40])
def test_no_consumer_gets_a_certificate_of_a_name_that_is_not_a_consumers(name: str) -> None:
    with pytest.raises(InputError, match="consumer"):
        AUTHORITY.issue_consumer(PUBLIC, name, NOW)


def test_no_two_certificates_share_a_serial_number() -> None:
    serials = {AUTHORITY.issue_device(PUBLIC, "door-01", NOW).serial_number for _ in range(50)}
    assert len(serials) == 50
    assert min(serials).bit_length() > 100, "random enough that a restored registry cannot repeat one"


def test_openssl_believes_the_chain_from_leaf_to_root() -> None:
    """What Python's ssl, which boards use, takes as trust anchor."""
    context = ssl.create_default_context(cadata=pem(AUTHORITY.root))
    assert context.cert_store_stats()["x509_ca"] == 1


def test_the_revocation_list_names_serials_and_lasts_a_year() -> None:
    crl = AUTHORITY.revocation_list([(17, NOW), (23, NOW)], 4, NOW)
    assert {entry.serial_number for entry in crl} == {17, 23}
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 4
    assert crl.next_update_utc == NOW + CRL_LIFETIME
    assert crl.issuer == AUTHORITY.certificate.subject
    assert crl.is_signature_valid(AUTHORITY.key.public_key())


def test_time_is_whole_seconds_in_utc() -> None:
    assert moment(1_764_000_000.9) == datetime(2025, 11, 24, 16, tzinfo=UTC)


def request(key: object, name: str = "door-01", encoding: Encoding = Encoding.DER) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, algorithm).public_bytes(encoding)  # type: ignore[arg-type]


KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_a_request_gives_its_key_and_nothing_else(encoding: Encoding) -> None:
    assert requested_key(request(KEY, encoding=encoding)) == KEY.public_key()


@pytest.mark.parametrize("name", ["central-1", "provision", "door-99", "#"])
def test_the_name_that_a_request_wishes_for_is_ignored(name: str) -> None:
    certificate = AUTHORITY.issue_device(requested_key(request(KEY, name)), "door-01", NOW)
    assert common_name(certificate) == "door-01"


def test_a_request_that_wishes_to_be_an_authority_becomes_none() -> None:
    wish = x509.BasicConstraints(ca=True, path_length=None)
    names = x509.SubjectAlternativeName([x509.DNSName("broker.local")])
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(wish, critical=True)
        .add_extension(names, critical=False)
        .sign(KEY, SHA256())
        .public_bytes(Encoding.DER)
    )
    certificate = AUTHORITY.issue_device(requested_key(greedy), "door-01", NOW)
    assert not is_authority(certificate)
    assert b"broker.local" not in certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "not P-256"),
        (rsa.generate_private_key(65537, 2048), "not P-256"),
        (ec.generate_private_key(ec.SECP384R1()), "not P-256"),
    ],
    ids=["Ed25519", "RSA", "P-384"],
)
def test_a_request_for_another_kind_of_key_is_refused(key: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        requested_key(request(key))


def test_a_request_that_somebody_else_signed_is_refused() -> None:
    """Otherwise a thief could have somebody else's public key certified as his board's."""
    good, other = request(KEY), request(ec.generate_private_key(ec.SECP256R1()))
    mixed = good[: -len(other) + len(other) - 64] + other[-64:]
    with pytest.raises(InputError, match="certificate request"):
        requested_key(mixed)


def test_a_request_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(InputError, match=f"at most {MAX_REQUEST_BYTES}"):
        requested_key(b"\x30" * (MAX_REQUEST_BYTES + 1))


@given(st.binary(max_size=600))
def test_noise_is_no_request(noise: bytes) -> None:
    with pytest.raises(InputError):
        requested_key(noise)


@given(st.integers(0, 400), st.integers(1, 255))
def test_no_altered_request_gives_another_key(position: int, change: int) -> None:
    """Either refused, or the change was where nothing is read."""
    altered = bytearray(request(KEY))
    altered[position % len(altered)] ^= change
    with contextlib.suppress(InputError):
        assert requested_key(bytes(altered)) == KEY.public_key()
