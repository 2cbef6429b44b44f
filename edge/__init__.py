"""The daemon on the board: from light to a signed attendance event."""

__version__ = "0.1.0"
