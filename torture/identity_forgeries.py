"""Messages about who somebody is that must not be believed, most of them signed by whoever may sign them.

What is wrong with those is their meaning.

Each kind has its families, of which each changes one thing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from edge.trust.admission import CLAIM_TYP, PURPOSE
from edge.trust.claim import REQUEST_TYP, Claim, claim_urn, csr_of, fleet_urn
from edge.trust.commands import COMMAND_TYP, command_claims
from edge.trust.fleetkeys import KEYS_TYP, listed_jwk, sign_document
from edge.trust.jws import (
    SharedKey,
    SigningKey,
    encode_base64url,
    parse_object,
    sign,
    sign_shared,
)
from edge.trust.seal import seal, sealing_key_text
from provisioning.authority import Authority, moment, pem
from provisioning.fleet import KEYS_FILE, Fleet

WRONG_KINDS: tuple[Any, ...] = (None, True, -1, 2**60, 1.5, "two\nlines", [], ["x"], {"a": []})
"""None of them is right anywhere."""

FLEET_USES = ("root", "provision", "command", "gallery", "receipt")

DEEP = 200
JUNK_BYTES = 2000

Claims = dict[str, Any]
Families = Mapping[str, Callable[[], bytes]]


@dataclass(frozen=True, slots=True)
class Forged:
    """A message that must not be believed."""

    family: str
    payload: bytes
    signed: bool
    """Whether somebody signed it who signs such things, so that only its meaning is wrong."""


@dataclass(frozen=True, slots=True)
class Forger:
    """Whoever has every key there is: of the fleet, of a claim, of the board that asks and of one that came before."""

    fleet: Fleet
    claim: Claim
    other_claim: Claim
    board: SigningKey
    sealing: X25519PublicKey
    known: SigningKey
    """Of a board that is in the fleet already."""
    signers: Mapping[str, SigningKey]
    """Of the fleet, by use."""
    authority: Authority
    random: Random
    now_s: int

    def draw(self, in_meaning: Families, in_form: Families, number: int) -> Forged:
        """One of three is wrong in form, the others in meaning."""
        signed = number % 3 != 0
        families = in_meaning if signed else in_form
        family = self.random.choice(sorted(families))
        return Forged(family, families[family](), signed)

    def misshapen(self, right: bytes) -> Families:
        """What is wrong with any message, whatever it would say."""
        random = self.random
        at = random.randrange(1, len(right))
        header = {
            "alg": random.choice(["none", "HS256", "ES256"]),
            "typ": "x",
            "crit": ["exp"],
            "jku": "https://x",
        }
        return {
            "junk": lambda: random.randbytes(random.randrange(1, JUNK_BYTES)),
            "cut off": lambda: right[:at],
            "altered": lambda: altered(right, at),
            "another header": lambda: encoded(header) + b"." + right.partition(b".")[2],
            "nested too deep": lambda: b"[" * DEEP + b"]" * DEEP,
            "too long": lambda: right + b"A" * 1_000_000 * 3,
        }

    def wrong(self, claims: Claims, *, spared: frozenset[str] = frozenset()) -> Mapping[str, Claims]:
        """Members that lack, are too many, or are of another kind."""
        name = self.random.choice(sorted(claims.keys() - spared))
        return {
            "a claim missing": {key: value for key, value in claims.items() if key != name},
            "a claim too many": claims | {self.random.choice(["admin", "nbf", "sub", "run"]): 1},
        }

    def request(self, number: int) -> Forged:
        """A claim request, for a claim that is open."""
        right, key = self.request_claims(csr_of(SigningKey.generate(), "x")), self.claim.request_key
        wrong = {
            **self.wrong(right, spared=frozenset({"iat"})),  # a new board's clock says nothing
            "another fleet's": right | {"aud": fleet_urn("X" * 43)},
            "another claim's": right | {"iss": claim_urn(self.other_claim.id)},
            "a sealing key that is none": right | {"sealing_key": self.random.choice(["", "AAAA", "!" * 43])},
            "an unknown protection": right | {"key_protection": "unbreakable"},
            "words on two lines": right | {self.random.choice(["board", "version"]): "two\nlines"},
            "words without end": right | {"board": "x" * 300},
            "of another kind": right
            | {self.random.choice(sorted(right.keys() - {"iat"})): self.other_kind()},
            "a key that is another board's": self.request_claims(csr_of(self.known, "x")),
        }
        in_meaning: dict[str, Callable[[], bytes]] = {
            family: partial(authenticated, claims, key) for family, claims in wrong.items()
        }
        in_meaning["by another claim's secret"] = partial(authenticated, right, self.other_claim.request_key)
        return self.draw(in_meaning, self.misshapen(authenticated(right, key)), number)

    def request_claims(self, csr: bytes) -> Claims:
        """As a board asks."""
        return {
            "iss": claim_urn(self.claim.id),
            "aud": fleet_urn(self.claim.fleet),
            "iat": self.now_s,
            "csr": encode_base64url(csr),
            "sealing_key": sealing_key_text(X25519PrivateKey.generate().public_key()),
            "version": "1",
            "key_protection": "file",
            "board": "a board",
        }

    def other_kind(self) -> Any:
        return self.random.choice(WRONG_KINDS)

    def certificate_request(self, number: int) -> Forged:
        """Inside a request that is right but for it; signed means that the key in it has signed it."""
        right = csr_of(SigningKey.generate(), "door-01")
        at = self.random.randrange(len(right))
        in_meaning: Families = {
            "for a key of P-384": lambda: csr_for(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
            "for a key of P-521": lambda: csr_for(ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
            "for a key of secp256k1": lambda: csr_for(
                ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()
            ),
            "for an Ed25519 key": lambda: csr_for(ed25519.Ed25519PrivateKey.generate(), None),
            "for another board's key": lambda: csr_of(self.known, "door-01"),
            "with names without end": lambda: csr_for(
                SigningKey.generate().private, hashes.SHA256(), names=300
            ),
        }
        in_form: Families = {
            "signed by nobody": lambda: right[:-8] + self.random.randbytes(8),
            "cut off": lambda: right[:at],
            "altered": lambda: altered(right, at),
            "junk": lambda: self.random.randbytes(self.random.randrange(1, JUNK_BYTES)),
            "a certificate": lambda: self.fleet.authority().certificate.public_bytes(
                serialization.Encoding.DER
            ),
        }
        made = self.draw(in_meaning, in_form, number)
        claims = self.request_claims(made.payload)
        request = sign_shared(claims, self.claim.request_key, REQUEST_TYP).compact.encode()
        return Forged(made.family, request, made.signed)

    def answer(self, number: int) -> Forged:
        """To the claim, for the board that waits."""
        random, keys = (
            self.random,
            {use: self.fleet.signing_key(use) for use in ("root", "command", "provision")},
        )
        provision, right = keys["provision"], self.admission()
        chain, other = right["certificates"], SigningKey.generate()
        changes: Mapping[str, Claims] = {
            **self.wrong(right),
            "another fleet's": right | {"iss": fleet_urn("X" * 43)},
            "another claim's": right | {"aud": claim_urn(self.other_claim.id)},
            "for another key": right | {"kid": other.kid},
            "for another door than it says outside": right | {"device": "door-77"},
            "an unknown purpose": right | {"purpose": "steal"},
            "settings that are not the fleet's": right
            | {
                "settings": random.choice([{"device": {"key_file": "/etc/shadow"}}, {"shell": {"run": "id"}}])
            },
            "settings that no daemon takes": right
            | {"settings": {"broker": {"url": random.choice(["", "ftp://x"])}}},
            "of another kind": right | {random.choice(sorted(right)): self.other_kind()},
            "a certificate for another key": right | {"certificates": self.certified(other, "door-01")},
            "a certificate for another door": right | {"certificates": self.certified(self.board, "door-77")},
            "a chain without its end": right | {"certificates": chain[:1]},
            "a chain the wrong way round": right | {"certificates": chain[::-1]},
            "a chain without end": right | {"certificates": chain * 4},
        }
        in_meaning: dict[str, Callable[[], bytes]] = {
            family: partial(self.admitting, claims, provision) for family, claims in changes.items()
        }
        in_meaning |= {
            "by a key of another use": partial(
                self.admitting, right, keys[random.choice(["root", "command"])]
            ),
            "of another typ": partial(self.admitting, right, provision, typ=COMMAND_TYP),
            "sealed to somebody else": partial(
                self.admitting, right, provision, to=X25519PrivateKey.generate().public_key()
            ),
            "with keys that list no signer": partial(
                self.admitting, right, provision, trail=self.document({"command": keys["command"]})
            ),
        }
        return self.draw(in_meaning, self.misshapen(self.admitting(right, provision)), number)

    def admission(self) -> Claims:
        """What the fleet would answer."""
        return {
            "iss": fleet_urn(self.claim.fleet),
            "aud": claim_urn(self.claim.id),
            "iat": self.now_s,
            "kid": self.board.kid,
            "device": "door-01",
            "site": "hq",
            "purpose": "first",
            "certificates": self.certified(self.board, "door-01"),
            "settings": {"device": {"direction": "in"}, "broker": {"url": "mqtts://localhost"}},
        }

    def certified(self, key: SigningKey, device: str) -> list[str]:
        """A chain as the authority issues it."""
        authority, public = self.authority, key.private.public_key()
        certificate = authority.issue_device(public, device, moment(self.now_s))  # type: ignore[arg-type]  # P-256
        return [pem(certificate), authority.chain]

    def admitting(
        self,
        claims: Claims,
        key: SigningKey,
        *,
        typ: str = CLAIM_TYP,
        to: X25519PublicKey | None = None,
        trail: bytes | None = None,
    ) -> bytes:
        """An answer with these claims."""
        keys = (self.fleet.folder / KEYS_FILE).read_bytes() if trail is None else trail
        content = json.dumps({"claim": sign(claims, key, typ).compact, "keys": keys.decode("ascii")}).encode()
        sealed = seal(content, to or self.sealing, PURPOSE, "door-01")
        return json.dumps({"device": "door-01", "sealed": encode_base64url(sealed)}).encode()

    def document(self, keys: Mapping[str, SigningKey], version: int = 90) -> bytes:
        """A keys document of the fleet's root."""
        root = self.signer("root")
        lines = [listed_jwk(root.public_jwk, "root", self.now_s)]
        lines += [listed_jwk(key.public_jwk, use, self.now_s) for use, key in keys.items()]
        authorities = self.fleet.keys.authorities
        return sign_document(root, lines, version=version, now_s=self.now_s, authorities=authorities).encode()

    def signer(self, use: str) -> SigningKey:
        """The fleet's key of this use."""
        return self.signers[use]

    def keys(self, number: int) -> Forged:
        """A keys document, to a board that has version 1 and the root's thumbprint."""
        random, own = self.random, {"command": self.signer("command")}
        right, held = self.document(own), (self.fleet.folder / KEYS_FILE).read_bytes().strip()
        claims = parse_object(right.split(b".")[1], "payload")
        root_line, line = claims["keys"]
        changes: Mapping[str, Claims] = {
            "a version that is no number": {"version": random.choice(["9", True, 9.5, None, 0, -3])},
            "a key of an unknown use": {
                "keys": [root_line, line | {"hadir_use": random.choice(["admin", 7])}]
            },
            "a key twice": {"keys": [root_line, line, line]},
            "a key that is none": {"keys": [root_line, line | {"x": "AAAA"}]},
            "a key of another curve": {"keys": [root_line, line | {"crv": "P-384"}]},
            "a key that may be revoked": {
                "keys": [root_line, line | {"revoked": random.choice([None, "no", 0])}]
            },
            "a key whose time is none": {
                "keys": [root_line, line | {"nbf": random.choice([None, "now", -1])}]
            },
            "a second root": {"keys": [root_line, line | {"hadir_use": "root"}]},
            "keys that are no list": {"keys": self.other_kind()},
            "an authority that is none": {"ca": [random.choice(["", "PEM", 7])]},
            "an authority that may issue nothing": {"ca": self.certified(self.known, "door-01")[:1]},
            "a next root that is none": {"next_root": random.choice(["x", 7, "A" * 42])},
        }
        root, command = self.signer("root"), self.signer("command")
        in_meaning: dict[str, Callable[[], bytes]] = {
            family: partial(signed, claims | change, root, KEYS_TYP) for family, change in changes.items()
        }
        in_meaning |= {
            "of the version that it has": partial(self.document, own, 1),
            "a trail that falls": lambda: self.document(own, 92) + b"\n" + right,
            "a trail without end": lambda: b"\n".join([held, *[right] * 9]),
            "by another key of the fleet": partial(signed, claims, command, KEYS_TYP),
            "of another typ": partial(signed, claims, root, random.choice([COMMAND_TYP, "JWT"])),
        }
        return self.draw(in_meaning, self.misshapen(right), number)

    def honest_keys(self) -> bytes:
        """What the fleet would publish next."""
        return self.document({use: key for use, key in self.signers.items() if use != "root"})

    def ping(self, n: int) -> bytes:
        """What the fleet would command."""
        return signed(self.ping_claims(n), self.signer("command"), COMMAND_TYP)

    def ping_claims(self, n: int) -> Claims:
        return command_claims(
            self.fleet.issuer,
            "door-01",
            jti=encode_base64url(self.random.randbytes(16)),
            n=n,
            name="ping",
            args={},
            now_s=self.now_s,
            expires_s=self.now_s + 3600,
        )

    def command(self, number: int) -> Forged:
        """To door-01, whose last command had the number 1; later ones have later numbers."""
        random, key, known = self.random, self.signer("command"), 1
        right = self.ping_claims(number + known + 1)
        strange = {"kid": self.known.kid, "certificates": self.certified(self.known, "door-01")}
        changes: Mapping[str, Claims] = {
            **self.wrong(right),
            "another board's": right | {"aud": "urn:hadir:device:door-77"},
            "an old number": right | {"n": known},
            "of another kind": right | {random.choice(sorted(right)): self.other_kind()},
            "expired": right | {"exp": self.now_s - random.randrange(1, 10**6)},
            "ahead of its time": right | {"iat": self.now_s + 10**6, "exp": self.now_s + 10**7},
            "of another boot": right | {"boot": "another"},
            "an unknown name": right | {"name": random.choice(["shell", "erase", "picture"])},
            "a name that is none": right | {"name": "rm -rf /"},
            "a ping with arguments": right | {"args": {"x": 1}},
            "a setting that is not to be set": right
            | {"name": "set", "args": {"device": {"key_file": "/etc/shadow"}}},
            "a setting out of bounds": right | {"name": "set", "args": {"camera": {"fps": -1}}},
            "a resend of another chain": right | {"name": "resend", "args": {"chain": "A" * 22, "from": 1}},
            "a certificate that nobody asked for": right | {"name": "rotate", "args": strange},
        }
        in_meaning: dict[str, Callable[[], bytes]] = {
            family: partial(signed, claims, key, COMMAND_TYP) for family, claims in changes.items()
        }
        in_meaning["by a key of another use"] = partial(signed, right, self.signer("gallery"), COMMAND_TYP)
        in_meaning["of another typ"] = partial(signed, right, key, random.choice([CLAIM_TYP, "JWT"]))
        return self.draw(in_meaning, self.misshapen(signed(right, key, COMMAND_TYP)), number)


def signed(claims: Claims, key: SigningKey, typ: str) -> bytes:
    """A token as it travels."""
    return sign(claims, key, typ).compact.encode()


def authenticated(claims: Claims, key: SharedKey) -> bytes:
    """A request as it travels."""
    return sign_shared(claims, key, REQUEST_TYP).compact.encode()


def encoded(members: Claims) -> bytes:
    """A header."""
    return encode_base64url(json.dumps(members).encode()).encode()


def altered(right: bytes, at: int) -> bytes:
    """The same but for one bit, which is never one that base64url leaves over."""
    return right[:at] + bytes([right[at] ^ 1 << 6]) + right[at + 1 :]


def csr_for(key: Any, algorithm: Any, names: int = 1) -> bytes:
    """A certificate request that this key has signed."""
    name = x509.NameAttribute(x509.NameOID.COMMON_NAME, "door-01" if names == 1 else "x" * 60)
    request = (
        x509.CertificateSigningRequestBuilder().subject_name(x509.Name([name] * names)).sign(key, algorithm)
    )
    return request.public_bytes(serialization.Encoding.DER)
