"""How much of a source to run, and how."""

from __future__ import annotations

from dataclasses import dataclass

from visolo_runtime.sources.feed import Policy


@dataclass(frozen=True)
class RunOptions:
    """How much of the source to run, and how."""

    output_size: tuple[int, int] | None = None
    """Height and width of the masks; None means the source's."""
    max_frames: int | None = None
    """Stop each clip after this many frames; None runs it to its end."""
    record: bool = False
    """Keep all masks for video-level results."""
    streams: int = 1
    """Clips to run side by side."""
    live: Policy = "latest"
    """Which frames of a live source to run if it is faster than the engines."""
