"""What is signed is verified, and nothing else: fixed vectors, and every way past that is known."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import KeyFileError, Refusal, TokenRefused
from edge.trust.jws import (
    MAX_DEPTH,
    MAX_TOKEN_BYTES,
    SigningKey,
    VerificationKey,
    decode_base64url,
    encode_base64url,
    jwk_of,
    key_from_jwk,
    parse_object,
    sign,
    thumbprint,
    token_hash,
    verify,
)

TYP = "secevent+jwt"
USE = frozenset({TYP})
CLAIMS = {"iss": "urn:hadir:device:door-01", "seq": 1837}

EC_PRIVATE = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
EC_JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
"""RFC 7515, appendix A.3.1."""
EC_THUMBPRINT = "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"
EC_TOKEN = (
    "eyJhbGciOiJFUzI1NiIsImtpZCI6Im9LSXl3dkdVcFRWVHl4TVEzYndJSWVRVXVkZnJfQ2tMTWpDRTE5RUNELVUiLCJ0eXAiOiJzZWNl"
    "dmVudCtqd3QifQ.eyJpc3MiOiJ1cm46aGFkaXI6ZGV2aWNlOmRvb3ItMDEiLCJzZXEiOjE4Mzd9.UyMWllNU7NMDEIFweOQWZaY4wzrS"
    "-ncUhH37oGatRbtVZoxHh6Vdwnpq3oIuuBzB3C-5EnxoB78uV5nsDAQTSA"
)
EC_HASH = "J3ixn4Vb5az9mt_KbJFoZmvBYyJ2ravaeX3HyUC2CZI"

ED_PRIVATE = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
ED_JWK = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
"""RFC 8037, appendices A.1 and A.2."""
ED_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
"""RFC 8037, appendix A.3."""
ED_TOKEN = (
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImtQcktfcW14VldhWVZBOXd3QkY2SXVvM3ZWeno3VHhIQ1R3WEJ5Z3JTNGsiLCJ0eXAiOiJzZWNl"
    "dmVudCtqd3QifQ.eyJpc3MiOiJ1cm46aGFkaXI6ZGV2aWNlOmRvb3ItMDEiLCJzZXEiOjE4Mzd9.aP1Je5ov-sxo56kM5XQuu-SEDQSI"
    "HyVeZaQvUxJArZw-ny25E-z2c5saoinuXDCbhxTtqKGyfGuKjm64pRX2DA"
)
ED_HASH = "Ha1oe6kUwei6b4RorvXSxZcz9BZbAtuJLFXCcnJd2LQ"

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

EC_KEY = SigningKey.of(
    ec.derive_private_key(int.from_bytes(decode_base64url(EC_PRIVATE.encode()), "big"), ec.SECP256R1())
)
ED_KEY = SigningKey.of(ed25519.Ed25519PrivateKey.from_private_bytes(decode_base64url(ED_PRIVATE.encode())))
KEYS = {key.kid: key.verification_key(USE) for key in (EC_KEY, ED_KEY)}


def part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return encode_base64url(text)


def signed(header: object, payload: object = CLAIMS, key: SigningKey = EC_KEY) -> str:
    """A token with a good signature over whatever header and payload, so that only the rule under test can refuse."""
    signing_input = f"{part(header)}.{part(payload)}"
    return f"{signing_input}.{encode_base64url(raw_signature(signing_input.encode(), key))}"


def raw_signature(signing_input: bytes, key: SigningKey) -> bytes:
    """RFC 7518, section 3.4, and RFC 8037, section 3.1: made without the library that verifies."""
    if isinstance(key.private, ed25519.Ed25519PrivateKey):
        return key.private.sign(signing_input)
    r, s = decode_dss_signature(key.private.sign(signing_input, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def header(**changes: object) -> dict[str, object]:
    return {"alg": "ES256", "kid": EC_KEY.kid, "typ": TYP} | changes


def refusal(token: str | bytes, typ: str = TYP, keys: dict[str, VerificationKey] = KEYS) -> Refusal:
    with pytest.raises(TokenRefused) as refused:
        verify(token, typ, keys)
    return refused.value.reason


@pytest.mark.parametrize(
    ("token", "token_hash_", "kid"),
    [(EC_TOKEN, EC_HASH, EC_THUMBPRINT), (ED_TOKEN, ED_HASH, ED_THUMBPRINT)],
    ids=["ES256", "EdDSA"],
)
def test_a_known_token_verifies_and_has_its_known_hash(token: str, token_hash_: str, kid: str) -> None:
    public = {key.kid: key for key in (key_from_jwk(EC_JWK, USE), key_from_jwk(ED_JWK, USE))}
    for form in (token, token.encode()):
        verified = verify(form, TYP, public)
        assert (verified.claims, verified.kid, verified.hash) == (CLAIMS, kid, token_hash_)


def test_signing_gives_the_known_bytes() -> None:
    """Boards and servers of different versions must agree on the hash, so the signing input may not drift."""
    made = sign(CLAIMS, EC_KEY, TYP)
    assert made.compact.rpartition(".")[0] == EC_TOKEN.rpartition(".")[0]
    assert made.hash == EC_HASH
    assert sign(CLAIMS, ED_KEY, TYP).compact == ED_TOKEN, "Ed25519 is deterministic (RFC 8032)"


def test_the_hash_is_sha256_of_what_was_signed() -> None:
    digest = hashlib.sha256(EC_TOKEN.rpartition(".")[0].encode()).digest()
    assert token_hash(EC_TOKEN) == encode_base64url(digest) == EC_HASH


def test_a_key_is_named_by_its_rfc_7638_thumbprint() -> None:
    assert thumbprint(ED_JWK) == ED_KEY.kid == ED_THUMBPRINT
    assert thumbprint(EC_JWK) == EC_KEY.kid == EC_THUMBPRINT
    assert thumbprint(EC_JWK | {"kid": "x", "use": "sig"}) == EC_THUMBPRINT, "other members do not count"


def test_a_key_survives_its_jwk() -> None:
    for key, known in ((EC_KEY, EC_JWK), (ED_KEY, ED_JWK)):
        assert key.public_jwk == known | {"kid": key.kid}
        assert jwk_of(key_from_jwk(key.public_jwk, USE).public) == known


def test_a_signature_made_elsewhere_verifies() -> None:
    for key, algorithm in ((EC_KEY, "ES256"), (ED_KEY, "EdDSA")):
        token = signed({"alg": algorithm, "kid": key.kid, "typ": TYP}, key=key)
        assert verify(token, TYP, KEYS).claims == CLAIMS


def test_a_malleated_signature_still_verifies_and_has_the_same_hash() -> None:
    """ECDSA: (r, n - s) is as good as (r, s). Whoever compared whole tokens would see a fork."""
    signing_input, _, signature = EC_TOKEN.rpartition(".")
    raw = decode_base64url(signature.encode())
    other = (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    malleated = f"{signing_input}.{encode_base64url(raw[:32] + other)}"
    assert malleated != EC_TOKEN
    assert verify(malleated, TYP, KEYS).hash == EC_HASH


def test_too_large_is_refused_before_anything_is_read() -> None:
    assert refusal(b"\xff" * (MAX_TOKEN_BYTES + 1)) is Refusal.TOO_LARGE
    with pytest.raises(TokenRefused) as refused:
        verify(EC_TOKEN, TYP, KEYS, max_bytes=len(EC_TOKEN) - 1)
    assert refused.value.reason is Refusal.TOO_LARGE
    assert verify(EC_TOKEN, TYP, KEYS, max_bytes=len(EC_TOKEN)).claims == CLAIMS


HEAD, BODY, SIGNATURE = EC_TOKEN.split(".")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        f"{HEAD}.{BODY}",
        f"{HEAD}.{BODY}.",
        f"{HEAD}..{SIGNATURE}",
        f"{HEAD}.{BODY}.{SIGNATURE}.{SIGNATURE}",
        f"{HEAD}.{BODY}.{SIGNATURE}=",
        f"{HEAD}=.{BODY}.{SIGNATURE}",
        f" {EC_TOKEN}",
        f"{EC_TOKEN}\n",
        f"{HEAD}.{BODY[:8]} {BODY[8:]}.{SIGNATURE}",
        f"{HEAD}.{BODY[:8]}+{BODY[9:]}.{SIGNATURE}",
        f"{HEAD}.{BODY}.{SIGNATURE}AAA",
        f"{HEAD}.{BODY}.é{SIGNATURE[1:]}",
        f"{HEAD}.{BODY}.\ud800{SIGNATURE[1:]}",
    ],
)
def test_only_three_parts_of_plain_base64url_are_a_token(token: str) -> None:
    assert refusal(token) is Refusal.MALFORMED


def test_unused_bits_of_base64_must_be_zero() -> None:
    """64 bytes leave four bits over: without this, 15 other texts would be the same token."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(SIGNATURE[-1])
    assert last % 16 == 0
    for bits in range(1, 16):
        assert refusal(f"{HEAD}.{BODY}.{SIGNATURE[:-1]}{alphabet[last + bits]}") is Refusal.MALFORMED


NOT_AN_OBJECT = [
    b"",
    b"[]",
    b'"text"',
    b"1",
    b"null",
    b"{",
    b"{}{}",
    b"\xef\xbb\xbf{}",
    b'{"a": "\xff"}',
    b'{"a": 1, "a": 2}',
    b'{"a": {"b": 1, "\\u0062": 2}}',
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b"{'a': 1}",
]


@pytest.mark.parametrize("text", NOT_AN_OBJECT, ids=lambda text: text[:20].decode("latin-1"))
def test_what_readers_of_json_could_disagree_on_is_refused(text: bytes) -> None:
    with pytest.raises(TokenRefused) as refused:
        parse_object(encode_base64url(text).encode(), "payload")
    assert refused.value.reason is Refusal.MALFORMED
    if text:
        assert refusal(f"{part(text)}.{BODY}.{SIGNATURE}") is Refusal.MALFORMED, "as a header"
        assert refusal(signed(header(), text)) is Refusal.MALFORMED, "as a signed payload"


def nested(depth: int, before: str = "") -> bytes:
    return f'{{{before}"a": {"[" * (depth - 1)}{"]" * (depth - 1)}}}'.encode()


def test_nesting_is_bounded_before_a_recursive_parser_sees_it() -> None:
    assert parse_object(encode_base64url(nested(MAX_DEPTH)).encode(), "payload")
    for depth in (MAX_DEPTH + 1, 20_000):
        with pytest.raises(TokenRefused, match="nested more than 16 deep"):
            parse_object(encode_base64url(nested(depth)).encode(), "payload")


@pytest.mark.parametrize("quoted", ["]" * 20_000, r"\"" + "]" * 20_000, r"\\\"" + "}" * 20_000])
def test_brackets_in_a_string_do_not_hide_nesting(quoted: str) -> None:
    """Once, closing brackets in a string lowered the count, and a token of 4 KiB overran the parser's stack."""
    deep = nested(20_000, f'"b": "{quoted}", ')
    with pytest.raises(TokenRefused, match="nested more than 16 deep"):
        parse_object(encode_base64url(deep).encode(), "header")


def test_brackets_in_a_string_are_no_nesting() -> None:
    text = json.dumps({"a": "[" * 1000 + '"{' * 1000}).encode()
    assert parse_object(encode_base64url(text).encode(), "payload")["a"].startswith("[[")


def test_a_string_that_never_ends_is_read_in_linear_time() -> None:
    """48 kB of escaped quotes: a search that began again at each of them would take minutes."""
    with pytest.raises(TokenRefused, match="not JSON"):
        parse_object(encode_base64url(b'{"a": "' + b'\\"' * 24_000).encode(), "payload")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"typ": "JWT"}, Refusal.WRONG_TYPE),
        ({"typ": "SECEVENT+JWT"}, Refusal.WRONG_TYPE),
        ({"typ": None}, Refusal.WRONG_TYPE),
        ({"typ": [TYP]}, Refusal.WRONG_TYPE),
        ({"kid": "unknown"}, Refusal.UNKNOWN_KEY),
        ({"kid": None}, Refusal.UNKNOWN_KEY),
        ({"kid": [EC_KEY.kid]}, Refusal.UNKNOWN_KEY),
        ({"kid": {}}, Refusal.UNKNOWN_KEY),
        ({"alg": "none"}, Refusal.WRONG_ALGORITHM),
        ({"alg": "None"}, Refusal.WRONG_ALGORITHM),
        ({"alg": "HS256"}, Refusal.WRONG_ALGORITHM),
        ({"alg": "EdDSA"}, Refusal.WRONG_ALGORITHM),
        ({"alg": "ES384"}, Refusal.WRONG_ALGORITHM),
        ({"alg": None}, Refusal.WRONG_ALGORITHM),
        ({"alg": ["ES256"]}, Refusal.WRONG_ALGORITHM),
        ({"jku": "https://example.org/keys"}, Refusal.FORBIDDEN_HEADER),
        ({"jwk": EC_JWK}, Refusal.FORBIDDEN_HEADER),
        ({"x5u": "https://example.org/chain"}, Refusal.FORBIDDEN_HEADER),
        ({"x5c": []}, Refusal.FORBIDDEN_HEADER),
        ({"crit": []}, Refusal.FORBIDDEN_HEADER),
        ({"b64": True}, Refusal.FORBIDDEN_HEADER),
    ],
    ids=str,
)
def test_a_header_that_breaks_a_rule_refuses_a_token_with_a_good_signature(
    changes: dict[str, object], reason: Refusal
) -> None:
    assert verify(signed(header()), TYP, KEYS).claims == CLAIMS, "without the change it verifies"
    assert refusal(signed(header(**changes))) is reason


@pytest.mark.parametrize("name", ["alg", "kid", "typ"])
def test_a_header_lacks_nothing(name: str) -> None:
    lacking = {key: value for key, value in header().items() if key != name}
    expected = {"alg": Refusal.WRONG_ALGORITHM, "kid": Refusal.UNKNOWN_KEY, "typ": Refusal.WRONG_TYPE}
    assert refusal(signed(lacking)) is expected[name]


def test_no_algorithm_and_no_signature_is_refused() -> None:
    bare = f"{part(header(alg='none'))}.{part(CLAIMS)}"
    assert refusal(f"{bare}.") is Refusal.MALFORMED
    assert refusal(f"{bare}.{SIGNATURE}") is Refusal.WRONG_ALGORITHM


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_a_public_key_is_no_secret_for_hs256(encoding: serialization.Encoding) -> None:
    """The classic: the verifier's public key, taken as an HMAC secret."""
    public = EC_KEY.private.public_key().public_bytes(
        encoding, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signing_input = f"{part(header(alg='HS256'))}.{part(CLAIMS)}"
    mac = hmac.digest(public, signing_input.encode(), "sha256")
    assert refusal(f"{signing_input}.{encode_base64url(mac)}") is Refusal.WRONG_ALGORITHM


def test_another_key_under_this_ones_name_is_refused() -> None:
    assert refusal(signed(header(), key=SigningKey.generate())) is Refusal.BAD_SIGNATURE


def test_a_zero_signature_is_refused() -> None:
    """CVE-2022-21449: r = s = 0 once fitted every message."""
    assert refusal(f"{HEAD}.{BODY}.{encode_base64url(bytes(64))}") is Refusal.BAD_SIGNATURE


def test_a_der_signature_is_refused() -> None:
    assert isinstance(EC_KEY.private, ec.EllipticCurvePrivateKey)
    der = EC_KEY.private.sign(f"{HEAD}.{BODY}".encode(), ec.ECDSA(hashes.SHA256()))
    assert refusal(f"{HEAD}.{BODY}.{encode_base64url(der)}") is Refusal.BAD_SIGNATURE


def test_a_key_signs_only_what_it_is_for() -> None:
    keys = {EC_KEY.kid: EC_KEY.verification_key(frozenset({"hadir-receipt+jwt"}))}
    assert refusal(EC_TOKEN, keys=keys) is Refusal.WRONG_USE
    assert refusal(EC_TOKEN, "hadir-receipt+jwt", keys) is Refusal.WRONG_TYPE


@given(
    position=st.integers(0, len(EC_TOKEN) - 1),
    bit=st.integers(0, 7),
    token=st.sampled_from([EC_TOKEN, ED_TOKEN]),
)
def test_one_flipped_bit_anywhere_is_refused(position: int, bit: int, token: str) -> None:
    broken = bytearray(token.encode())
    broken[position % len(broken)] ^= 1 << bit
    with pytest.raises(TokenRefused):
        verify(bytes(broken), TYP, KEYS)


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(junk: bytes | str) -> None:
    with pytest.raises(TokenRefused):
        verify(junk, TYP, KEYS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    head=JSON | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit"]), JSON),
    signature=st.binary(min_size=1),
)
def test_arbitrary_headers_are_refused_and_nothing_else_happens(head: object, signature: bytes) -> None:
    with pytest.raises(TokenRefused):
        verify(f"{part(head)}.{BODY}.{encode_base64url(signature)}", TYP, KEYS)


@given(st.binary(min_size=1, max_size=80))
def test_arbitrary_signatures_do_not_fit(signature: bytes) -> None:
    for token in (EC_TOKEN, ED_TOKEN):
        assert refusal(f"{token.rpartition('.')[0]}.{encode_base64url(signature)}") is Refusal.BAD_SIGNATURE


def test_what_no_json_can_carry_is_not_signed() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sign({"seen": float("nan")}, EC_KEY, TYP)


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        ({}, "kty"),
        ({"kty": "oct", "k": "AAAA", "crv": ""}, "'oct'"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "crv"),
        (EC_JWK | {"crv": "P-384"}, "P-384"),
        (EC_JWK | {"crv": "secp256k1"}, "secp256k1"),
        (EC_JWK | {"x": EC_JWK["x"] + "="}, "base64url"),
        (EC_JWK | {"x": EC_JWK["x"][:-3]}, "base64url|bytes"),
        (EC_JWK | {"x": encode_base64url(bytes(33))}, "33 bytes"),
        (EC_JWK | {"x": 5}, "not a string"),
        (EC_JWK | {"x": "\ud800"}, "surrogates"),
        (EC_JWK | {"y": EC_JWK["x"]}, "not a public P-256"),
        (ED_JWK | {"crv": "X25519"}, "X25519"),
        (ED_JWK | {"kid": EC_THUMBPRINT}, "not the key's thumbprint"),
        (ED_JWK | {"kid": None}, "not the key's thumbprint"),
        (ED_JWK | {"d": ED_PRIVATE}, "private key"),
    ],
    ids=str,
)
def test_a_jwk_that_is_no_key_of_ours_is_refused(jwk: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenRefused, match=why) as refused:
        key_from_jwk(jwk, USE)
    assert refused.value.reason is Refusal.MALFORMED


def test_only_p256_and_ed25519_keys_sign() -> None:
    for private in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(KeyFileError, match="P-256 or Ed25519"):
            SigningKey.of(private)  # type: ignore[arg-type]


def test_what_a_refusal_shows_of_a_token_fits_one_line_of_any_terminal() -> None:
    with pytest.raises(TokenRefused) as refused:
        verify(signed(header(kid="\x1b[2J\nverified \u202e日本" * 50)), TYP, KEYS)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 160
