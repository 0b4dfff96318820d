"""TensorRT engines that take a frame of several streams at once.

Every stream keeps its buffers and its memory to itself, as if it were alone. For a common run the
memories of those that take part are copied side by side on the device, and the outputs back: for
the paper's network some 20 MB a stream, a hundredth of what the network itself takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import STREAMS, GraphName, GraphSpec, TensorSpec
from visolo_runtime.chain import ChainGroup, FrameResult
from visolo_runtime.device import Device, Graph
from visolo_runtime.tensorrt_chain import TensorRtChain
from visolo_runtime.tensorrt_engine import TensorRtEngine

_READ = ("memory_key", "memory_value")


class TensorRtGroup(ChainGroup):
    """Chains of several streams, and a common run of the frame and memory engines.

    Args:
        device: the GPU.
        engines: loaded on it.
        contract: of the graphs.
        streams: number of chains.
        batch: streams that the engines were built for, at most.
        use_graphs: record common runs once for each number of streams, and replay them.
    """

    def __init__(
        self,
        device: Device,
        engines: dict[GraphName, TensorRtEngine],
        contract: dict[GraphName, GraphSpec],
        streams: int,
        batch: int,
        use_graphs: bool = True,
    ) -> None:
        self._streams = [
            TensorRtChain(device, engines, contract, use_graphs) for _ in range(streams)
        ]
        super().__init__(self._streams)
        self.batch = min(batch, streams)
        if self.batch > 1:
            self._together = _Together(device, engines, contract, self.batch, use_graphs)

    def frame(
        self, first: int, images: Sequence[NDArray[np.uint8]], valid: Sequence[NDArray[np.bool_]]
    ) -> list[FrameResult]:
        """Run the network on a frame of each of some neighbouring streams, ``batch`` at most."""
        if len(images) == 1:
            return super().frame(first, images, valid)
        return self._together.frame(self._streams[first : first + len(images)], images, valid)

    def store(self, first: int, slots: Sequence[int]) -> None:
        """Put the frames that were run last into a slot of each stream, ``batch`` at most."""
        if len(slots) == 1:
            super().store(first, slots)
        else:
            self._together.store(self._streams[first : first + len(slots)], slots)


class _Together:
    """Buffers for several streams side by side, and the engines bound to them."""

    def __init__(
        self,
        device: Device,
        engines: dict[GraphName, TensorRtEngine],
        contract: dict[GraphName, GraphSpec],
        batch: int,
        use_graphs: bool,
    ) -> None:
        self._device, self._use_graphs = device, use_graphs
        self._graphs: dict[tuple[GraphName, int], Graph] = {}
        self._outputs = contract["frame"].names("outputs")
        used: tuple[GraphName, ...] = ("frame", "memory")
        specs: dict[str, TensorSpec] = {
            tensor.name: tensor
            for graph in used
            for tensor in (*contract[graph].inputs, *contract[graph].outputs)
        }
        self._row = {
            name: prod(spec.sized({STREAMS: 1})) * np.dtype(spec.dtype).itemsize
            for name, spec in specs.items()
        }
        with device.current():
            self._stream, self._event = device.stream(), device.event()
            self._memory = {name: device.allocate(batch * row) for name, row in self._row.items()}
            self._pinned_image, self._pinned_valid = (
                device.pinned(specs[name].sized({STREAMS: batch}), specs[name].dtype)
                for name in ("image", "memory_valid")
            )
            self._contexts = {graph: engines[graph].context() for graph in used}
            for graph, context in self._contexts.items():
                for tensor in (*contract[graph].inputs, *contract[graph].outputs):
                    context.bind(tensor.name, self._memory[tensor.name].address)

    def frame(
        self,
        chains: Sequence[TensorRtChain],
        images: Sequence[NDArray[np.uint8]],
        valid: Sequence[NDArray[np.bool_]],
    ) -> list[FrameResult]:
        """Run the network on a frame of each chain."""
        device, stream, count = self._device, self._stream, len(chains)
        self._pinned_image[:count], self._pinned_valid[:count] = images, valid
        with device.current():
            device.upload(self._memory["image"].address, self._pinned_image[:count], stream)
            device.upload(self._memory["memory_valid"].address, self._pinned_valid[:count], stream)
            for row, chain in enumerate(chains):
                chain.begin_frame()
                chain.finished(self._event)
                stream.after(self._event)
                for name in _READ:
                    self._copy_in(name, row, chain)
            self._run("frame", count)
            for row, chain in enumerate(chains):
                for name in self._outputs:
                    source = self._at(name, row)
                    device.copy(chain.address(name), source, self._row[name], stream)
                chain.download(stream)
            stream.wait()
        return [chain.result() for chain in chains]

    def store(self, chains: Sequence[TensorRtChain], slots: Sequence[int]) -> None:
        """Put the frame that each chain has run last into a slot of it."""
        device, stream = self._device, self._stream
        with device.current():
            for row, chain in enumerate(chains):
                chain.finished(self._event)
                stream.after(self._event)
                self._copy_in("features", row, chain)
            self._run("memory", len(chains))
            for row, (chain, slot) in enumerate(zip(chains, slots, strict=True)):
                for name, source in (
                    ("key", chain.address("key")),
                    ("value", self._at("value", row)),
                ):
                    size = self._row[name]
                    target = chain.address(f"memory_{name}") + slot * size
                    device.copy(target, source, size, stream)
            self._event.record(stream)
            for chain in chains:
                chain.after(self._event)

    def _at(self, name: str, row: int) -> int:
        return self._memory[name].address + row * self._row[name]

    def _copy_in(self, name: str, row: int, chain: TensorRtChain) -> None:
        size = self._row[name]
        self._device.copy(self._at(name, row), chain.address(name), size, self._stream)

    def _run(self, graph: GraphName, count: int) -> None:
        """Run an engine for so many streams, recorded once for that number where allowed."""
        recorded = self._graphs.get((graph, count))
        if recorded is not None:
            recorded.launch(self._stream)
            return
        context = self._contexts[graph]
        context.set_lengths({STREAMS: count})
        context.run(self._stream)
        if self._use_graphs:
            self._graphs[graph, count] = self._device.capture(
                self._stream, lambda: context.run(self._stream)
            )
