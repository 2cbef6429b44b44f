"""What it means that the broker does not take a certificate: whose it is to mend, and how.

In TLS a broker says no more than an alert (RFC 8446, section 6.2), and Mosquitto sends the very
same one, `certificate_expired`, for a certificate that has ended and for a revocation list that
has: one door's trouble, or every door's. The certificate's own dates tell them apart.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509

EXPIRED, REVOKED = "ALERT_CERTIFICATE_EXPIRED", "ALERT_CERTIFICATE_REVOKED"
"""How OpenSSL's names of these alerts end."""


def explain(alert: str, certificate: x509.Certificate, now_s: float | None) -> tuple[str, str] | None:
    """What a broker's alert says of this certificate, and what helps; None where it is another alert.

    `now_s` is None where the board does not know the time.
    """
    name = ", ".join(str(attribute.value) for attribute in certificate.subject)
    if alert.endswith(REVOKED):
        return (
            f"refused: the certificate of {name} was revoked",
            f"whoever revoked {name} knows why; to let another in: `hadir-provision {_another(name)}`",
        )
    if not alert.endswith(EXPIRED):
        return None
    renew = _renewal(name)
    end_s = certificate.not_valid_after_utc.timestamp()
    ends = f"{datetime.fromtimestamp(end_s, UTC):%Y-%m-%d}"
    if now_s is not None and now_s > end_s:
        return (
            f"refused: the certificate of {name} ended on {ends}",
            f"give it another: `hadir-provision {renew}`",
        )
    everybody = "`hadir-provision broker FLEET`, see that the broker gets crl.pem, and set the broker's clock"
    if now_s is None:
        return (
            f"refused as expired: the certificate of {name} lasts until {ends}, and its clock does not tell whether "
            "that is over",
            f"if it is, `hadir-provision {renew}`, else the broker's revocation list has ended: {everybody}",
        )
    return (
        f"refused as expired, but the certificate of {name} lasts until {ends}: the broker's revocation list has "
        "ended, which locks out every board, or the broker's clock is wrong",
        everybody,
    )


def _renewal(name: str) -> str:
    """The command that gives it another certificate: consumers and provisioning have names of their own."""
    if name == "provision":
        return "broker FLEET"
    return f"consumer renew FLEET {name}" if name.startswith("central") else f"renew FLEET {name}"


def _another(name: str) -> str:
    return "consumer add FLEET NAME" if name.startswith("central") else f"replace FLEET {name}"
