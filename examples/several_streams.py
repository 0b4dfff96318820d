"""Tracks several videos side by side with one set of engines.

    python examples/several_streams.py model.visolo first.mp4 second.mp4

Every stream has its own tracks and memory. Export with ``--batch`` to run their frames together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

import visolo


def frames_of(video: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video, uint8 [H, W, 3] RGB."""
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def follow(model: Path, videos: list[Path]) -> None:
    """Step through all videos together, until the longest one ends."""
    sources = {stream: frames_of(video) for stream, video in enumerate(videos)}
    with visolo.Streams(visolo.load(model), sizes=[None] * len(videos)) as streams:
        while sources:
            pending = {stream: next(source, None) for stream, source in sources.items()}
            frames = {stream: frame for stream, frame in pending.items() if frame is not None}
            sources = {stream: sources[stream] for stream in frames}
            for stream, instances in streams.step(frames).items():
                tracks = ", ".join(f"#{each.track_id} {each.track_label}" for each in instances)
                print(f"{videos[stream].name}, frame {instances.frame}: {tracks}")
        for video, session in zip(videos, streams.sessions, strict=True):
            print(f"{video.name}: {session.tracks_begun} tracks")


def main() -> int:
    """Read the arguments and follow; returns the exit status."""
    parser = argparse.ArgumentParser(description="Track several videos side by side.")
    parser.add_argument("model", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    options = parser.parse_args()
    try:
        follow(options.model, options.videos)
    except (visolo.VisoloError, av.FFmpegError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
