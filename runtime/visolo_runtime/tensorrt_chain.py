"""The three TensorRT engines of one stream, with everything dense left on the GPU.

A frame goes up once, as it comes from the video, and comes down once, as what the host needs for
choosing and association: class scores, queries, keys and kernels, which lie one behind the other.
Masks come down after the choice, the chosen ones only. A memory slot is a place on the device that
the memory engine writes into; the frame engine reads all of them where they lie.

While the host is busy with a frame, the next one can already be on its way: ``prefetch`` puts it
into the other of two image buffers, on a stream of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import MASKS, STREAMS, GraphName, GraphSpec, TensorSpec
from visolo_core.decoding import Ints
from visolo_runtime.chain import DECODE_LIMIT, Chain, DecodedMasks, FrameResult, join_intersections
from visolo_runtime.device import Array, Device, Event, Graph, Memory, Stream
from visolo_runtime.device_stopwatch import DeviceStopwatch
from visolo_runtime.tensorrt_engine import TensorRtEngine

_ALIGNMENT = 256  # bytes, that TensorRT asks of addresses
_DOWNLOADED = ("scores", "query", "key", "kernels")
_COUNTS = ("area", "probability_sum", "intersection")


class TensorRtChain(Chain):
    """Frame, memory and decode engine of one stream, with its memory buffer.

    Args:
        device: the GPU.
        engines: loaded on it.
        contract: of the graphs; of a batch of streams, this one uses one place.
        use_graphs: record the frame and memory engines once and replay them.
    """

    def __init__(
        self,
        device: Device,
        engines: dict[GraphName, TensorRtEngine],
        contract: dict[GraphName, GraphSpec],
        use_graphs: bool = True,
    ) -> None:
        self._device = device
        frame = {tensor.name: tensor for tensor in (*contract["frame"].inputs,
                                                    *contract["frame"].outputs)}  # fmt: skip
        self._specs = frame
        self._use_graphs = use_graphs
        self._graphs: dict[tuple[str, int], Graph] = {}
        with device.current():
            self._stream, self._upload_stream = device.stream(), device.stream()
            self._uploaded, self._image_read = device.event(), device.event()
            self._contexts = {name: engine.context() for name, engine in engines.items()}
            for graph in ("frame", "memory"):
                self._contexts[graph].set_lengths({STREAMS: 1})
            self._lay_out(contract["decode"])
            self._bind()
        self._stopwatch = DeviceStopwatch(device)

    # ------------------------------------------------------------------------------- set-up

    def _lay_out(self, decode: GraphSpec) -> None:
        device, specs = self._device, self._specs
        self._block = _Block(device, [specs[name] for name in _DOWNLOADED])
        self._images = [device.allocate(_nbytes(specs["image"])) for _ in range(2)]
        self._pinned_images = [device.pinned(_shape(specs["image"]), "uint8") for _ in range(2)]
        self._next_image: NDArray[np.uint8] | None = None
        self._current = 0
        names = ("memory_key", "memory_value", "memory_valid", "mask_features", "features")
        self._memory = {name: device.allocate(_nbytes(specs[name])) for name in names}
        self._pinned_valid = device.pinned(_shape(specs["memory_valid"]), "bool")
        _, depth, self._cells = _shape(specs["kernels"])
        self._size = _shape(specs["image"])[1], _shape(specs["image"])[2]
        self._kernels = device.allocate(DECODE_LIMIT * depth * 4)
        self._pinned_kernels = device.pinned((DECODE_LIMIT, depth), "float32")
        pixels = self._size[0] * self._size[1]
        self._masks = device.allocate(DECODE_LIMIT * pixels)
        self._pinned_masks = device.pinned((DECODE_LIMIT, *self._size), "uint8")
        limit = DECODE_LIMIT
        shapes = {"area": (limit,), "probability_sum": (limit,), "intersection": (limit, limit)}
        self._counts = _Block(
            device, [TensorSpec(name, "float32", shapes[name]) for name in _COUNTS]
        )

    def _bind(self) -> None:
        frame, memory, decode = (self._contexts[name] for name in ("frame", "memory", "decode"))
        for name in ("memory_key", "memory_value", "memory_valid", "mask_features", "features"):
            frame.bind(name, self._memory[name].address)
        for name in _DOWNLOADED:
            frame.bind(name, self._block.address(name))
        memory.bind("features", self._memory["features"].address)
        decode.bind("mask_features", self._memory["mask_features"].address)
        decode.bind("kernels", self._kernels.address)
        decode.bind("masks", self._masks.address)
        for name in _COUNTS:
            decode.bind(name, self._counts.address(name))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the image that the frame engine takes."""
        return self._size

    @property
    def slots(self) -> int:
        """Number of memory slots T."""
        return _shape(self._specs["memory_key"])[1]

    # ------------------------------------------------------------------------------- a frame

    def prefetch(self, image: NDArray[np.uint8]) -> None:
        """Let the next frame go up while the host is busy with this one.

        Args:
            image: uint8 [H, W, 3] at the input size; ``frame`` must be called with it next.
        """
        with self._device.current():
            self._upload(image, 1 - self._current)
        self._next_image = image

    def frame(self, image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> FrameResult:
        """Run the network on a frame.

        Args:
            image: uint8 [H, W, 3] RGB at the input size.
            valid: bool [T + 1], the slots to read; the last is the frame itself.
        """
        self.begin_frame()
        with self._device.current():
            self._current = 1 - self._current
            if self._next_image is not image:
                self._upload(image, self._current)
            self._next_image = None
            self._pinned_valid[0] = valid
            valid_address = self._memory["memory_valid"].address
            self._device.upload(valid_address, self._pinned_valid, self._stream)
            self._stream.after(self._uploaded)
            self._contexts["frame"].bind("image", self._images[self._current].address)
            self._run("frame", self._current)
            self._image_read.record(self._stream)
            with self._stopwatch.timed("download", self._stream):
                self._block.download(self._device, self._stream)
            self._stream.wait()
        return self.result()

    def store(self, slot: int) -> None:
        """Put the frame that was run last into a slot."""
        key, value = self._specs["key"], self._memory["memory_value"]
        key_bytes, value_bytes = _nbytes(key), value.nbytes // self.slots
        target = self._memory["memory_key"].address + slot * key_bytes
        with self._device.current():
            self._device.copy(target, self._block.address("key"), key_bytes, self._stream)
            self._contexts["memory"].bind("value", value.address + slot * value_bytes)
            self._run("memory", slot)

    def _upload(self, image: NDArray[np.uint8], place: int) -> None:
        # The image before it must have been read, and its copy from this pinned buffer be done.
        self._uploaded.wait()
        self._upload_stream.after(self._image_read)
        self._pinned_images[place][0] = image
        with self._stopwatch.timed("upload", self._upload_stream):
            self._device.upload(
                self._images[place].address, self._pinned_images[place], self._upload_stream
            )
        self._uploaded.record(self._upload_stream)

    def _run(self, graph: GraphName, variant: int) -> None:
        """Run an engine, recorded for the addresses that it is bound to where that is allowed."""
        context = self._contexts[graph]
        recorded = self._graphs.get((graph, variant))
        if recorded is not None:
            with self._stopwatch.timed(f"{graph} graph", self._stream):
                recorded.launch(self._stream)
            return
        # An engine allocates when it first runs; only after that can it be recorded.
        with self._stopwatch.timed(f"{graph} graph", self._stream):
            context.run(self._stream)
        if self._use_graphs:
            self._graphs[graph, variant] = self._device.capture(
                self._stream, lambda: context.run(self._stream)
            )

    def device_ms(self) -> dict[str, float]:
        """By events on the device's streams. What :meth:`prefetch` has sent up is not in it."""
        with self._device.current():
            return self._stopwatch.milliseconds()

    # ------------------------------------------------------------- for runs of several streams

    def begin_frame(self) -> None:
        """Time what follows as another frame's."""
        self._stopwatch.reset()

    def finished(self, event: Event) -> None:
        """Make ``event`` the moment at which all is done that this chain has begun."""
        event.record(self._stream)

    def after(self, event: Event) -> None:
        """Let what comes next begin when ``event`` has happened."""
        self._stream.after(event)

    def download(self, stream: Stream) -> None:
        """Bring down what the host needs of a frame."""
        self._block.download(self._device, stream)

    def result(self) -> FrameResult:
        """What was brought down last."""
        return FrameResult(*(self._block.array(name)[0] for name in ("scores", "query", "key")))

    def address(self, name: str) -> int:
        """Where a tensor of the frame graph lies on the device, by its contract name."""
        if name in _DOWNLOADED:
            return self._block.address(name)
        return (self._images[self._current] if name == "image" else self._memory[name]).address

    # -------------------------------------------------------------------- for verification

    def read(self, name: str) -> Array:
        """A copy, by way of the host."""
        spec = self._specs[name]
        found = self._device.pinned(_shape(spec), spec.dtype)
        with self._device.current():
            self._device.download(found, self.address(name), self._stream)
            self._stream.wait()
        return found

    def write(self, name: str, values: Array) -> None:
        """By way of the host."""
        spec = self._specs[name]
        source = self._device.pinned(_shape(spec), spec.dtype)
        np.copyto(source, values)
        with self._device.current():
            self._device.upload(self.address(name), source, self._stream)
            if name in _DOWNLOADED:
                self._block.download(self._device, self._stream)
            self._stream.wait()

    # ----------------------------------------------------------------------------- the masks

    def decode(self, cell: Ints) -> DecodedMasks:
        """Masks of cells int64 [N], N at least 1, of the frame that was run last."""
        parts = []
        kernels = self._block.array("kernels")[0]
        for begin in range(0, len(cell), DECODE_LIMIT):
            chosen = cell[begin : begin + DECODE_LIMIT]
            parts.append(self._decode_part(kernels[:, chosen].T, len(chosen)))
        if len(parts) == 1:
            return parts[0]
        return DecodedMasks(
            np.concatenate([part.masks for part in parts]),
            np.concatenate([part.area for part in parts]),
            np.concatenate([part.probability_sum for part in parts]),
            join_intersections(parts),
        )

    def _decode_part(self, kernels: Array, count: int) -> DecodedMasks:
        device, stream = self._device, self._stream
        with device.current():
            np.copyto(self._pinned_kernels[:count], kernels)
            device.upload(self._kernels.address, self._pinned_kernels[:count], stream)
            self._contexts["decode"].set_lengths({MASKS: count})
            with self._stopwatch.timed("decode graph", stream):
                self._contexts["decode"].run(stream)
            with self._stopwatch.timed("download", stream):
                device.download(self._pinned_masks[:count], self._masks.address, stream)
                self._counts.download(device, stream)
            stream.wait()
        area, probability_sum, pairs = (self._counts.array(name) for name in _COUNTS)
        return DecodedMasks(
            self._pinned_masks[:count].copy(),
            area[:count].copy(),
            probability_sum[:count].copy(),
            pairs.ravel()[: count * count].reshape(count, count).copy(),
        )


class _Block:
    """Tensors of float32 that lie one behind the other, to be downloaded in one go."""

    def __init__(self, device: Device, specs: Sequence[TensorSpec]) -> None:
        self._offsets: dict[str, int] = {}
        end = 0
        for spec in specs:
            self._offsets[spec.name] = end
            end += -(-_nbytes(spec) // _ALIGNMENT) * _ALIGNMENT
        self._shapes = {spec.name: _shape(spec) for spec in specs}
        self._memory: Memory = device.allocate(end)
        self._pinned = device.pinned((end // 4,), "float32")

    def address(self, name: str) -> int:
        """On the device."""
        return self._memory.address + self._offsets[name]

    def array(self, name: str) -> Array:
        """What was downloaded last."""
        first, shape = self._offsets[name] // 4, self._shapes[name]
        return self._pinned[first : first + prod(shape)].reshape(shape)

    def download(self, device: Device, stream: Stream) -> None:
        """All of it."""
        device.download(self._pinned, self._memory.address, stream)


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    return spec.sized({STREAMS: 1})


def _nbytes(spec: TensorSpec) -> int:
    return prod(_shape(spec)) * np.dtype(spec.dtype).itemsize
