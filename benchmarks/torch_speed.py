"""Measures frames a second of PyTorch on a GPU: eager, with CUDA graphs, and AOTInductor.

    python -m benchmarks.torch_speed [--network lite r50] [--streams 1 8] [--seconds 100]

`lite` is the shipped network, `r50` the paper's with random weights, which are as fast. The score
threshold is set so that about eight masks are decoded for a frame. A time is that of a whole step,
from a frame that is resized already to its instances; frames of several streams count one by one.
AOTInductor compiles as long as there is time: what was not compiled within --seconds is `-`. The
last column has what `benchmarks/gpu_prediction.py` predicts for the graphs alone, for cards that it
knows.
This script has not been run on a GPU yet. With `--device cpu` it measures eager float32 alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.gpu_prediction import card_named
from benchmarks.gpu_speed import predicted_fps
from visolo_core.categories import LabelSet
from visolo_core.checkpoint_header import CheckpointHeader
from visolo_core.config import PRESETS, InferenceConfig
from visolo_core.nn.checkpoint import Checkpoint, load_checkpoint
from visolo_core.nn.initialise import ready_to_train
from visolo_export.bundle_writer import write_bundle
from visolo_runtime.bundle import Bundle, Precision
from visolo_runtime.engines.buffers import FrameInput
from visolo_runtime.engines.device_name import DeviceName, parse_device
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.torch.opening import bundle_engines, weights_engines
from visolo_runtime.models.shipped import shipped_model, shipped_weights
from visolo_runtime.session.loading import Model
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.frames import ResizedFrame
from visolo_runtime.video.resizing import resized
from visolo_runtime.video.sample_clip import sample_frames

Way = Literal["eager", "CUDA graphs", "AOTInductor"]
WAYS: tuple[Way, ...] = ("eager", "CUDA graphs", "AOTInductor")
TORCH_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
_MASKS = 8  # in a frame
_COMPILING_S = 40.0  # assumed for the first network


@dataclass(frozen=True)
class Amount:
    """How much is measured of each case."""

    streams: Sequence[int] = (1, 8)
    """numbers of streams"""
    steps: int = 60
    warm_up: int = 50
    """steps before those: the memory of the paper's settings is full after 36"""


@dataclass(frozen=True)
class Case:
    """What one figure is of."""

    network: str
    precision: Precision
    streams: int
    way: Way


def checkpoint_of(network: str) -> Checkpoint:
    """The shipped weights for ``lite``, random ones for others."""
    if network == "lite":
        return load_checkpoint(shipped_weights())
    config = PRESETS[network]
    ids = tuple(range(1, config.classes + 1))
    labels = LabelSet("none", ids, tuple(f"class {number}" for number in ids))
    return Checkpoint(CheckpointHeader(config, labels), ready_to_train(config).state_dict())


def frames_for(engines: Engines, count: int) -> list[ResizedFrame]:
    """Frames of a generated clip at the network's input size."""
    size = engines.buffers().input_size
    return [resized(frame, size) for frame in sample_frames(count)]


def threshold_for(engines: Engines, frame: ResizedFrame) -> float:
    """The score threshold that eight cells of a frame reach."""
    buffers = engines.buffers()
    valid = np.arange(buffers.slots + 1) == buffers.slots
    buffers.submit(range(1), [FrameInput(frame.image, valid, np.zeros(2, bool), 1.0)])
    buffers.frame()
    return float(buffers.read("cell_score")[0][_MASKS - 1])


def frames_a_second(
    checkpoint: Checkpoint, engines: Engines, streams: int, amount: Amount
) -> float:
    """Of all streams together."""
    frames = frames_for(engines, amount.warm_up + amount.steps)
    inference = replace(
        InferenceConfig(), score_threshold=threshold_for(engines, frames[0]), update_threshold=0.0
    )
    header = checkpoint.header
    model = Model(header.config, inference, header.labels, engines)
    with Streams(model, [None] * streams) as together:
        for number, frame in enumerate(frames):
            if number == amount.warm_up:
                begin = time.perf_counter()
            together.step(dict.fromkeys(range(streams), frame))
        return streams * amount.steps / (time.perf_counter() - begin)


def measure_plain(network: str, amount: Amount, device: DeviceName) -> Iterator[tuple[Case, float]]:
    """Eager and with CUDA graphs, in both precisions; on the CPU eager float32."""
    checkpoint = checkpoint_of(network)
    on_gpu = device.kind == "cuda"
    for precision in TORCH_PRECISIONS if on_gpu else TORCH_PRECISIONS[:1]:
        for way in WAYS[: 2 if on_gpu else 1]:
            engines = weights_engines(
                checkpoint,
                InferenceConfig().memory_slots,
                device=device,
                half=precision == "fp16",
                use_graphs=way == "CUDA graphs",
            )
            for count in amount.streams:
                fps = frames_a_second(checkpoint, engines, count, amount)
                yield Case(network, precision, count, way), fps


def measure_compiled(
    network: str, precision: Precision, amount: Amount, device: DeviceName
) -> Iterator[tuple[Case, float]]:
    """AOTInductor, with CUDA graphs where there is a GPU."""
    checkpoint, inference = checkpoint_of(network), InferenceConfig()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.visolo"
        write_bundle(
            checkpoint, path, inference, formats=("aotinductor",), precisions=(precision,),
            batch=max(amount.streams), device=device,
        )  # fmt: skip
        bundle = Bundle(path)
        engines = bundle_engines(bundle, bundle.graphs("aotinductor"), device=device)
        for count in amount.streams:
            fps = frames_a_second(checkpoint, engines, count, amount)
            yield Case(network, precision, count, "AOTInductor"), fps


def prediction(network: str, card_name: str) -> str:
    """Frames a second that data sheets promise in float16; ``-`` for an unknown card."""
    if card_named(card_name) is None:
        return "-"
    if network == "lite":
        return predicted_fps(Bundle(shipped_model()), card_name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.visolo"
        write_bundle(checkpoint_of(network), path, InferenceConfig())
        return predicted_fps(Bundle(path), card_name)


def print_table(measured: dict[Case, float], predicted: dict[str, str]) -> None:
    """In Markdown, a row for each network, precision and number of streams."""
    print(f"\n| network | precision | streams | {' | '.join(WAYS)} | predicted |")
    print("|---" * (4 + len(WAYS)) + "|")
    rows = dict.fromkeys((each.network, each.precision, each.streams) for each in measured)
    for network, precision, streams in rows:
        cells = [
            f"{measured[case]:.1f}" if (case := Case(network, precision, streams, way)) in measured
            else "-"
            for way in WAYS
        ]  # fmt: skip
        known = predicted[network] if (precision, streams) == ("fp16", 1) else "-"
        print(f"| {network} | {precision} | {streams} | {' | '.join(cells)} | {known} |")


def main(arguments: list[str] | None = None) -> None:
    """Measure what there is time for, and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="+", choices=list(PRESETS), default=["lite", "r50"])
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--steps", type=int, default=60, help="counted, of each case")
    parser.add_argument("--warm-up", type=int, default=50, help="steps before those")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=100.0, help="for everything")
    options = parser.parse_args(arguments)
    begin, device = time.perf_counter(), parse_device(options.device) or DeviceName("cuda")
    on_gpu = device.kind == "cuda"
    name = torch.cuda.get_device_name(device.index) if on_gpu else "CPU"
    print(f"PyTorch {torch.__version__} on {name}, frames a second of all streams together")
    measured: dict[Case, float] = {}
    amount = Amount(options.streams, options.steps, options.warm_up)
    for network in options.network:
        measured |= measure_plain(network, amount, device)
    predicted = {network: prediction(network, name) for network in options.network}
    lasted = _COMPILING_S
    for precision in reversed(TORCH_PRECISIONS):
        for network in options.network:
            started = time.perf_counter()
            if options.seconds - (started - begin) < 1.5 * lasted:
                print(f"no time to compile {network} in {precision}: give more --seconds")
                continue
            measured |= measure_compiled(network, precision, amount, device)
            lasted = max(lasted, time.perf_counter() - started)
    print_table(measured, predicted)


if __name__ == "__main__":
    main()
