"""Frames: where they come from, resizing and drawing them, and where results are written."""
