"""Tracks several videos side by side with one set of engines.

    python examples/several_streams.py model.visolo first.mp4 second.mp4

Every stream has tracks and a memory of its own, and its numbers begin at 1. With a bundle of
``visolo export --batch 4`` up to four frames go through the graphs together.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import av

import visolo


def follow(model: Path, videos: list[Path]) -> list[int]:
    """Take a frame of every video that still has one, until all are over.

    Returns:
        the number of tracks that each video has had.
    """
    containers = [av.open(str(video)) for video in videos]
    decoders = dict(enumerate(each.decode(video=0) for each in containers))
    with visolo.Streams(visolo.load(model), sizes=[None] * len(videos)) as streams:
        while decoders:
            taken = {stream: next(decoder, None) for stream, decoder in decoders.items()}
            frames = {
                number: each.to_ndarray(format="rgb24") for number, each in taken.items() if each
            }
            decoders = {number: decoders[number] for number in frames}
            for number, instances in streams.step(frames).items():
                tracks = [f"#{each.track_id} {each.track_label}" for each in instances]
                print(f"{videos[number].name}, frame {instances.frame}: {', '.join(tracks)}")
        counts = [session.tracks_begun for session in streams.sessions]
    for container in containers:
        container.close()
    return counts


def main() -> int:
    """Read the arguments, follow, and report; returns the exit status."""
    parser = argparse.ArgumentParser(description="Track several videos side by side.")
    parser.add_argument("model", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    options = parser.parse_args()
    try:
        counts = follow(options.model, options.videos)
    except (visolo.VisoloError, av.FFmpegError) as error:
        print(error, file=sys.stderr)
        return 2
    for video, tracks in zip(options.videos, counts, strict=True):
        print(f"{video.name}: {tracks} tracks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
