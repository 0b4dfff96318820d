"""TensorRT engines of a bundle, on a GPU."""

from __future__ import annotations

from visolo_core.contract import GraphName, GraphSpec
from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Bundle, GraphFiles
from visolo_runtime.chain import StreamEngines
from visolo_runtime.device import CudaDevice, Device
from visolo_runtime.tensorrt_chain import TensorRtChain
from visolo_runtime.tensorrt_engine import TensorRtEngine, TensorRtLibrary
from visolo_runtime.tensorrt_group import TensorRtGroup
from visolo_runtime.tensorrt_library import Library


class TensorRtEngines(StreamEngines):
    """Engines that are loaded on a GPU, shared by sessions.

    Args:
        device: the GPU.
        library: that built the engines.
        engines: loaded on the device.
        contract: of the graphs.
        batch: streams that the engines were built for, at most.
    """

    def __init__(
        self,
        device: Device,
        library: TensorRtLibrary,
        engines: dict[GraphName, TensorRtEngine],
        contract: dict[GraphName, GraphSpec],
        batch: int = 1,
    ) -> None:
        self.device, self._library, self._engines = device, library, engines
        self.contract, self._batch = contract, batch

    @property
    def description(self) -> str:
        """Library, version and device, for people."""
        return f"{self._library.name} {self._library.version}, {self.device.name}"

    def chain(self) -> TensorRtChain:
        """Buffers and bindings for one more stream."""
        return TensorRtChain(*self.parts())

    def group(self, streams: int) -> TensorRtGroup:
        """Several streams, which go through the frame and memory engines together."""
        return TensorRtGroup(*self.parts(), streams, self._batch)

    def parts(
        self,
    ) -> tuple[Device, dict[GraphName, TensorRtEngine], dict[GraphName, GraphSpec]]:
        """What a chain is made of."""
        return self.device, self._engines, self.contract


def open_tensorrt(
    bundle: Bundle, name: Library, precision: str = "", gpu: int = 0, rebuild: bool = False
) -> TensorRtEngines:
    """Load the engines of a bundle.

    Args:
        bundle: it has graphs of the format ``name``.
        name: ``tensorrt`` or ``tensorrt-rtx``.
        precision: of the engines; without one, the first that the bundle has.
        gpu: index of the GPU.
        rebuild: build engines again that another version built, or for another GPU.

    Raises:
        VisoloError: if the library, pycuda or the GPU is missing, or the engines were built by
            another version or for another GPU.
    """
    files, graphs = bundle.graph_files(name, precision), bundle.graphs(name, precision)
    library, device = TensorRtLibrary(name), CudaDevice(gpu)
    try:
        check_fit(bundle, graphs, library.version, device.architecture)
    except VisoloError:
        if not rebuild:
            raise
        # The builder belongs to another room, so it is asked for only here.
        from visolo_export.rebuild import rebuild_engines

        targets = (device.architecture,) if name == "tensorrt-rtx" else ()
        bundle = rebuild_engines(bundle, graphs, targets)
        files = bundle.graph_files(name, precision)
    contract = bundle.manifest.contract
    with device.current():
        engines = {graph: library.load(file, contract[graph]) for graph, file in files.items()}
    return TensorRtEngines(device, library, engines, contract, bundle.manifest.batch)


def check_fit(bundle: Bundle, graphs: GraphFiles, version: str, architecture: str) -> None:
    """Make sure that engines can run here, before TensorRT says so in its own words.

    Args:
        bundle: for the command to mend it.
        graphs: what the bundle says of its engines.
        version: of the library that is installed.
        architecture: of the GPU, such as ``sm86``.

    Raises:
        VisoloError: if they cannot.
    """
    again = (
        f"build them again, visolo export WEIGHTS -o {bundle.folder} --format {graphs.format}"
        + (f" --precision {graphs.precision}" if graphs.precision != "fp32" else "")
        + (f" --target {architecture}" if graphs.format == "tensorrt-rtx" else "")
        + ", or run with --rebuild if its ONNX graphs are in the bundle"
    )
    if graphs.library != version:
        raise VisoloError(
            f"the engines in '{bundle.folder}' were built by {graphs.format} {graphs.library}, "
            f"here it is {version}: {again}"
        )
    if graphs.targets and architecture not in graphs.targets:
        raise VisoloError(
            f"the engines in '{bundle.folder}' were built for {', '.join(graphs.targets)}, this "
            f"GPU is {architecture}: {again}"
        )
