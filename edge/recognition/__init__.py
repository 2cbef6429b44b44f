"""Frames to who."""
