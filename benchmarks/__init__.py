"""What the performance figures in the documents come from."""
