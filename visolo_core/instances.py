"""The instances of one frame, as parallel arrays or one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from visolo_core.categories import LabelSet
from visolo_core.decoding import Floats, Ints
from visolo_core.errors import NotHereError
from visolo_core.masks import Masks, Rle, encode_rle, mask_box, resize_masks

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class Instances:
    """The N instances of one frame, best first.

    Indexing by a number gives an :class:`Instance`; indexing by a slice, a boolean array or an
    array of numbers gives the selected :class:`Instances`.
    """

    frame: int
    """Position of the frame in the video, from 0."""
    size: tuple[int, int]
    """Height and width of :attr:`masks`: the frame's own unless another size was requested."""
    labels: LabelSet
    """Names and data set ids of the classes."""
    tracker_id: Ints
    """int64 [N], number of the track, from 1; unique in the video and never reused."""
    class_id: Ints
    """int64 [N], class index in this frame."""
    confidence: Floats
    """float32 [N], score in this frame, 0 to 1."""
    track_class_id: Ints
    """int64 [N], class index of the track so far; steadier than the class of a single frame."""
    track_confidence: Floats
    """float32 [N], class score of the track so far, 0 to 1."""
    cell: Ints
    """int64 [N], grid cell that the instance was decoded from."""
    input_masks: NDArray[np.uint8]
    """uint8 [N, H, W] of zeros and ones, at the network's input size."""
    device_masks: tuple[Any, ...] | None = None
    """The same as N arrays uint8 [H, W] on the GPU, which other libraries take through
    ``__dlpack__`` or ``__cuda_array_interface__``; None unless the session was opened with
    ``device_masks=True``. Their memory is freed once nobody uses them."""

    def __len__(self) -> int:
        return len(self.tracker_id)

    def __iter__(self) -> Iterator[Instance]:
        return (Instance(self, index) for index in range(len(self)))

    @overload
    def __getitem__(self, selection: int | np.integer[Any]) -> Instance: ...

    @overload
    def __getitem__(
        self, selection: slice | NDArray[Any] | list[int] | list[bool]
    ) -> Instances: ...

    def __getitem__(
        self, selection: int | np.integer[Any] | slice | NDArray[Any] | list[int] | list[bool]
    ) -> Instance | Instances:
        if isinstance(selection, (int, np.integer)):
            return Instance(self, range(len(self))[selection])
        if isinstance(selection, list) and not selection:
            selection = np.empty(0, np.int64)
        subset = replace(
            self,
            **{
                name: getattr(self, name)[selection]
                for name in (
                    "tracker_id", "class_id", "confidence", "track_class_id", "track_confidence",
                    "cell", "input_masks",
                )
            },
        )  # fmt: skip
        if self.device_masks is not None:
            chosen = tuple(self.device_masks[at] for at in np.arange(len(self))[selection])
            subset = replace(subset, device_masks=chosen)
        if "masks" in self.__dict__:  # reuse the masks that are already resized
            subset.__dict__["masks"] = self.masks[selection]
        return subset

    @cached_property
    def masks(self) -> Masks:
        """bool [N, height, width]; computed on first use."""
        return resize_masks(self.input_masks, self.size)

    @cached_property
    def xyxy(self) -> Floats:
        """float32 [N, 4], the boxes around :attr:`masks`: left, top, right and bottom in pixels;
        right and bottom are exclusive. Zeros for an empty mask."""
        boxes = [mask_box(mask) or (0, 0, 0, 0) for mask in self.masks]
        return np.array(boxes, np.float32).reshape(len(self), 4)

    @cached_property
    def rles(self) -> tuple[Rle, ...]:
        """Run-length encodings of :attr:`masks`; computed on first use."""
        return tuple(encode_rle(mask) for mask in self.masks)

    def to_supervision(self) -> Any:
        """The instances as ``supervision.Detections``, with class names in its ``data``.

        Raises:
            NotHereError: if supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise NotHereError(
                "to_supervision() needs supervision: run pip install supervision"
            ) from error
        names = [self.labels.names[index] for index in self.class_id]
        return supervision.Detections(
            xyxy=self.xyxy,
            mask=self.masks,
            confidence=self.confidence,
            class_id=self.class_id,
            tracker_id=self.tracker_id,
            data={"class_name": np.array(names, dtype=np.str_)},
        )


@dataclass(frozen=True)
class Instance:
    """One instance of a frame."""

    of: Instances
    """All instances of the frame."""
    index: int
    """Index of this instance among them."""

    @property
    def track_id(self) -> int:
        """Number of the track, from 1; unique in the video and never reused."""
        return int(self.of.tracker_id[self.index])

    @property
    def label(self) -> str:
        """Name of the class in this frame."""
        return self.of.labels.names[int(self.of.class_id[self.index])]

    @property
    def score(self) -> float:
        """Score in this frame, 0 to 1."""
        return float(self.of.confidence[self.index])

    @property
    def track_label(self) -> str:
        """Name of the class of the track so far."""
        return self.of.labels.names[int(self.of.track_class_id[self.index])]

    @property
    def track_score(self) -> float:
        """Class score of the track so far, 0 to 1."""
        return float(self.of.track_confidence[self.index])

    @property
    def box(self) -> Box:
        """Left, top, right and bottom in pixels; right and bottom are exclusive."""
        left, top, right, bottom = self.of.xyxy[self.index].tolist()
        return left, top, right, bottom

    @property
    def mask(self) -> Masks:
        """bool [height, width]."""
        mask: Masks = self.of.masks[self.index]
        return mask

    @property
    def rle(self) -> Rle:
        """Run-length encoding of :attr:`mask`."""
        return self.of.rles[self.index]
