"""Writes videos, folders of frames and data sets for tests from the generated clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
from PIL import Image

from visolo_runtime.video.sample_clip import sample_frames


def write_video(path: Path, frames: int = 24, height: int = 96, width: int = 160) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"g": "6", "crf": "10"}
        for frame in sample_frames(frames, height, width):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_raw_video(path: Path, frames: int, height: int, width: int) -> Path:
    """A file that Chromium takes for a camera."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode())
        for picture in sample_frames(frames, height, width):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            file.write(b"FRAME\n" + frame.to_ndarray().tobytes())
    return path


def write_folder(folder: Path, frames: int = 4, size: tuple[int, int] = (48, 64)) -> Path:
    folder.mkdir()
    for number, frame in enumerate(sample_frames(frames, *size)):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


def data_set(tmp_path: Path, videos: list[dict[str, Any]] | None = None) -> Path:
    images = tmp_path / "JPEGImages"
    if not images.exists():
        images.mkdir()
        write_folder(images / "one", frames=3)
        write_folder(images / "two", frames=2, size=(80, 40))
    entries = videos or [
        {"id": 4, "height": 48, "width": 64, "file_names": [f"one/{n}.png" for n in range(3)]},
        {"id": 9, "height": 80, "width": 40, "file_names": [f"two/{n}.png" for n in range(2)]},
    ]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"videos": entries}))
    return path
