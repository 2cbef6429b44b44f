"""A board's papers: its keys, its certificate, the list that could revoke it, and the claim that they came by."""

from __future__ import annotations

from cryptography import x509

from edge.check.findings import Finding, failed, failure, ok, warning
from edge.check.judge import judge_certificate, judge_revocations
from edge.config import BrokerConfig, Config, DeviceConfig
from edge.errors import FixSetup, HadirError, TokenRefused
from edge.trust.fleetkeys import load_keys_document
from edge.trust.identity import load_signing_key
from edge.trust.protect import Unsealed, load_key_encryption_key, sealed_by
from edge.trust.revocations import FILE, certified, load_revocation_list
from edge.trust.seal import Protection
from edge.trust.store import IdentityStore


def device_key(device: DeviceConfig, unsealed: Unsealed) -> Finding:
    """Whether the board's own key opens, and what protects it."""
    try:
        sealed = sealed_by(device.state_dir)
        if sealed and unsealed.error is not None:
            raise unsealed.error
        if sealed and unsealed.kek is None:
            return ok(
                "device key", f"encrypted; {_PROTECTED[sealed]}; the service manager opens it for the daemon"
            )
        kek = unsealed.kek if sealed else load_key_encryption_key(device.state_dir)
        key = load_signing_key(device.key_file, kek)
    except FixSetup as error:
        return failed("device key", error, f"restore {device.key_file} from where it was made")
    protected = _PROTECTED[Protection.FILE if kek is None else kek.protection]
    return ok("device key", f"{key.algorithm}, readable by its owner only; {protected}")


_PROTECTED = {
    Protection.TPM2: "protected by this machine's TPM (key_protection tpm2)",
    Protection.HOST: "a thief of the card can open it (key_protection host)",
    Protection.FILE: "a thief of the card can read it (key_protection file)",
}


def claim(device: DeviceConfig) -> list[Finding]:
    """Where this board is on its way to an identity, or to the next."""
    waiting = device.state_dir / "claim"
    store = IdentityStore(device.state_dir, None)
    try:
        if waiting.exists():
            return [
                warning(
                    "claim", f"{waiting}: waits to be answered", "journalctl -u hadir-claim; docs/claiming.md"
                )
            ]
        current, successor = store.current(), store.successor()
    except (OSError, FixSetup) as error:
        return [failed("claim", HadirError(str(error)), "claim this board anew")]
    if current is None:
        return []
    following = "; its next key is taken at the next start" if successor is not None else ""
    return [ok("claim", f"used; identity {current.name}{following}")]


def certificate(broker: BrokerConfig, device: str, now_s: float) -> list[Finding]:
    """Whose it is, and how long it lasts."""
    if broker.cert_file is None or broker.private_key_file is None:
        return []
    remedy = "copy the certificate from this board's own folder"
    try:
        own = x509.load_pem_x509_certificate(broker.cert_file.read_bytes())
        names = own.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        mode = broker.private_key_file.stat().st_mode & 0o777
    except OSError as error:
        return [failure("certificate", f"{error.filename}: cannot be read ({error.strerror})", remedy)]
    except ValueError:
        return [failure("certificate", f"{broker.cert_file}: not a certificate in PEM", remedy)]
    if mode & 0o077:
        return [
            failure(
                "certificate",
                f"{broker.private_key_file}: mode {mode:04o} is readable by others",
                f"chmod 600 {broker.private_key_file}",
            )
        ]
    return [
        judge_certificate(
            str(names[0].value) if names else "",
            device,
            own.not_valid_before_utc.timestamp(),
            own.not_valid_after_utc.timestamp(),
            now_s,
        )
    ]


def revocations(config: Config, now_s: float) -> list[Finding]:
    """The list that the broker asks about this board, as the fleet last told of it."""
    device, cert_file = config.device, config.broker.cert_file
    path = device.state_dir / FILE
    try:
        if cert_file is None or not path.exists():
            return []
        keys = load_keys_document(device.keys_file, device.root_thumbprint)
        own = certified(cert_file, device.id, keys.authorities)
        held = load_revocation_list(device.state_dir, own.issuer)
    except (TokenRefused, FixSetup, OSError, ValueError) as error:
        return [
            warning("crl", f"{path}: {error}", "the daemon takes the newest when it connects to the broker")
        ]
    return [] if held is None else [judge_revocations(held, own.serial, now_s)]
