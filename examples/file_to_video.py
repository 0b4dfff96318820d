"""Tracks the instances of a video and draws them over its frames.

python examples/file_to_video.py model.visolo video.mp4 annotated.mp4
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import av
import numpy as np

import visolo


def annotate(model: Path, source: Path, output: Path, fps: int) -> int:
    """Write the frames of a video with their instances as H.264; returns the number of frames."""
    count = 0
    tracked = visolo.track(model, source)
    with av.open(str(output), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        for frame, instances in tracked:
            # H.264 halves the resolution of colours, so an odd last row or column is cropped.
            height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
            drawn = visolo.draw_instances(frame, instances)[:height, :width]
            if not count:
                stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(drawn), format="rgb24")
            container.mux(stream.encode(picture))
            count += 1
        container.mux(stream.encode(None))
    return count


def main() -> int:
    """Read the arguments, annotate, and report; returns the exit status."""
    parser = argparse.ArgumentParser(description="Draw the instances of a video over its frames.")
    parser.add_argument("model", type=Path)
    parser.add_argument("source", type=Path, help="a video file or a folder of frames")
    parser.add_argument("output", type=Path, help="an mp4 file")
    parser.add_argument("--fps", type=int, default=25, help="frames per second of the output")
    options = parser.parse_args()
    try:
        frames = annotate(options.model, options.source, options.output, options.fps)
    except (visolo.VisoloError, av.FFmpegError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.output}: {frames} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
