"""Light to frames."""
