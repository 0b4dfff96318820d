"""What a request asks and what its answer holds, as tensors.

docs/triton.md describes each tensor. Every one has a first dimension of length 1 on the wire, the
batch, since a sequence sends one frame at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.engines.buffers import Array
from visolo_runtime.triton.settings import MOST_PIXELS

SequenceId = int | str
"""What a client calls its sequence: a number from 1, or a text of at most 128 characters."""


@dataclass(frozen=True)
class TritonTensor:
    """A tensor of the model as its configuration states it."""

    name: str
    data_type: str
    """Triton's name of it"""
    dims: tuple[int, ...]
    """without the batch; -1 where the length varies"""


IMAGE, JPEG, SETTINGS = "image", "jpeg", "settings"
REQUEST_TENSORS = (
    TritonTensor(IMAGE, "TYPE_UINT8", (-1, -1, 3)),
    TritonTensor(JPEG, "TYPE_STRING", (1,)),
    TritonTensor(SETTINGS, "TYPE_STRING", (1,)),
)
"""All optional."""


@dataclass(frozen=True)
class Request:
    """What one request of a sequence asks."""

    sequence: SequenceId
    start: bool
    """Begin the sequence: it has no tracks yet."""
    end: bool
    """The sequence is over when this request has been answered."""
    image: Array | None = None
    """uint8 [H, W, 3] RGB"""
    jpeg: bytes | None = None
    """in place of the image"""
    settings: str | None = None
    """a json object; with the start only"""

    @property
    def has_frame(self) -> bool:
        """Whether there is something to track in."""
        return self.image is not None or self.jpeg is not None

    @property
    def is_question(self) -> bool:
        """Whether it begins and ends a sequence without a frame. It takes no room, and is how a
        watchdog learns whether a replica answers."""
        return self.start and self.end and not self.has_frame


@dataclass(frozen=True)
class Answer:
    """What a request gets."""

    session: str
    """Drawn at random when a sequence begins. Track numbers of two sessions have nothing to do with
    each other. Empty if there is none."""
    instances: Instances
    """of the frame; of frame -1 and without any, if the request had none"""


def read_request(
    sequence: SequenceId, start: bool, end: bool, tensors: Mapping[str, Array]
) -> Request:
    """A request from its tensors.

    Args:
        sequence: its correlation id.
        start: whether it is the sequence's first.
        end: whether it is the sequence's last.
        tensors: by name, with the batch's dimension; those that were sent.
    """
    image = tensors[IMAGE][0] if IMAGE in tensors else None
    settings = _bytes(tensors, SETTINGS)
    return Request(
        sequence,
        start,
        end,
        image,
        _bytes(tensors, JPEG),
        None if settings is None else settings.decode("utf-8", "replace"),
    )


def check_request(request: Request) -> None:
    """Check what a request holds, without decoding its frame.

    Raises:
        VisoloError: if it has two frames, none although its sequence goes on, settings in
            mid-sequence, or too large an image.
    """
    name = shown(request.sequence)
    if request.image is not None and request.jpeg is not None:
        raise VisoloError(f"a request of {name} has an image and a jpeg: send one of them")
    if not request.has_frame and not (request.start or request.end):
        raise VisoloError(f"a request of {name} has no frame: send an image or a jpeg")
    if request.settings is not None and not request.start:
        raise VisoloError(
            f"{name} has begun, and its settings stay as they are: send them with the start"
        )
    if request.image is not None and request.image.size > 3 * MOST_PIXELS:
        raise VisoloError(f"a frame may have {MOST_PIXELS} pixels at most")


def shown(sequence: SequenceId) -> str:
    """A sequence in an error's sentence.

    >>> shown("camera 1")
    "sequence 'camera 1'"
    """
    return f"sequence {sequence!r}"


def _bytes(tensors: Mapping[str, Array], name: str) -> bytes | None:
    if name not in tensors:
        return None
    value = tensors[name].reshape(-1)[0]
    return value if isinstance(value, bytes) else bytes(value)


def _texts(values: Collection[str]) -> Array:
    return np.array([each.encode() for each in values], dtype=np.object_)


def _labels(instances: Instances, classes: Array) -> Array:
    return _texts([instances.labels.names[int(index)] for index in classes])


_ANSWERS: tuple[tuple[TritonTensor, Callable[[Answer], Array]], ...] = (
    (
        TritonTensor("session", "TYPE_STRING", (1,)),
        lambda answer: _texts([answer.session]),
    ),
    (
        TritonTensor("frame_number", "TYPE_INT64", (1,)),
        lambda answer: np.array([answer.instances.frame], np.int64),
    ),
    (
        TritonTensor("track_id", "TYPE_INT64", (-1,)),
        lambda answer: answer.instances.tracker_id,
    ),
    (
        TritonTensor("class_id", "TYPE_INT64", (-1,)),
        lambda answer: answer.instances.class_id.astype(np.int64),
    ),
    (
        TritonTensor("label", "TYPE_STRING", (-1,)),
        lambda answer: _labels(answer.instances, answer.instances.class_id),
    ),
    (
        TritonTensor("score", "TYPE_FP32", (-1,)),
        lambda answer: answer.instances.confidence.astype(np.float32),
    ),
    (
        TritonTensor("track_label", "TYPE_STRING", (-1,)),
        lambda answer: _labels(answer.instances, answer.instances.track_class_id),
    ),
    (
        TritonTensor("track_score", "TYPE_FP32", (-1,)),
        lambda answer: answer.instances.track_confidence.astype(np.float32),
    ),
    (
        TritonTensor("box", "TYPE_FP32", (-1, 4)),
        lambda answer: answer.instances.xyxy,
    ),
    (
        TritonTensor("mask", "TYPE_STRING", (-1,)),
        lambda answer: _texts([rle["counts"] for rle in answer.instances.rles]),
    ),
    (
        TritonTensor("mask_size", "TYPE_INT32", (2,)),
        lambda answer: np.array(answer.instances.size, np.int32),
    ),
)
ANSWER_TENSORS = tuple(spec for spec, _ in _ANSWERS)


def answer_tensors(answer: Answer, names: Collection[str]) -> dict[str, Array]:
    """The tensors of an answer, with the batch's dimension.

    Args:
        answer: the answer.
        names: of the tensors that were asked for. Masks, and the boxes around them, are computed
            only if they are among these.
    """
    return {spec.name: make(answer)[None] for spec, make in _ANSWERS if spec.name in names}
