"""What can go wrong, branched by what the caller should do about it.

::

    HadirError
    ├── FixSetup            an administrator must change something; starting again does not help
    │   ├── ConfigError         a configuration file: file, key, value, what is allowed
    │   ├── ModelError          a model file or the manifest: missing, damaged, unusable
    │   ├── KeyFileError        a private key or keys document: missing, damaged, wrong permissions
    │   ├── GalleryError        the gallery: missing, damaged, signed by nobody we trust, other embedder
    │   └── InputError          a file or argument that a person named on a command line
    ├── RetryLater          the outside world is not ready; try again with backoff
    │   ├── CameraUnavailable   the camera does not open or stopped giving frames
    │   ├── BrokerUnavailable   the broker cannot be reached or refused the connection
    │   │   └── PublishDenied       it refused one message, and the connection stands
    │   ├── DatabaseUnavailable the server's database cannot be reached or written
    │   └── AlreadyRunning      another daemon works on the same state
    ├── SkipThis            this one input is unusable, the next may be good
    │   ├── BadImage            not a picture that the road can take
    │   ├── NotEnrollable       a photograph that must not become a template
    │   └── CommandRefused      a command that is not carried out, with nothing changed
    ├── TokenRefused        something signed that is not to be believed; carries a reason
    └── CannotRecord        an event cannot be made durable: stop the road and say so loudly
        └── DiskFull            no room; go on without it, say so, and try the next

Every message names the thing, the place, the value and what to do, because it is
printed as it stands. `exit_code` follows sysexits(3), so that systemd and scripts
can tell the branches apart.
"""

from __future__ import annotations

from enum import StrEnum


class HadirError(Exception):
    """Anything that this project raises on purpose."""

    exit_code = 70  # EX_SOFTWARE


class FixSetup(HadirError):
    """Something that an administrator must change before another start makes sense."""

    exit_code = 78  # EX_CONFIG


class ConfigError(FixSetup):
    """A configuration file that cannot be used as it is written."""


class ModelError(FixSetup):
    """A model file or manifest that is missing, damaged or does not fit."""


class KeyFileError(FixSetup):
    """A private key or keys document that is missing, damaged or too widely readable."""


class GalleryError(FixSetup):
    """A gallery that is missing, damaged, not signed by this fleet or for another embedder."""


class InputError(FixSetup):
    """A file or argument, named by a person, that cannot be used."""

    exit_code = 65  # EX_DATAERR


class RetryLater(HadirError):
    """The world outside is not ready; the same call may succeed later."""

    exit_code = 69  # EX_UNAVAILABLE


class CameraUnavailable(RetryLater):
    """The camera does not open, or stopped giving frames."""


class BrokerUnavailable(RetryLater):
    """The broker cannot be reached, or refused this connection."""


class PublishDenied(BrokerUnavailable):
    """The broker did not take one message; the connection stands."""


class DatabaseUnavailable(RetryLater):
    """The server's database cannot be reached, read or written; what was committed stays."""


class AlreadyRunning(RetryLater):
    """Another daemon works on the same state; two would throw each other off the broker."""


class SkipThis(HadirError):
    """One input is unusable; go on with the next."""

    exit_code = 65  # EX_DATAERR


class BadImage(SkipThis):
    """An array that is not an 8-bit BGR picture of a size that the road takes."""


class NotEnrollable(SkipThis):
    """A photograph from which no trustworthy template can be made."""


class CommandRefused(SkipThis):
    """A command of the fleet that this board does not carry out; nothing was changed."""


class Refusal(StrEnum):
    """Why a signed token is not believed. The values are stable: they are stored and counted."""

    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    WRONG_TYPE = "wrong-type"
    UNKNOWN_KEY = "unknown-key"
    WRONG_ALGORITHM = "wrong-algorithm"
    FORBIDDEN_HEADER = "forbidden-header"
    BAD_SIGNATURE = "bad-signature"
    WRONG_USE = "wrong-use"
    WRONG_OWNER = "wrong-owner"
    WRONG_AUDIENCE = "wrong-audience"
    BAD_CLAIMS = "bad-claims"
    REVOKED_KEY = "revoked-key"
    CANNOT_OPEN = "cannot-open"
    EXPIRED = "expired"
    REPLAYED = "replayed"


class TokenRefused(HadirError):
    """A signed token that is not to be believed, with the reason to store and count."""

    exit_code = 65  # EX_DATAERR

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class CannotRecord(HadirError):
    """An event could not be made durable; nothing may go on as if it had been."""

    exit_code = 74  # EX_IOERR


class DiskFull(CannotRecord):
    """There is no room on the disk; what was not stored is refused, and the daemon goes on."""
