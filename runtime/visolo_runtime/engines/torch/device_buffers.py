"""Buffers of PyTorch tensors on a device: everything dense stays there.

A frame goes up in one copy, all graphs run, and what is known about the best cells and their masks
comes down in one copy, which is the only thing that the host waits for. The decode graph runs for a
fixed number of the best cells, so nothing in between needs the host, and all of it can be recorded
and replayed as a whole. The slot that a frame is stored in changes from frame to frame: its
contents are copied there afterwards.

A stream that found nothing in its last frame asks first: its frame is launched without masks, and
the mask graph follows only if there are candidates.

The device may be the CPU, where nothing has to wait: tests compare it with buffers on the host.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visolo_core.contract import STREAMS, GraphName, TensorSpec
from visolo_core.decoding import Candidates, Ints
from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import (
    CELL_OUTPUTS,
    DECODE_LIMIT,
    DECODE_OUTPUTS,
    FRAME_INPUTS,
    KEPT,
    STAGE_OUTPUTS,
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
from visolo_runtime.engines.dlpack import CPU, CUDA
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.torch.packed import PackedTensors
from visolo_runtime.engines.torch.precision import exact_float32
from visolo_runtime.engines.torch.recording import CudaGraphs, Recorder
from visolo_runtime.engines.torch.stopwatch import TorchStopwatch

_LOG = logging.getLogger(__name__)
_TARGETS = 2
"""Blocks for results in host memory, in turns: the next frame may be launched while the host still
works on the last one."""


@dataclass(frozen=True)
class _Launch:
    """One frame of neighbouring rows, as it is recorded."""

    rows: range
    masks: int
    """masks that are decoded for each row; 0 if the host asks for candidates first"""


@dataclass(frozen=True)
class _Results:
    """What a launch leaves on the device; the first axis is the row's place in the launch."""

    outputs: dict[str, Tensor]
    """of the frame graph"""
    mask_features: Tensor | None
    masks: list[Tensor]
    """uint8 [masks, H, W] of each row"""
    block: Tensor
    """uint8 [bytes], what the host reads"""


class TorchBuffers(Buffers):
    """Tensors for a number of rows, and the modules that work on them.

    What a row keeps from frame to frame has a place for every row. All else exists once for each
    row of a launch.

    Args:
        engines: modules on the device.
        rows: number of streams.
        device: a GPU or the CPU.
        use_graphs: record each kind of launch once and replay it; only a GPU can.
        recorder: records launches in the GPU's place.

    Raises:
        VisoloError: if the device is out of memory.
    """

    def __init__(
        self,
        engines: Engines,
        rows: int,
        device: torch.device,
        use_graphs: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(engines.contract, rows, engines.batch)
        self._device, self._contract = device, engines.contract
        self._modules: dict[GraphName, Callable[..., Any]] = {
            graph: engine.context() for graph, engine in engines.by_graph.items()
        }
        self._stream: torch.cuda.Stream | None = None
        self._done: torch.cuda.Event | None = None
        self._recorder = recorder
        if device.type == "cuda":
            self.gpu, self.computes_ahead = device.index, True
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(device))  # which moved the weights
            if use_graphs:
                self._recorder = CudaGraphs(self._stream)
        self._stopwatch = TorchStopwatch()
        self._recorded: dict[_Launch, tuple[Callable[[], None], _Results, Tensor]] = {}
        self._launched, self._target = _Launch(range(0), 0), 0
        self._value: Tensor | None = None
        """The value of each row of the launch."""
        self._features: list[Tensor | None] = []
        """Mask features [1, D, H/4, W/4] of each row of the launch, once they are computed."""
        self._overwritten = False
        """Whether :meth:`write` changed something since the launch."""
        self._hands_out = False
        self._expected = [1] * rows
        """Candidates of each row's last frame."""
        with self._working():
            self._allocate()

    # ------------------------------------------------------------------------------- set-up

    def _allocate(self) -> None:
        self._kept = {
            name: torch.zeros(
                self._shape(name, self.rows),
                dtype=getattr(torch, self.specs[name].dtype),
                device=self._device,
            )
            for name in KEPT
        }
        self._outputs: dict[str, Tensor] = {}
        self._masks: list[Tensor] = []
        self._packings: dict[tuple[int, int], PackedTensors] = {}
        self._uploads: dict[int, tuple[dict[str, Array], Tensor, Tensor, dict[str, Tensor]]] = {}
        """By number of rows: arrays in host memory, the block that they are in, the one on the
        device that it is copied to, and the tensors in there."""
        nbytes = self._upload_packing(self.batch).nbytes
        self._staging = self._host_block(nbytes)
        self._uploaded = torch.zeros(nbytes, dtype=torch.uint8, device=self._device)
        limit = min(DECODE_LIMIT, self.places)
        nbytes = self._packing(self.batch, limit).nbytes
        self._host = [self._host_block(nbytes) for _ in range(_TARGETS)]
        self._arrays: dict[tuple[int, int, int], dict[str, Array]] = {}
        """By number of rows, number of masks and target: what came down."""

    def _shape(self, name: str, rows: int) -> tuple[int, ...]:
        return (rows, *self.specs[name].sized({STREAMS: 1})[1:])

    def _host_block(self, nbytes: int) -> Tensor:
        # Only pinned memory is copied while the host goes on.
        return torch.zeros(nbytes, dtype=torch.uint8, pin_memory=self._stream is not None)

    def _upload_packing(self, rows: int) -> PackedTensors:
        return PackedTensors(
            [replace(self.specs[name], shape=self._shape(name, rows)) for name in FRAME_INPUTS]
        )

    def _packing(self, rows: int, masks: int) -> PackedTensors:
        """What comes down of a launch."""
        if (rows, masks) not in self._packings:
            cells = [
                replace(self.specs[name], shape=self._shape(name, rows)) for name in CELL_OUTPUTS
            ]
            places = range(rows if masks else 0)
            decoded = [each for at in places for each in self._decoded(masks, at)]
            self._packings[rows, masks] = PackedTensors([*cells, *decoded])
        return self._packings[rows, masks]

    def _decoded(self, masks: int, place: int = 0) -> list[TensorSpec]:
        """The outputs of the decode graph for so many masks of a row."""
        return [
            TensorSpec(f"{name} {place}", dtype, shape)
            for name, dtype, shape in (
                ("masks", "uint8", (masks, *self.input_size)),
                ("area", "float32", (masks,)),
                ("probability_sum", "float32", (masks,)),
                ("intersection", "float32", (masks, masks)),
            )
        ]

    # ------------------------------------------------------------------------------- a frame

    def submit(self, rows: range, inputs: Sequence[FrameInput]) -> None:
        """Launch everything for a frame of each row."""
        self._stopwatch.reset()
        with self._working():
            self._upload(inputs)
            self._launched = launch = _Launch(rows, self._masks_to_expect(rows))
            self._target = (self._target + 1) % _TARGETS
            self._overwritten = False
            recorded = None if self.measured else self._recorded.get(launch)
            if recorded is not None:
                replay, results, self._value = recorded
                replay()
                self._take(results)
                self._download(results)
                return
            results = self._compute(launch)
            self._take(results)
            self._download(results)
            self._value = self._memory(results)
            # Libraries set themselves up when they first run; only after that can it be recorded.
            if self._recorder is not None and not self.measured:
                self._record(launch, self._recorder)

    def frame(self) -> list[Candidates]:
        """Wait for what came down."""
        if self._done is not None:
            with self._working():
                self._done.synchronize()
        launched = self._launched
        arrays, inputs = self._came_down(), self._upload_views(len(launched.rows))[0]
        candidates = []
        for at, row in enumerate(launched.rows):
            count, *cells = (arrays[name][at] for name in CELL_OUTPUTS)
            self._expected[row] = int(count)
            threshold = float(inputs["score_threshold"][at])
            candidates.append(as_candidates(self, row, int(count), cells, threshold))
        return candidates

    def mask(self, rows: Sequence[int]) -> None:
        """Run the mask graph for rows of which nothing was expected."""
        places = {row: self._launched.rows.index(row) for row in rows}
        missing = [row for row in rows if self._overwritten or self._features[places[row]] is None]
        with self._working():
            for run in neighbouring_rows(missing):
                first = places[run.start]
                with self._timed("mask graph"):
                    features = self._mask_features(self._outputs, first, len(run))
                for at, each in enumerate(features):
                    self._features[first + at] = each.unsqueeze(0)

    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        """What came down with the frame, or the decode graph for cells that were not expected."""
        launched, count = self._launched, len(cell)
        place = launched.rows.index(row)
        if count <= launched.masks and not self._overwritten:
            arrays = self._came_down()
            with self._working():
                handed_out = self._handed_out(self._masks[place][:count])
            masks, area, probability_sum, pairs = (
                arrays[f"{name} {place}"][:count] for name in DECODE_OUTPUTS
            )
            return DecodedMasks(masks, area, probability_sum, pairs[:, :count], handed_out)
        parts: list[DecodedMasks] = []
        with self._working():
            for begin in range(0, count, DECODE_LIMIT):
                some = slice(begin, min(begin + DECODE_LIMIT, count))
                if count <= self.places and not self._overwritten:
                    kernels = self._outputs["cell_kernel"][place, some]
                else:
                    index = torch.from_numpy(cell[some]).to(self._device)
                    kernels = self._outputs["kernels"][place].index_select(1, index).T
                parts.append(self._decode_now(place, kernels))
        together = parts[0].masks
        if len(parts) > 1:
            together = np.concatenate([part.masks for part in parts])
        return join_parts(parts, together)

    def store(self, rows: range, storage: Sequence[Storage]) -> None:
        """Copy what the memory graph computed, and the keys, to where they are kept: once for all
        neighbouring rows that are stored alike."""
        with self._working():
            value, key = self._value, self._outputs["key"]
            if self._overwritten or value is None:
                value = self._run("memory", self._outputs["features"][: len(rows)])
            keys, values, recent = (
                self._kept[name] for name in ("memory_key", "memory_value", "recent_key")
            )
            for each, places in groupby(range(len(rows)), lambda at: storage[at]):
                alike = list(places)
                source = slice(alike[0], alike[-1] + 1)
                target = slice(rows[alike[0]], rows[alike[-1]] + 1)
                if each.slot is not None:
                    values[target, each.slot].copy_(value[source])
                    keys[target, each.slot].copy_(key[source])
                if each.keeps_previous:
                    recent[target, 1].copy_(recent[target, 0])
                recent[target, 0].copy_(key[source])

    # ------------------------------------------------------------------------- what is launched

    def _upload_views(
        self, rows: int
    ) -> tuple[dict[str, Array], Tensor, Tensor, dict[str, Tensor]]:
        if rows not in self._uploads:
            packing = self._upload_packing(rows)
            source, target = (block[: packing.nbytes] for block in (self._staging, self._uploaded))
            arrays = packing.arrays(source.numpy())
            self._uploads[rows] = arrays, source, target, packing.tensors(target)
        return self._uploads[rows]

    def _upload(self, inputs: Sequence[FrameInput]) -> None:
        arrays, source, target, _ = self._upload_views(len(inputs))
        for name in FRAME_INPUTS:
            for at, each in enumerate(inputs):
                arrays[name][at] = getattr(each, name)
        with self._timed("upload"):
            target.copy_(source, non_blocking=True)

    def _masks_to_expect(self, rows: range) -> int:
        most = max(self._expected[row] for row in rows)
        limit = min(DECODE_LIMIT, self.places)
        return fixed_count(min(most, limit), limit) if most else 0

    def _compute(self, launch: _Launch) -> _Results:
        """Everything about a frame that the host reads."""
        rows, count = launch.rows, len(launch.rows)
        inputs = dict(self._upload_views(count)[3])
        for name, kept in self._kept.items():
            inputs[name] = kept[rows.start : rows.stop]
        frame = self._contract["frame"]
        with self._timed("frame graph"):
            computed = self._run("frame", *(inputs[name] for name in frame.names("inputs")))
        outputs = dict(zip(frame.names("outputs"), computed, strict=True))
        packed = {name: outputs[name] for name in CELL_OUTPUTS}
        features, masks = None, []
        if launch.masks:
            with self._timed("mask graph"):
                features = self._mask_features(outputs, 0, count)
            with self._timed("decode graph"):
                for at in range(count):
                    kernels = outputs["cell_kernel"][at, : launch.masks]
                    decoded = self._run("decode", features[at : at + 1], kernels)
                    names = (f"{name} {at}" for name in DECODE_OUTPUTS)
                    packed |= zip(names, decoded, strict=True)
                    masks.append(decoded[0])
        with self._timed("download"):
            block = self._packing(count, launch.masks).pack(packed)
        return _Results(outputs, features, masks, block)

    def _run(self, graph: GraphName, *inputs: Tensor) -> Any:
        return self._modules[graph](*inputs)

    def _mask_features(self, outputs: dict[str, Tensor], first: int, count: int) -> Tensor:
        features: Tensor = self._run(
            "mask", *(outputs[name][first : first + count] for name in STAGE_OUTPUTS)
        )
        return features

    def _memory(self, results: _Results) -> Tensor:
        with self._timed("memory graph"):
            value: Tensor = self._run("memory", results.outputs["features"])
        return value

    def _record(self, launch: _Launch, recorder: Recorder) -> None:
        """Record what has just been done once plainly. Where that fails all goes on plainly."""

        def work() -> tuple[_Results, Tensor]:
            results = self._compute(launch)
            return results, self._memory(results)

        try:
            replay, (results, value) = recorder.record(work)
        except RuntimeError as error:
            self._recorder = None
            _LOG.warning(
                "the frame is not recorded as one CUDA graph and costs more each time: %s",
                _first_words(error),
            )
            return
        self._recorded[launch] = replay, results, value

    def _take(self, results: _Results) -> None:
        """Let the next calls read the results of a launch."""
        self._outputs, self._masks = results.outputs, results.masks
        self._features = [None] * len(self._launched.rows)
        if results.mask_features is not None:
            self._features = [each.unsqueeze(0) for each in results.mask_features]

    def _download(self, results: _Results) -> None:
        with self._timed("download"):
            target = self._host[self._target][: len(results.block)]
            target.copy_(results.block, non_blocking=True)
        if self._done is not None:
            self._done.record()

    def _came_down(self) -> dict[str, Array]:
        rows, masks = len(self._launched.rows), self._launched.masks
        key = rows, masks, self._target
        if key not in self._arrays:
            block = self._host[self._target].numpy()
            self._arrays[key] = self._packing(rows, masks).arrays(block)
        return self._arrays[key]

    def _decode_now(self, place: int, kernels: Tensor) -> DecodedMasks:
        """Decode at most ``DECODE_LIMIT`` masks and wait for them."""
        features = self._features[place]
        assert features is not None, "mask() comes before decode()"
        with self._timed("decode graph"):
            decoded = self._run("decode", features, kernels)
        packing = PackedTensors(self._decoded(len(kernels)))
        names = [f"{name} 0" for name in DECODE_OUTPUTS]
        with self._timed("download"):
            block = packing.pack(dict(zip(names, decoded, strict=True))).cpu()
        arrays = packing.arrays(block.numpy())
        masks, area, probability_sum, pairs = (arrays[name] for name in names)
        return DecodedMasks(masks, area, probability_sum, pairs, self._handed_out(decoded[0]))

    def hand_out_masks(self) -> None:
        """Copies, in memory that is freed when nobody uses them any more."""
        self._hands_out = True

    def _handed_out(self, masks: Tensor) -> tuple[DeviceArray, ...]:
        """Copies of masks [N, H, W], in memory of their own.

        It is not used again before the work is done that its users had given to the GPU's default
        stream when they dropped it.
        """
        if not self._hands_out:
            return ()
        copies, kind = masks.clone(), CPU
        if self._stream is not None:
            copies.record_stream(torch.cuda.default_stream(self._device))
            self._stream.synchronize()
            kind = CUDA
        place = kind, self._device.index or 0
        return tuple(
            DeviceArray(each.data_ptr(), self.input_size, "uint8", copies, place) for each in copies
        )

    def warm_up(self) -> None:
        """Each graph on a black image, so that libraries set themselves up now."""
        black = np.zeros((*self.input_size, 3), np.uint8)
        alone = np.arange(self.slots + 1) == self.slots
        for expected in (1, 0):
            self._expected[0] = expected
            self.submit(range(1), [FrameInput(black, alone, np.zeros(2, bool), 1.0)])
            self.frame()
            self.store(range(1), [Storage(0, True)])

    def device_ms(self) -> dict[str, float]:
        """By events on the device's stream; empty unless :attr:`measured`."""
        with self._working():
            return self._stopwatch.milliseconds()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        if self._stream is None or not self.measured:
            yield
            return
        with self._stopwatch.timed(stage):
            yield

    @contextmanager
    def _working(self) -> Iterator[None]:
        """On this object's stream, in float32 without TF32.

        Raises:
            VisoloError: if the device is out of memory, or fails.
        """
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())
                stack.enter_context(exact_float32())
                if self._stream is not None:
                    stack.enter_context(torch.cuda.stream(self._stream))
                yield
        except torch.OutOfMemoryError as error:
            raise VisoloError(
                f"{self._device} is out of memory: run fewer streams at once, or another model "
                f"({_first_words(error)})"
            ) from error
        except RuntimeError as error:
            if "CUDA" not in str(error) and "CUDNN" not in str(error):
                raise
            raise VisoloError(f"{self._device} failed: {_first_words(error)}") from error

    # -------------------------------------------------------------------- for verification

    def read(self, name: str, row: int = 0) -> Array:
        """A copy on the host; on the CPU, the tensor itself."""
        with self._working():
            values: Array = self._tensor(name, row).contiguous().cpu().numpy()
            return values

    def write(self, name: str, values: Array, row: int = 0) -> None:
        """From here on until the next frame, nothing that was computed ahead is used."""
        with self._working():
            self._tensor(name, row).copy_(torch.from_numpy(np.ascontiguousarray(values)))
        self._overwritten = True

    def _tensor(self, name: str, row: int) -> Tensor:
        if name in KEPT:
            return self._kept[name][row : row + 1]
        rows = self._launched.rows
        place = rows.index(row) if rows else 0
        if name == "mask_features":
            features = self._features[place]
            if features is None:
                raise VisoloError(f"the mask features of row {row} are not computed")
            return features
        if name in FRAME_INPUTS:
            return self._upload_views(len(rows) or 1)[3][name][place : place + 1]
        return self._outputs[name][place : place + 1]


def _first_words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
