"""The message of a frame as it is sent to browsers: the picture and its instances in one piece.

docs/serve-protocol.md describes every byte. A mask is sent as run lengths inside its box: unlike a
map of ids, they can say that two instances share pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visolo_core.errors import VisoloError

MAGIC = b"VSF1"
_HEADER = struct.Struct("<4sIIdfHHIHI")
_INSTANCE = struct.Struct("<IHfHHHHI")
LONGEST_RUN = 1 << 28


@dataclass(frozen=True)
class SentInstance:
    """One instance of a message."""

    track_id: int
    class_id: int
    score: float
    box: tuple[int, int, int, int]
    """Left, top, right and bottom in pixels; right and bottom are exclusive."""
    mask: NDArray[np.bool_]
    """bool [bottom - top, right - left]"""


@dataclass(frozen=True)
class SentFrame:
    """One frame of a stream, as a message holds it."""

    stream: int
    frame: int
    """number in the stream, from 0"""
    time_s: float
    """when it is presented, in seconds from the stream's first frame"""
    age_ms: float
    """milliseconds from its arrival at the server until it was sent"""
    size: tuple[int, int]
    """height and width of the masks' frame"""
    dropped: int
    """frames of the stream that were dropped so far"""
    instances: tuple[SentInstance, ...]
    picture: bytes
    """JPEG; empty in answers to those who have the picture"""


def encode_frame(frame: SentFrame) -> bytes:
    """The message of a frame."""
    height, width = frame.size
    parts = [
        _HEADER.pack(
            MAGIC, frame.stream, frame.frame, frame.time_s, frame.age_ms, height, width,
            frame.dropped, len(frame.instances), len(frame.picture),
        )
    ]  # fmt: skip
    runs = [encode_runs(each.mask) for each in frame.instances]
    for each, coded in zip(frame.instances, runs, strict=True):
        parts.append(
            _INSTANCE.pack(each.track_id, each.class_id, each.score, *each.box, len(coded))
        )
    return b"".join((*parts, *runs, frame.picture))


def with_age(message: bytes, age_ms: float) -> bytes:
    """The same message sent at another time."""
    fields = list(_HEADER.unpack_from(message))
    fields[4] = age_ms
    return _HEADER.pack(*fields) + message[_HEADER.size :]


def decode_frame(message: bytes) -> SentFrame:
    """What a message says.

    Raises:
        VisoloError: if it is no whole message of this format.
    """
    try:
        magic, stream, number, time_s, age_ms, height, width, dropped, count, picture = (
            _HEADER.unpack_from(message)
        )
        if magic != MAGIC:
            raise VisoloError(f"the message begins with {magic!r}, not {MAGIC!r}")
        at = _HEADER.size + count * _INSTANCE.size
        instances = []
        for index in range(count):
            track_id, class_id, score, *box, length = _INSTANCE.unpack_from(
                message, _HEADER.size + index * _INSTANCE.size
            )
            left, top, right, bottom = box
            if not (left <= right <= width and top <= bottom <= height):
                raise VisoloError(f"instance {index} of a message lies outside of its frame")
            mask = decode_runs(message[at : at + length], (bottom - top, right - left))
            instances.append(
                SentInstance(track_id, class_id, score, (left, top, right, bottom), mask)
            )
            at += length
    except struct.error as error:
        raise VisoloError("a message is cut short") from error
    if len(message) != at + picture:
        raise VisoloError(f"a message has {len(message)} bytes instead of {at + picture}")
    return SentFrame(
        stream, number, time_s, age_ms, (height, width), dropped, tuple(instances), message[at:]
    )


def encode_runs(mask: NDArray[np.bool_]) -> bytes:
    """A mask [h, w] as the lengths of its runs, row by row, the first of them of zeros. A length is
    a varint: seven bits a byte, the lowest first, the eighth bit set if more follow."""
    flat = mask.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0], changes, [flat.size]))
    lengths = np.diff(edges)
    if flat.size and flat[0]:
        lengths = np.concatenate(([0], lengths))
    return _varints(lengths)


def decode_runs(data: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask that was encoded.

    Raises:
        VisoloError: if the lengths do not fill it.
    """
    lengths = list(_lengths(data))
    if sum(lengths) != shape[0] * shape[1]:
        raise VisoloError(f"the runs of a mask do not fill {shape[1]}x{shape[0]} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(shape)


def _varints(lengths: Sequence[int] | NDArray[np.int64]) -> bytes:
    values = np.asarray(lengths, np.int64)
    if not values.size or values.max() < 128:
        return values.astype(np.uint8).tobytes()
    # Four bytes hold every length below 2^28; the unused ones are dropped.
    groups = (values[:, None] >> np.array([0, 7, 14, 21])) & 127
    used = np.maximum(1, np.ceil(np.log2(values + 1) / 7)).astype(int)
    place = np.arange(4)
    groups |= np.where(place[None] < used[:, None] - 1, 128, 0)
    packed: bytes = groups[place[None] < used[:, None]].astype(np.uint8).tobytes()
    return packed


def _lengths(data: bytes) -> Iterable[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        if byte & 128:
            shift += 7
            if shift > 21:
                raise VisoloError("a run of a mask is longer than any frame")
        else:
            yield value
            value = shift = 0
    if shift:
        raise VisoloError("the runs of a mask are cut short")
