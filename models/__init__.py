"""The quantized models and their manifest, as package data."""
