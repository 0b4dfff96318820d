"""Measures a CPU's peak rates: multiply-adds in large products and convolutions, bytes in a copy.

Products and convolutions are run by the library that runs a model's engines, with the engines' own
settings, and products also by NumPy. The highest rate of all is the peak, so that no graph is
compared with too low a peak.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.layer_counts import Layer, count_graph, total
from visolo_core.contract import GraphName, GraphSpec, TensorSpec
from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.host_buffers import HostBackend
from visolo_runtime.engines.onnxruntime.backend import OnnxRuntimeBackend
from visolo_runtime.engines.openvino.backend import OpenVinoBackend

Run = Callable[[], object]
BackendType = Callable[[dict[GraphName, Path]], HostBackend]

PRODUCT_SIZES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 2304, 256))
"""Rows, inner length and columns; the last is the convolution of 256 channels, unrolled."""
CONVOLUTIONS = (((1, 256, 64, 96), (256, 256, 3, 3)), ((1, 1024, 64, 64), (1024, 1024, 1, 1)))
"""Image and weight."""
_LIBRARIES: dict[str, BackendType] = {
    "onnxruntime": OnnxRuntimeBackend,
    "openvino": OpenVinoBackend,
}
_BEST_OF = 3
_SETTLE_S = 0.1  # until the threads of NumPy's library stop spinning
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Machine:
    """Peak rates of a machine."""

    gmacs: float
    """multiply-adds in float32, 1e9 a second"""
    int8_gmacs: float
    """multiply-adds in 8-bit integers, 1e9 a second"""
    gbs: float
    """memory, 1e9 bytes read or written a second"""
    cache_bytes: float
    """size of the last-level cache; infinite if unknown"""

    def compute_ms(self, layer: Layer) -> float:
        """Shortest time of a layer's multiply-adds."""
        return layer.macs_inside / self._rate(layer)

    def direct_ms(self, layer: Layer) -> float:
        """Shortest time of a layer's multiply-adds if every convolution is computed directly."""
        return layer.macs_direct / self._rate(layer)

    def _rate(self, layer: Layer) -> float:
        """Multiply-adds per millisecond."""
        return (self.int8_gmacs if layer.int8 else self.gmacs) * 1e6

    def floor_ms(self, layer: Layer) -> float:
        """Shortest time of a layer, by arithmetic and by memory."""
        bytes_ms = layer.compulsory_bytes(self.cache_bytes) / self.gbs / 1e6
        return max(self.compute_ms(layer), bytes_ms)


@dataclass(frozen=True)
class Probe:
    """A large product or convolution."""

    name: str
    macs: int
    run: Run
    int8: bool = False

    def gmacs(self) -> float:
        """Measure its rate, 1e9 multiply-adds a second."""
        return self.macs / best_seconds(self.run) / 1e9


@dataclass(frozen=True)
class Peaks:
    """The result of one measurement."""

    machine: Machine
    gmacs: dict[str, float]
    """of each probe"""

    def or_higher(self, other: Peaks) -> Peaks:
        """The higher of each rate in two measurements of the same machine."""
        first, second = self.machine, other.machine
        return Peaks(
            Machine(
                max(first.gmacs, second.gmacs),
                max(first.int8_gmacs, second.int8_gmacs),
                max(first.gbs, second.gbs),
                first.cache_bytes,
            ),
            {name: max(rate, other.gmacs[name]) for name, rate in self.gmacs.items()},
        )


class PeakMeter:
    """Measures this machine's peaks with the library that runs a model's engines.

    Args:
        engines: of the model.
        int8: measure int8 convolutions as well.

    Raises:
        VisoloError: if the library's peak cannot be measured.
    """

    def __init__(self, engines: Engines, int8: bool) -> None:
        library = _library(engines)
        self.cache_bytes = last_level_cache()
        with tempfile.TemporaryDirectory() as folder:
            self._probes = _probes(library, Path(folder), int8)
        self._copy = _Copy(self.cache_bytes)

    def measure(self) -> Peaks:
        """Run every probe and the copy."""
        gmacs = {probe.name: probe.gmacs() for probe in self._probes}
        time.sleep(_SETTLE_S)
        gbs = self._copy.bytes / best_seconds(self._copy.run) / 1e9
        single = max(gmacs[probe.name] for probe in self._probes if not probe.int8)
        # Integers are not always faster, and no layer is forced to use them.
        return Peaks(Machine(single, max(gmacs.values()), gbs, self.cache_bytes), gmacs)


def best_seconds(run: Run) -> float:
    """Seconds of the fastest of a few runs, after a warm-up run."""
    run()
    seconds = []
    for _ in range(_BEST_OF):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def last_level_cache(folder: Path = _CACHES) -> float:
    """Bytes of the last-level cache; infinite if unknown, so that no byte counts.

    Args:
        folder: where Linux describes the caches of a core.
    """
    sizes = {}
    for index in folder.glob("index*"):
        try:
            level, size = ((index / name).read_text().strip() for name in ("level", "size"))
            sizes[int(level)] = int(size.removesuffix("K")) * 1024
        except (OSError, ValueError):
            continue
    return float(sizes[max(sizes)]) if sizes else float("inf")


class _Copy:
    """A copy by all cores, between arrays much larger than the cache."""

    def __init__(self, cache_bytes: float) -> None:
        at_least = 64 << 20
        size = int(max(at_least, 4 * cache_bytes)) if np.isfinite(cache_bytes) else 4 * at_least
        source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
        self._threads = ThreadPoolExecutor(os.cpu_count())
        cores = os.cpu_count() or 1
        self._parts = np.array_split(source, cores), np.array_split(target, cores)
        self.bytes = 2 * size

    def run(self) -> None:
        sources, targets = self._parts
        list(self._threads.map(np.copyto, targets, sources))


def _library(engines: Engines) -> BackendType:
    name = engines.backend.name
    if name not in _LIBRARIES or not engines.description.endswith("CPU"):
        raise VisoloError(
            f"the peak of '{engines.description}' cannot be measured: "
            f"choose --backend {' or '.join(_LIBRARIES)}"
        )
    return _LIBRARIES[name]


def _probes(library: BackendType, folder: Path, int8: bool) -> list[Probe]:
    random = np.random.default_rng(0)

    def normal(shape: Sequence[int]) -> Array:
        return random.standard_normal(tuple(shape), np.float32)

    probes = []
    for rows, inner, columns in PRODUCT_SIZES:
        left, right = normal((rows, inner)), normal((inner, columns))
        name, into = f"product {rows}x{inner}x{columns}", np.empty((rows, columns), np.float32)
        probes.append(_graph_probe(name, library, folder, left, right))
        probes.append(Probe(f"{name}, NumPy", probes[-1].macs, _numpy_product(left, right, into)))
    for image_shape, weight_shape in CONVOLUTIONS:
        image, weight = normal(image_shape), normal(weight_shape)
        name = "convolution {2}x{3}, {0} channels".format(*weight_shape)
        probes.append(_graph_probe(name, library, folder, image, weight))
        if int8:
            probes.append(_graph_probe(f"{name}, int8", library, folder, image, weight, True))
    return probes


def _numpy_product(left: Array, right: Array, into: Array) -> Run:
    return lambda: np.matmul(left, right, out=into)


def _graph_probe(
    name: str, library: BackendType, folder: Path, data: Array, weight: Array, int8: bool = False
) -> Probe:
    """A graph of one operator: a convolution of an image, or a product of matrices."""
    convolution = data.ndim == 4
    shape = (1, weight.shape[0], *data.shape[2:]) if convolution else (len(data), weight.shape[1])
    proto = _one_operator("Conv" if convolution else "MatMul", data, weight, shape)
    file = folder / "probe.onnx"
    onnx.save(proto, file)
    if int8:
        from visolo_export.quantisation import calibrate, to_int8

        to_int8(file, file, calibrate(file, [{"x": data}]))
    buffers = {"x": data, "y": np.empty(shape, np.float32)}
    spec = GraphSpec(
        (TensorSpec("x", "float32", data.shape),), (TensorSpec("y", "float32", shape),)
    )
    context = library({"frame": file}).engine("frame", spec).context()
    context.bind_input("x", buffers["x"])
    context.bind_output("y", buffers["y"])
    macs = total(count_graph(proto, "frame", {}), "macs_inside")

    def run() -> dict[str, Array]:
        context.run()
        return buffers  # keeps them alive: a library may store only their addresses

    return Probe(name, macs, run, int8)


def _one_operator(
    operator: str, data: Array, weight: Array, shape: tuple[int, ...]
) -> onnx.ModelProto:
    attributes: dict[str, Any] = {}
    if operator == "Conv":
        attributes["pads"] = [weight.shape[-1] // 2] * 4
    single = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"], name="probe", **attributes)],
        "probe",
        [helper.make_tensor_value_info("x", single, data.shape)],
        [helper.make_tensor_value_info("y", single, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
