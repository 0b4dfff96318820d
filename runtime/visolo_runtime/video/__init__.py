"""Frames: what they are, and resizing them."""
