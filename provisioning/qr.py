"""A claim as a picture that a door's camera can read: in the terminal, as SVG and as PNG."""

from __future__ import annotations

from pathlib import Path

import segno

from edge.errors import InputError
from edge.trust.claim import Claim

ERROR_CORRECTION = "l"
"""The least (ISO/IEC 18004): fewer and larger modules help a door's camera more than redundancy does."""

QUIET_ZONE = 4
"""Modules around it that stay white, as ISO/IEC 18004 asks for."""

PNG_MODULE_PX = 10

SUFFIXES = (".svg", ".png")


def qr_code(claim: Claim) -> segno.QRCode:
    """The claim's line as a QR code."""
    return segno.make_qr(claim.line, error=ERROR_CORRECTION)


def terminal_text(claim: Claim) -> str:
    """Two rows of modules a line, for terminals of either colour scheme: what is light is drawn, not left out."""
    rows = [list(row) for row in qr_code(claim).matrix_iter(border=QUIET_ZONE)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    blocks = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    lines = (
        "".join(blocks[bool(above), bool(below)] for above, below in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    )
    return "\n".join(lines)


def check_picture(path: Path) -> None:
    """Raise InputError where a picture could not be of the kind that this name says."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a QR code is written as {' or '.join(SUFFIXES)}")


def write_picture(claim: Claim, path: Path) -> None:
    """As a file of the kind that its name says. Raises InputError for another name, or where it cannot be written."""
    check_picture(path)
    try:
        path.touch(mode=0o600)
        qr_code(claim).save(str(path), border=QUIET_ZONE, scale=PNG_MODULE_PX)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
