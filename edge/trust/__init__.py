"""Who may say what."""
