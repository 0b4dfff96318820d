"""Engines that a TensorRT of ``fake_gpu`` plays, and a video through them."""

from __future__ import annotations

from pathlib import Path

from visolo_core.contract import GRAPHS
from visolo_core.results import Track
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.backend import TensorRtBackend
from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime
from visolo_runtime.session.session import Session
from visolo_runtime.session.stream import StreamOptions
from visolo_runtime.video.sample_clip import sample_frames


def load_plans(
    runtime: TensorRtRuntime, bundle: Path, folder: Path, use_graphs: bool = True
) -> Engines:
    plans = {graph: folder / f"{graph}.engine" for graph in GRAPHS}
    for graph, plan in plans.items():
        plan.write_bytes(str(bundle / f"{graph}.onnx").encode())
    manifest = Bundle(bundle).manifest
    backend = TensorRtBackend(runtime, plans, use_graphs)
    return Engines.compile(backend, manifest.contract, manifest.batch)


def run(engines: Engines, options: StreamOptions, frames: int, rows: int = 1) -> list[Track]:
    """The tracks of the last row."""
    session = Session(engines.buffers(rows), options, row=rows - 1)
    for frame in sample_frames(frames):
        session.step(frame)
    return session.finish()
