"""Runs of live sources and recordings, beside each other, for several test files."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

import loopback_servers as servers
import skips
from clips import write_video
from helpers import Outcome
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.video.sample_clip import sample_frames

Visolo = Callable[..., Outcome]
LENGTH = 12
"""Frames of each recording."""
needs_rtsp = pytest.mark.skipif(not servers.has_rtsp_server(), reason=skips.NO_RTSP_SERVER)


def write_media(folder: Path) -> None:
    """Recordings, an HLS playlist with its segments, and pictures that change their size."""
    write_video(folder / "index last.mp4", frames=LENGTH)
    write_video(folder / "a.ts", frames=LENGTH)
    _write_index_first(folder / "long.mp4", frames=150)
    for name, frames in (("recording", LENGTH), ("live", 250)):
        (folder / name).mkdir()
        _write_segments(folder / name, frames)
    for name, size in (("same", (160, 96)), ("change", (320, 192))):
        (folder / name).mkdir()
        for number, frame in enumerate(sample_frames(20, 96, 160)):
            picture = Image.fromarray(frame)
            picture = picture.resize(size) if number >= 10 else picture
            picture.save(folder / name / f"{number:02}.jpg")


def _write_index_first(path: Path, frames: int) -> None:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for frame in sample_frames(frames, 96, 160):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _write_segments(folder: Path, frames: int) -> None:
    options = {"hls_time": "0.4", "hls_list_size": "0"}
    with av.open(str(folder / "index.m3u8"), "w", format="hls", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.options = {"g": "10", "preset": "ultrafast"}
        for frame in sample_frames(frames, 96, 160):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    lines = (folder / "index.m3u8").read_text().splitlines()
    lengths = [float(line[8:].rstrip(",")) for line in lines if line.startswith("#EXTINF:")]
    names = [line for line in lines if line.endswith(".ts")]
    (folder / "segments.json").write_text(json.dumps(dict(zip(names, lengths, strict=True))))


@dataclass(frozen=True)
class Ran:
    """What a run wrote and said."""

    outcome: Outcome
    summary: dict[str, Any]
    lines: dict[str, list[dict[str, Any]]]
    """of ``--frames``, by stream"""

    def times(self, stream: str) -> list[float]:
        return [line["time_s"] for line in self.lines.get(stream, [])]

    def counts(self, stream: str) -> dict[str, Any]:
        (found,) = [each for each in self.summary["streams"] if each["name"] == stream]
        return dict(found)

    def reasons(self) -> dict[str, str]:
        return {each["name"]: each["reason"] for each in self.summary["failed"]}


def has_frames(folder: Path) -> bool:
    """Whether a run into this folder has had its first frame."""
    # Under a name of its own until the run is over.
    with contextlib.suppress(FileNotFoundError):
        return any(each.stat().st_size for each in folder.glob("*.jsonl"))
    return False


def run(
    visolo: Visolo,
    folder: Path,
    sources: list[str],
    *options: object,
    events: tuple[tuple[float, Callable[[], object]], ...] = (),
) -> Ran:
    """Run sources side by side, with events so many seconds after the first frame."""
    out = folder / "frames.jsonl"
    stop = threading.Event()

    def happen() -> None:
        began = None
        for after_s, event in events:
            while began is None and not stop.wait(0.02):
                began = time.monotonic() if has_frames(folder) else None
            if stop.wait(max(0.0, after_s - (time.monotonic() - (began or 0)))):
                return
            event()

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        outcome = visolo(
            "run", shipped_model(), *sources, "--backend", "onnxruntime", "--threads", 1,
            "--frames", out, "--json", *options,
        )  # fmt: skip
    finally:
        stop.set()
        thread.join()
    assert outcome.status in (0, 1), outcome.err
    lines: dict[str, list[dict[str, Any]]] = {}
    for text in out.read_text().splitlines():
        line = json.loads(text)
        lines.setdefault(line["stream"], []).append(line)
    return Ran(outcome, outcome.json(), lines)


@contextlib.contextmanager
def fifo(path: Path, content: bytes, stays_s: float = 0.0) -> Iterator[str]:
    """A named pipe into which a thread writes, and which it leaves open for a while."""
    os.mkfifo(path)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), path.open("wb", buffering=0) as pipe:
            pipe.write(content)
            time.sleep(stays_s)

    writer = threading.Thread(target=write)
    writer.start()
    yield str(path)
    writer.join()
