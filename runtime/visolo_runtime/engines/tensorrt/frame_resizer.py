"""Frames resized on the GPU: they go up, or are copied there, as they came.

What depends on a frame's size and format alone is set up with the first such frame: the weights, a
place for the frame, and a context of the engine. A place stays where it is, so that resizing can be
recorded; the copy into it costs a hundredth of the time that it takes to send a frame up, and lets
go of a producer's memory early.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.errors import VisoloError
from visolo_core.pixels import (
    ACROSS,
    CHROMA_PITCH,
    DOWN,
    PITCH,
    ROW_PAIRS,
    ROWS,
    PixelGraph,
    PixelLayout,
    pixel_graph,
    resize_inputs,
)
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.raw_frame import DeviceFrame, HostFrame, RawFrame
from visolo_runtime.engines.tensorrt.device import CudaGraph, CudaStream, Device, DeviceMemory
from visolo_runtime.engines.tensorrt.engine import Scratch, TensorRtContext, TensorRtEngine

_LOG = logging.getLogger(__name__)
_LEAST_KINDS = 4
_Key = tuple[tuple[int, int], PixelLayout, tuple[int, ...]]


class FrameResizer:
    """Makes the network's images of frames of any size and format. Not thread-safe.

    Its methods give work to a stream and do not wait for it; the device's context must be current.
    Whoever drops it waits for the stream first.

    Args:
        device: the GPU.
        engines: loaded on it, of ``resize`` and ``resize_nv12``.
        size: height and width of the network's input.
        stream: the work goes there.
        streams: videos with frames of their own size and format.
        use_graphs: record the engines' work and replay it.
        scratch: for what the engines compute on the way; None gives each its own.
    """

    def __init__(
        self,
        device: Device,
        engines: Mapping[PixelGraph, TensorRtEngine],
        size: tuple[int, int],
        stream: CudaStream,
        streams: int = 1,
        use_graphs: bool = True,
        scratch: Scratch | None = None,
    ) -> None:
        self._device, self._engines, self._size = device, engines, size
        self._stream, self._use_graphs, self._scratch = stream, use_graphs, scratch
        self._most_kinds = max(_LEAST_KINDS, streams)
        self._kinds: OrderedDict[_Key, _Kind] = OrderedDict()
        self._pinned: dict[int, NDArray[np.uint8]] = {}
        self._reading: list[DeviceFrame] = []

    def resize(self, frame: RawFrame, place: int, image: int) -> None:
        """Make the image of a frame.

        Args:
            frame: on the host it may change when this returns; on a GPU it is kept until
                :meth:`release`.
            place: number of the frame among those that are resized before the next wait.
            image: address on the device, of uint8 [H, W, 3] RGB.

        Raises:
            VisoloError: if the device is out of memory.
        """
        kind = self._kind(frame)
        if isinstance(frame, HostFrame):
            self._upload(frame, place, kind)
        else:
            self._reading.append(frame)
            for producer in frame.streams:
                self._device.follow(self._stream, producer)
            for plane, memory in zip(frame.planes, kind.planes, strict=True):
                self._device.copy(memory.address, plane.address, plane.nbytes, self._stream)
        self._run(kind, image)

    def release(self) -> None:
        """Let go of the frames: the device has done all that it was given so far."""
        self._reading.clear()

    def _upload(self, frame: HostFrame, place: int, kind: _Kind) -> None:
        pinned, begin = self._pinned_bytes(place, sum(plane.nbytes for plane in frame.planes)), 0
        for plane, memory in zip(frame.planes, kind.planes, strict=True):
            part = pinned[begin : begin + plane.nbytes]
            np.copyto(part.reshape(plane.shape), plane)
            self._device.upload(memory.address, part, self._stream)
            begin += plane.nbytes

    def _pinned_bytes(self, place: int, nbytes: int) -> NDArray[np.uint8]:
        if place not in self._pinned or self._pinned[place].nbytes < nbytes:
            self._pinned[place] = self._device.pinned((nbytes,), "uint8")
        return self._pinned[place]

    def _kind(self, frame: RawFrame) -> _Kind:
        if isinstance(frame, HostFrame):
            pitches = tuple(plane[0].nbytes for plane in frame.planes)
        else:
            pitches = tuple(plane.pitch for plane in frame.planes)
        key = frame.size, frame.layout, pitches
        if key not in self._kinds:
            while len(self._kinds) >= self._most_kinds:
                self._stream.wait()  # for what it still does with the one that goes
                self._kinds.popitem(last=False)
            self._kinds[key] = self._new_kind(key)
        self._kinds.move_to_end(key)
        return self._kinds[key]

    def _new_kind(self, key: _Key) -> _Kind:
        before, layout, pitches = key
        context = self._engines[pixel_graph(layout)].context(self._use_graphs, self._scratch)
        inputs = resize_inputs(before, self._size, layout)
        context.set_lengths(_lengths(before, pitches, inputs))
        try:
            return _Kind(self._device, self._stream, context, before[0], pitches, inputs)
        except VisoloError:  # what there was room for must stay until it has been cleared
            self._stream.wait()
            raise

    def _run(self, kind: _Kind, image: int) -> None:
        recorded = kind.graphs.get(image)
        if recorded is not None:
            recorded.launch(self._stream)
            return
        kind.context.bind("image", image)
        kind.context.run(self._stream)
        # An engine allocates when it first runs; only after that can it be recorded.
        if self._use_graphs:
            self._record(kind, image)

    def _record(self, kind: _Kind, image: int) -> None:
        """Record what has just been done once plainly. Where that fails all goes on plainly."""
        try:
            if not kind.context.can_be_recorded(self._stream):
                raise VisoloError("the library says that its work cannot be recorded")
            kind.graphs[image] = self._device.capture(
                self._stream, lambda: kind.context.run(self._stream)
            )
        except VisoloError as error:
            self._use_graphs = False
            _LOG.warning("resizing is not recorded and costs more each frame: %s", str(error))


class _Kind:
    """What frames of one size and format need."""

    def __init__(
        self,
        device: Device,
        stream: CudaStream,
        context: TensorRtContext,
        rows: int,
        pitches: tuple[int, ...],
        inputs: Mapping[str, Array],
    ) -> None:
        self.context = context
        self.graphs: dict[int, CudaGraph] = {}
        """By the address of the image."""
        self.planes: list[DeviceMemory] = []
        names = ("frame",) if len(pitches) == 1 else ("luma", "chroma")
        for name, pitch in zip(names, pitches, strict=True):
            height = rows // 2 if name == "chroma" else rows
            self.planes.append(device.allocate(height * pitch, stream))
            context.bind(name, self.planes[-1].address)
        self._inputs: list[tuple[DeviceMemory, Array]] = []
        for name, values in inputs.items():
            memory = device.allocate(values.nbytes, stream)
            pinned = device.pinned(values.shape, values.dtype.name)
            pinned[...] = values
            device.upload(memory.address, pinned, stream)
            context.bind(name, memory.address)
            self._inputs.append((memory, pinned))


def _lengths(
    before: tuple[int, int], pitches: tuple[int, ...], inputs: Mapping[str, Any]
) -> dict[str, int]:
    weights, columns = inputs["across_weight"], inputs["down_weight"]
    taps = {ACROSS: weights.shape[0], DOWN: columns.shape[1], PITCH: pitches[0]}
    if len(pitches) == 1:
        return taps | {ROWS: before[0]}
    return taps | {ROW_PAIRS: before[0] // 2, CHROMA_PITCH: pitches[1]}
