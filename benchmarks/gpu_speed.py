"""Measures frames a second of TensorRT engines on this machine's GPU, recorded and plain.

    python benchmarks/gpu_speed.py [WEIGHTS] [--frames 300]

Builds engines for that GPU in float32 and float16, and runs a generated clip. A time is that of a
whole step, from frame to instances; a step ends when the device has finished its work. For cards of
`benchmarks/gpu_prediction.py` the last column has what that predicts for the graphs alone. This
script has not been run on a GPU yet.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.gpu_prediction import ASSUMED_START_MS, card_named, predicted_ms
from benchmarks.layer_counts import count_bundle
from visolo_core.config import InferenceConfig
from visolo_core.errors import NotHereError
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_export.bundle_writer import write_bundle
from visolo_export.formats import EngineOptions
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.tensorrt.backend import open_tensorrt
from visolo_runtime.engines.tensorrt.device import cuda_device
from visolo_runtime.engines.tensorrt.library import Library, import_library
from visolo_runtime.models.shipped import shipped_weights
from visolo_runtime.session.session import Session
from visolo_runtime.session.stream import StreamOptions
from visolo_runtime.video.sample_clip import sample_frames

_WARM_UP = 20  # frames
_MASKS = 8  # in a frame, for the prediction


def library() -> Library:
    """TensorRT if it is installed, else TensorRT-RTX."""
    try:
        import_library("tensorrt")
    except NotHereError:
        return "tensorrt-rtx"
    return "tensorrt"


def step_times(session: Session, frames: int) -> list[float]:
    """Milliseconds of each step after the warm-up."""
    times = []
    for frame in sample_frames(frames + _WARM_UP):
        begin = time.perf_counter()
        session.step(frame)
        times.append(1000 * (time.perf_counter() - begin))
    return times[_WARM_UP:]


def predicted_fps(bundle: Bundle, device: str) -> str:
    """Frames a second that data sheets promise in float16; ``-`` for an unknown card.

    Args:
        bundle: it has ONNX graphs.
        device: the driver's name for the GPU.
    """
    card = card_named(device)
    if card is None:
        return "-"
    return f"{1000 / predicted_ms(count_bundle(bundle, _MASKS), card, start=ASSUMED_START_MS):.0f}"


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    weights = shipped_weights()
    parser.add_argument("weights", type=Path, nargs="?", default=weights)
    parser.add_argument("--frames", type=int, default=300)
    options = parser.parse_args()
    name, device = library(), cuda_device()
    targets = (device.architecture,) if name == "tensorrt-rtx" else ()
    checkpoint, inference = load_checkpoint(options.weights), InferenceConfig()
    print(f"{name} on {device.name} ({device.architecture}), {options.weights.name}\n")
    print("| precision | work | p50 ms | p99 ms | FPS | predicted FPS |\n|---|---|---|---|---|---|")
    stages = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "model.visolo"
        write_bundle(
            checkpoint, bundle, inference, formats=("onnx", name), precisions=("fp32", "fp16"),
            engine_options=EngineOptions(targets),
        )  # fmt: skip
        prediction = predicted_fps(Bundle(bundle), device.name)
        for precision in ("fp32", "fp16"):
            for recorded in (True, False):
                opened = Bundle(bundle)
                graphs = opened.graphs(name, precision)
                engines = open_tensorrt(opened, graphs, name, use_graphs=recorded)
                stream_options = StreamOptions(inference, checkpoint.header.labels, record=False)
                session = Session(engines.buffers(), stream_options)
                times = step_times(session, options.frames)
                stages[precision] = session.device_ms(next(iter(sample_frames(1))))
                p99 = sorted(times)[int(0.99 * len(times))]
                work = "recorded" if recorded else "plain"
                print(
                    f"| {precision} | {work} | {median(times):.2f} | {p99:.2f} | "
                    f"{1000 * len(times) / sum(times):.1f} | "
                    f"{prediction if precision == 'fp16' else '-'} |"
                )
    for precision, spent in stages.items():
        parts = ", ".join(f"{stage} {ms:.2f}" for stage, ms in spent.items())
        print(f"\n{precision}, ms of one frame by the device's clock: {parts}")


if __name__ == "__main__":
    main()
