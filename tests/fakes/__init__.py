"""Stand-ins for hardware that no test machine has, at the vendor's own line."""
