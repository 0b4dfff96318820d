"""Sends a video to a model in NVIDIA Triton, frame by frame, as one sequence.

    python examples/triton_client.py shapes video.mp4 --server localhost:8001 --stream camera-17

Needs ``pip install 'tritonclient[grpc]'``. If the server dies, start again: tracks begin anew.
"""

from __future__ import annotations

import argparse
import sys

import av
import numpy as np


def follow(model: str, video: str, server: str, stream: str) -> None:
    """Send every frame and print what is found in it."""
    with av.open(video) as container:
        import tritonclient.grpc as triton

        client = triton.InferenceServerClient(server)
        outputs = [triton.InferRequestedOutput(name) for name in ("track_id", "label", "box")]
        for number, frame in enumerate(container.decode(video=0)):
            image = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)[None]
            tensor = triton.InferInput("image", image.shape, "UINT8")
            tensor.set_data_from_numpy(image)
            answer = client.infer(
                model, [tensor], outputs=outputs, sequence_id=stream, sequence_start=number == 0
            )
            rows = zip(*(answer.as_numpy(each.name())[0] for each in outputs), strict=True)
            found = ", ".join(f"#{track} {label.decode()} {box}" for track, label, box in rows)
            print(f"frame {number}: {found}")
        client.infer(model, [], outputs=outputs, sequence_id=stream, sequence_end=True)


def main() -> int:
    """Read the arguments and follow; returns the exit status."""
    parser = argparse.ArgumentParser(description="Track a video with a model in Triton.")
    parser.add_argument("model", help="its name in the repository")
    parser.add_argument("video")
    parser.add_argument("--server", default="localhost:8001", help="address of its gRPC port")
    parser.add_argument("--stream", default="camera", help="name of the sequence")
    options = parser.parse_args()
    try:
        follow(options.model, options.video, options.server, options.stream)
    except av.FFmpegError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
