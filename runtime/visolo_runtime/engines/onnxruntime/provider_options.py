"""What ONNX Runtime's GPU providers are told: precision, stream, shapes, recording and caches.

The two providers spell true differently: CUDA's takes 1, TensorRT's takes True.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from visolo_core.contract import MASKS, STREAMS, GraphSpec
from visolo_core.errors import NotHereError
from visolo_core.files import user_cache
from visolo_runtime.engines.buffers import DECODE_LIMIT, fixed_count

if TYPE_CHECKING:
    from visolo_runtime.bundle import Precision

TF32 = "NVIDIA_TF32_OVERRIDE"
"""Environment variable of NVIDIA's libraries: 0 forbids TF32 in all of them."""


def cuda_options(stream: int, gpu: int, records: bool = False) -> dict[str, str]:
    """Options of the CUDA provider.

    Args:
        stream: address of the CUDA stream.
        gpu: index of the GPU.
        records: runs as CUDA graphs. Creating the session fails if the graph has control flow or
            nodes on the CPU other than those that compute shapes.
    """
    return {
        "device_id": str(gpu),
        "user_compute_stream": str(stream),
        # On GPUs from Ampere on, float32 products have ten bits by default. fp16 graphs keep in
        # float32 what needs it, so this suits every precision.
        "use_tf32": "0",
        "enable_cuda_graph": str(int(records)),
    }


def tensorrt_options(
    stream: int,
    gpu: int,
    spec: GraphSpec,
    precision: Precision,
    batch: int,
    places: int,
    cache: Path | None,
) -> dict[str, str]:
    """Options of the TensorRT provider.

    It never records CUDA graphs (``trt_cuda_graph_enable``): its source keeps one recording a
    session, whatever its number, and one execution context for all shapes, so a replay would use
    the addresses and shapes of another.

    Args:
        stream: address of the CUDA stream.
        gpu: index of the GPU.
        spec: of the graph.
        precision: of the graph. Networks are weakly typed in this provider, so float16 is allowed
            only where the graph has it, and int8 likewise.
        batch: most streams that go through the graph together.
        places: candidates K of a frame.
        cache: folder for engines and timings; None keeps none.
    """
    options = {
        "device_id": str(gpu),
        "user_compute_stream": str(stream),
        "trt_fp16_enable": str(precision == "fp16"),
        "trt_int8_enable": str(precision == "int8"),
        **_profile(spec, batch, places),
    }
    if cache is not None:
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(cache),
        }
    return options


def _profile(spec: GraphSpec, batch: int, places: int) -> dict[str, str]:
    """The range of each open side. Without one, an engine is built again for every new length."""
    runs = (min(DECODE_LIMIT, places - begin) for begin in range(0, places, DECODE_LIMIT))
    lengths = {
        "min": {STREAMS: 1, MASKS: min(fixed_count(1, limit) for limit in runs)},
        "opt": {STREAMS: batch, MASKS: fixed_count(1, DECODE_LIMIT)},
        "max": {STREAMS: batch, MASKS: DECODE_LIMIT},
    }
    open_tensors = [
        tensor for tensor in spec.inputs if any(isinstance(side, str) for side in tensor.shape)
    ]
    if not open_tensors:
        return {}
    return {
        f"trt_profile_{which}_shapes": ",".join(
            f"{tensor.name}:{'x'.join(map(str, tensor.sized(sides)))}" for tensor in open_tensors
        )
        for which, sides in lengths.items()
    }


def engine_cache(architecture: str, precision: Precision, checksums: Iterable[str]) -> Path | None:
    """Where TensorRT's engines of some graphs are kept; None if the user has no place for them.

    In the user's cache and not beside the bundle: engines are machine code that no checksum
    covers, and a bundle may come from somebody else. ONNX Runtime names an engine after its graph's
    nodes and not after its weights, so the folder's name has the checksums of the files, and what
    else decides how an engine is built.

    Args:
        architecture: of the GPU, such as ``sm86``.
        precision: of the graphs.
        checksums: of their files.
    """
    folder = user_cache()
    parts = (precision, os.environ.get(TF32, ""), *checksums)
    digest = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    return folder and folder / "onnxruntime-tensorrt" / f"{architecture}-{digest}"


@contextmanager
def without_tf32() -> Iterator[None]:
    """Let NVIDIA's libraries compute float32 in float32 from here on, if the block succeeds.

    TensorRT's builder allows TF32 by default and the provider has no option to forbid it (ONNX
    Runtime's issue 26029; ``trt_op_types_to_exclude`` would leave whole operators to the CUDA
    provider). The libraries read the variable when they start, so it is set for the process; a
    value that the user has set stays.
    """
    if TF32 in os.environ:
        yield
        return
    os.environ[TF32] = "0"
    try:
        yield
    except NotHereError:
        del os.environ[TF32]
        raise
