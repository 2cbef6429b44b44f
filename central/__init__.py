"""A reference consumer of the events: receives, verifies and reports them."""
