"""Buffers on a GPU: everything dense stays there, and a frame is one launch and one wait.

The images go up; the frame graph, the mask graph, the decode graph for a fixed number of the best
cells and the memory graph run; what is known about those cells and their masks comes down. Nothing
in between needs the host, so all of it is recorded once and launched as a whole. The slot that a
frame is stored in changes from frame to frame: its contents are copied there after the launch.

A stream that found nothing in its last frame asks first: its frame is launched without masks, and
the mask graph follows only if there are candidates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

import numpy as np

from visolo_core.contract import MASKS, STREAMS, GraphName, TensorSpec
from visolo_core.decoding import Candidates, Ints
from visolo_core.errors import VisoloError
from visolo_core.pixels import PixelGraph
from visolo_runtime.engines.buffers import (
    CELL_OUTPUTS,
    COUNT_OUTPUTS,
    DECODE_LIMIT,
    FRAME_INPUTS,
    KEPT,
    Array,
    Buffers,
    DecodedMasks,
    FrameInput,
    Storage,
    as_candidates,
    fixed_count,
    join_parts,
    neighbouring_rows,
)
from visolo_runtime.engines.device_array import DeviceArray
from visolo_runtime.engines.dlpack import CUDA
from visolo_runtime.engines.engine import Engine, Engines
from visolo_runtime.engines.raw_frame import usual_frames
from visolo_runtime.engines.tensorrt.device import CudaGraph, CudaStream, Device
from visolo_runtime.engines.tensorrt.device_block import DeviceBlock
from visolo_runtime.engines.tensorrt.device_tensors import DeviceTensors
from visolo_runtime.engines.tensorrt.engine import Scratch, TensorRtContext, TensorRtEngine
from visolo_runtime.engines.tensorrt.frame_resizer import FrameResizer
from visolo_runtime.engines.tensorrt.stopwatch import DeviceStopwatch

_LOG = logging.getLogger(__name__)
_TARGETS = 2
"""Arrays for results in host memory, in turns: the next frame may be launched while the host still
works on the last one."""


@dataclass(frozen=True)
class _Launch:
    """One frame of neighbouring rows, as it is recorded."""

    rows: range
    masks: int
    """masks that are decoded for each row; 0 if the host asks for candidates first"""
    target: int
    """which of the arrays in host memory the results come down to"""
    images: bool = True
    """Whether images go up with it; if not, they are on the device already."""


class DeviceBuffers(Buffers):
    """Device memory for a number of rows, and contexts of TensorRT engines bound to it.

    What a row keeps from frame to frame has a place for every row. All else exists once for each
    row of a launch.

    Args:
        device: the GPU.
        engines: loaded on it.
        rows: number of streams.
        use_graphs: record each kind of launch once and replay it.
        pixels: engines that resize frames, loaded on it; without any, the host does.

    Raises:
        VisoloError: if the device is out of memory.
    """

    def __init__(
        self,
        device: Device,
        engines: Engines,
        rows: int,
        use_graphs: bool = True,
        pixels: Mapping[PixelGraph, TensorRtEngine] = MappingProxyType({}),
    ) -> None:
        super().__init__(engines.contract, rows, engines.batch)
        self._device, self._engines, self._use_graphs = device, engines, use_graphs
        self._contexts: dict[tuple[GraphName, int], TensorRtContext] = {}
        self._graphs: dict[_Launch, CudaGraph] = {}
        self._launched = _Launch(range(0), 0, 0)
        self._masked: set[int] = set()
        """Rows whose mask features are computed."""
        self._overwritten = False
        """Whether :meth:`write` changed something since the launch."""
        self._hands_out = False
        self._expected = [1] * rows
        """Candidates of each row's last frame."""
        with device.current():
            self._stream = device.stream()
            self._done = device.signal()
            self._tensors = DeviceTensors(device, self.specs, self._stream)
            if not self._tensors.have_neighbours:
                self.batch = 1
            self._allocate()
            self._scratch = self._allocate_scratch([*engines.by_graph.values(), *pixels.values()])
        self.resizes, self.gpu, self.computes_ahead = bool(pixels), device.index, True
        self._resizer = FrameResizer(
            device, pixels, self.input_size, self._stream, rows, use_graphs, self._scratch
        )
        self._stopwatch = DeviceStopwatch(device)

    def __del__(self) -> None:
        # The memory must not go while the device still works in it; not every call waits.
        stream: CudaStream | None = getattr(self, "_stream", None)
        if stream is not None:
            # Of a device that fails here, the next call reports it.
            with suppress(VisoloError), self._device.current():
                stream.wait()

    # ------------------------------------------------------------------------------- set-up

    def _allocate(self) -> None:
        device, batch, tensors = self._device, self.batch, self._tensors
        self._results = DeviceBlock(device, tensors.allocate, self._result_tensors(batch), _TARGETS)
        tensors.place_in(self._results, CELL_OUTPUTS)
        depth = tensors.shape("kernels")[1]
        self._kernel_bytes = depth * np.dtype(np.float32).itemsize
        tensors.place(self.rows, batch)
        self._pinned = {
            name: device.pinned(tensors.shape(name, batch), self.specs[name].dtype)
            for name in FRAME_INPUTS
        }
        self._values = tensors.allocate(batch * self._slot_bytes("memory_value"))
        self._mask_bytes = prod(self.input_size)
        self._masks = tensors.allocate(batch * DECODE_LIMIT * self._mask_bytes)
        self._pinned_masks = [
            device.pinned((batch, DECODE_LIMIT, *self.input_size), "uint8") for _ in range(_TARGETS)
        ]
        self._kernels = tensors.allocate(DECODE_LIMIT * self._kernel_bytes)
        self._pinned_kernels = device.pinned((DECODE_LIMIT, depth), "float32")

    def _allocate_scratch(self, engines: Sequence[Engine[TensorRtContext]]) -> Scratch:
        """Enough for any of the engines, once and for all: recordings use it where it is."""
        sizes = [each.scratch_bytes for each in engines if isinstance(each, TensorRtEngine)]
        return Scratch(self._tensors.allocate(max(sizes)), max(sizes))

    def _result_tensors(self, batch: int) -> list[TensorSpec]:
        """What comes down of every frame; the counts of each row are on their own, since engines
        write to aligned addresses."""
        cells = [
            replace(self.specs[name], shape=self._tensors.shape(name, batch))
            for name in CELL_OUTPUTS
        ]
        one, pairs = (DECODE_LIMIT,), (DECODE_LIMIT, DECODE_LIMIT)
        counts = [
            TensorSpec(_of_place(name, at), "float32", pairs if name == "intersection" else one)
            for at in range(batch)
            for name in COUNT_OUTPUTS
        ]
        return [*cells, *counts]

    def _context(self, graph: GraphName, count: int) -> TensorRtContext:
        """The context for so many rows, or for so many masks. Its shapes never change: work that
        was recorded with other shapes than a context has now may be replayed wrongly."""
        context = self._contexts.get((graph, count))
        if context is None:
            engine = self._engines.by_graph[graph]
            assert isinstance(engine, TensorRtEngine)
            context = engine.context(self._use_graphs, self._scratch)
            context.set_lengths({MASKS if graph == "decode" else STREAMS: count})
            self._contexts[graph, count] = context
        return context

    # ------------------------------------------------------------------------------- a frame

    def submit(self, rows: range, inputs: Sequence[FrameInput]) -> None:
        """Launch everything for a frame of each row."""
        self._stopwatch.reset()
        for name in FRAME_INPUTS[1:]:
            pinned = self._pinned[name]
            for at, each in enumerate(inputs):
                pinned[at] = getattr(each, name)
        with self._device.current():
            images = self._stage_images(inputs)
            target = (self._launched.target + 1) % _TARGETS
            masks = self._masks_to_expect(rows)
            self._launched = _Launch(rows, masks, target, images)
            self._masked = set(rows) if masks else set()
            self._overwritten = False
            self._launch(self._launched)

    def frame(self) -> list[Candidates]:
        """Wait for what was launched."""
        launched = self._launched
        with self._device.current():
            self._done.wait()
        self._resizer.release()
        candidates = []
        for at, row in enumerate(launched.rows):
            count, *cells = (
                self._results.array(name, launched.target)[at] for name in CELL_OUTPUTS
            )
            self._expected[row] = int(count)
            threshold = float(self._pinned["score_threshold"][at])
            candidates.append(as_candidates(self, row, int(count), cells, threshold))
        return candidates

    def mask(self, rows: Sequence[int]) -> None:
        """Run the mask graph for rows of which nothing was expected."""
        missing = [row for row in rows if self._overwritten or row not in self._masked]
        with self._device.current():
            for run in neighbouring_rows(missing):
                self._run_mask(self._launched.rows.index(run.start), len(run))
        self._masked.update(rows)

    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        """What came down with the frame, or the decode graph for cells that were not expected."""
        launched, count = self._launched, len(cell)
        place = launched.rows.index(row)
        if count <= launched.masks and not self._overwritten:
            area, probability_sum, pairs = (
                self._results.array(_of_place(name, place), launched.target)
                for name in COUNT_OUTPUTS
            )
            with self._device.current():
                handed_out = self._handed_out(place, count)
            return DecodedMasks(
                self._pinned_masks[launched.target][place, :count],
                area[:count],
                probability_sum[:count],
                _square(pairs, launched.masks)[:count, :count],
                handed_out,
            )
        parts = []
        with self._device.current():
            chosen_there = count <= self.places and not self._overwritten
            kernels = None if chosen_there else self._read("kernels", row)[0]
            for begin in range(0, count, DECODE_LIMIT):
                some = cell[begin : begin + DECODE_LIMIT]
                if kernels is None:
                    limit = min(DECODE_LIMIT, self.places - begin)
                    address = self._tensors.placed("cell_kernel", place)
                    address += begin * self._kernel_bytes
                else:
                    limit, address = DECODE_LIMIT, self._upload_kernels(kernels[:, some].T)
                parts.append(self._decode_now(place, len(some), limit, address))
        masks = parts[0].masks
        if len(parts) > 1:
            masks = np.concatenate([part.masks for part in parts])
        return join_parts(parts, masks)

    def store(self, rows: range, storage: Sequence[Storage]) -> None:
        """Copy what the memory graph computed, and the keys, to where they are kept."""
        key_bytes, value_bytes = (self._slot_bytes(name) for name in ("memory_key", "memory_value"))
        kept = self._tensors.kept
        with self._device.current():
            for at, (row, each) in enumerate(zip(rows, storage, strict=True)):
                key, recent = self._tensors.placed("key", at), kept("recent_key", row)
                if each.slot is not None:
                    value, slot = self._values + at * value_bytes, each.slot
                    self._copy(kept("memory_value", row) + slot * value_bytes, value, value_bytes)
                    self._copy(kept("memory_key", row) + slot * key_bytes, key, key_bytes)
                if each.keeps_previous:
                    self._copy(recent + key_bytes, recent, key_bytes)
                self._copy(recent, key, key_bytes)

    # ------------------------------------------------------------------------- what is launched

    def _stage_images(self, inputs: Sequence[FrameInput]) -> bool:
        """Whether all images are ready to go up together; if not, each is on its way."""
        together = all(isinstance(each.image, np.ndarray) for each in inputs)
        for at, each in enumerate(inputs):
            address = self._tensors.placed("image", at)
            if not isinstance(each.image, np.ndarray):
                with self._timed("resize"):
                    self._resizer.resize(each.image, at, address)
                continue
            pinned = self._pinned["image"][at]
            pinned[...] = each.image
            if not together:
                self._device.upload(address, pinned, self._stream)
        return together

    def _masks_to_expect(self, rows: range) -> int:
        most = max(self._expected[row] for row in rows)
        limit = min(DECODE_LIMIT, self.places)
        return fixed_count(min(most, limit), limit) if most else 0

    def _launch(self, launch: _Launch) -> None:
        recorded = None if self.measured else self._graphs.get(launch)
        if recorded is not None:
            recorded.launch(self._stream)
            return
        self._give(launch, recording=False)
        # An engine allocates when it first runs; only after that can it be recorded.
        if self._use_graphs and not self.measured:
            self._record(launch)

    def _record(self, launch: _Launch) -> None:
        """Record what has just been done once plainly. Where that fails all goes on plainly."""
        try:
            if not self._context("frame", len(launch.rows)).can_be_recorded(self._stream):
                raise VisoloError("the library says that its work cannot be recorded")
            self._graphs[launch] = self._device.capture(
                self._stream, lambda: self._give(launch, recording=True)
            )
        except VisoloError as error:
            self._use_graphs = False
            _LOG.warning(
                "the frame is not recorded as one launch and costs more each time: %s", str(error)
            )  # its words: it holds on to these buffers itself

    def _give(self, launch: _Launch, recording: bool) -> None:
        """Give everything for a frame of some rows to the device."""
        count = len(launch.rows)
        with self._timed("upload"):
            for name in FRAME_INPUTS if launch.images else FRAME_INPUTS[1:]:
                pinned = self._pinned[name][:count]
                self._device.upload(self._tensors.placed(name, 0), pinned, self._stream)
        with self._timed("frame graph"):
            context = self._context("frame", count)
            for tensor in self._engines.contract["frame"].inputs:
                context.bind(tensor.name, self._address(tensor.name, launch.rows.start))
            for tensor in self._engines.contract["frame"].outputs:
                context.bind(tensor.name, self._tensors.placed(tensor.name, 0))
            context.run(self._stream)
        if launch.masks:
            self._run_mask(0, count)
            with self._timed("decode graph"):
                for at in range(count):
                    kernels = self._tensors.placed("cell_kernel", at)
                    self._run_decode(self._context("decode", launch.masks), at, kernels)
        with self._timed("download"):
            self._results.download(launch.target, self._stream)
            for at in range(count if launch.masks else 0):
                masks = self._pinned_masks[launch.target][at, : launch.masks]
                self._device.download(masks, self._masks_address(at), self._stream)
        self._done.record(self._stream, recording)
        with self._timed("memory graph"):
            context = self._context("memory", count)
            context.bind("features", self._tensors.placed("features", 0))
            context.bind("value", self._values)
            context.run(self._stream)

    def _run_mask(self, place: int, count: int) -> None:
        with self._timed("mask graph"):
            context = self._context("mask", count)
            mask = self._engines.contract["mask"]
            for tensor in (*mask.inputs, *mask.outputs):
                context.bind(tensor.name, self._tensors.placed(tensor.name, place))
            context.run(self._stream)

    def _run_decode(self, context: TensorRtContext, place: int, kernels: int) -> None:
        context.bind("mask_features", self._tensors.placed("mask_features", place))
        context.bind("kernels", kernels)
        context.bind("masks", self._masks_address(place))
        for name in COUNT_OUTPUTS:
            context.bind(name, self._results.address(_of_place(name, place)))
        context.run(self._stream)

    def _upload_kernels(self, kernels: Array) -> int:
        """Send kernels [N, D] up; returns their address."""
        pinned = self._pinned_kernels[: len(kernels)]
        np.copyto(pinned, kernels)
        self._device.upload(self._kernels, pinned, self._stream)
        return self._kernels

    def _decode_now(self, place: int, count: int, limit: int, kernels: int) -> DecodedMasks:
        """Decode so many masks and wait for them; at an address lie ``limit`` kernels, theirs
        first."""
        target, stream = self._launched.target, self._stream
        fixed = fixed_count(count, limit)
        with self._timed("decode graph"):
            self._run_decode(self._context("decode", fixed), place, kernels)
        names = [_of_place(name, place) for name in COUNT_OUTPUTS]
        masks = self._pinned_masks[target][place, :count]
        with self._timed("download"):
            self._device.download(masks, self._masks_address(place), stream)
            self._results.download(target, stream, names)
        stream.wait()
        area, probability_sum, pairs = (self._results.array(name, target) for name in names)
        return DecodedMasks(
            masks.copy(),
            area[:count].copy(),
            probability_sum[:count].copy(),
            _square(pairs, fixed)[:count, :count].copy(),
            self._handed_out(place, count),
        )

    def hand_out_masks(self) -> None:
        """Copies, in memory that is freed when nobody uses them any more."""
        self._hands_out = True

    def _handed_out(self, place: int, count: int) -> tuple[DeviceArray, ...]:
        """Copies of the masks that were decoded last for a row of the launch.

        Their memory is not used again once it is given back: whoever had it may have given work
        to the device that still reads it, which only freeing waits for.
        """
        if not self._hands_out:
            return ()
        size = self._mask_bytes
        memory = self._device.allocate(count * size, self._stream)
        self._copy(memory.address, self._masks_address(place), count * size)
        self._stream.wait()
        return tuple(
            DeviceArray(
                memory.address + at * size,
                self.input_size,
                "uint8",
                memory,
                (CUDA, self._device.index),
            )
            for at in range(count)
        )

    def warm_up(self) -> None:
        """Each graph once, on a black image: kernels are compiled and memory is allocated now."""
        black = np.zeros((*self.input_size, 3), np.uint8)
        alone = np.arange(self.slots + 1) == self.slots
        for expected in (1, 0):
            self._expected[0] = expected
            self.submit(range(1), [FrameInput(black, alone, np.zeros(2, bool), 1.0)])
            self.frame()
            self.store(range(1), [Storage(0, True)])
        with self._device.current():
            for frame in usual_frames() if self.resizes else ():
                self._resizer.resize(frame, 0, self._tensors.placed("image", 0))

    def device_ms(self) -> dict[str, float]:
        """By events on the device's stream; empty unless :attr:`measured`."""
        with self._device.current():
            return self._stopwatch.milliseconds()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        if not self.measured:
            yield
            return
        with self._stopwatch.timed(stage, self._stream):
            yield

    # -------------------------------------------------------------------- for verification

    def read(self, name: str, row: int = 0) -> Array:
        """A copy, through host memory."""
        with self._device.current():
            return self._read(name, row)

    def _read(self, name: str, row: int) -> Array:
        values = self._device.pinned(self._tensors.shape(name), self.specs[name].dtype)
        self._device.download(values, self._address(name, row), self._stream)
        self._stream.wait()
        return values

    def write(self, name: str, values: Array, row: int = 0) -> None:
        """Through host memory. From here on until the next frame, nothing that was computed ahead
        is used."""
        self._overwritten = True
        with self._device.current():
            source = self._device.pinned(self._tensors.shape(name), self.specs[name].dtype)
            np.copyto(source, values)
            self._device.upload(self._address(name, row), source, self._stream)
            self._stream.wait()

    # --------------------------------------------------------------------------- addresses

    def _address(self, name: str, row: int) -> int:
        """Where a row of a tensor is."""
        if name in KEPT:
            return self._tensors.kept(name, row)
        rows = self._launched.rows
        # Before the first frame, for those who write inputs.
        return self._tensors.placed(name, rows.index(row) if rows else 0)

    def _masks_address(self, place: int) -> int:
        return self._masks + place * DECODE_LIMIT * self._mask_bytes

    def _copy(self, target: int, source: int, nbytes: int) -> None:
        self._device.copy(target, source, nbytes, self._stream)

    def _slot_bytes(self, name: str) -> int:
        return self._tensors.row_bytes(name) // self.slots


def _of_place(name: str, place: int) -> str:
    return f"{name} {place}"


def _square(pairs: Array, side: int) -> Array:
    return pairs.ravel()[: side * side].reshape(side, side)
