"""Kills the real daemon at every point of its road and at random, and shows what became of its events."""
