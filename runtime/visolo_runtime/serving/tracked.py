"""A frame of a server with its instances, on its way to viewers and recordings."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from visolo_core.instances import Instances
from visolo_runtime.serving.wire import SentFrame, SentInstance, encode_frame
from visolo_runtime.sinks.drawing import draw_instances
from visolo_runtime.video.frames import Picture

_QUALITY = 82  # of JPEG: below it, textures visibly differ from the frame's


@dataclass
class TrackedFrame:
    """A frame of a stream with its instances. Encoding happens once, however many viewers watch."""

    stream: int
    number: int
    """in the stream, from 0"""
    time_s: float
    """when it is presented, in seconds from the stream's first frame"""
    arrived: float
    """when it was read, in seconds of ``time.perf_counter``"""
    picture: Picture
    """uint8 [H, W, 3] RGB"""
    instances: Instances
    dropped: int
    """frames of the stream that were dropped so far"""
    wanted: bool = True
    """Whether messages hold the picture; those who sent it do not need it."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _message: bytes = b""
    _jpeg: bytes = b""

    @property
    def age_ms(self) -> float:
        """Milliseconds since it arrived."""
        return (time.perf_counter() - self.arrived) * 1e3

    def message(self) -> bytes:
        """As viewers receive it, see :mod:`visolo_runtime.serving.wire`. Slow the first time."""
        with self._lock:
            if not self._message:
                self._message = encode_frame(self._sent())
            return self._message

    def jpeg(self) -> bytes:
        """The picture without its instances."""
        if not self._jpeg:
            self._jpeg = encode_jpeg(self._fitted())
        return self._jpeg

    def annotated_jpeg(self) -> bytes:
        """The picture with its instances drawn on it."""
        return encode_jpeg(draw_instances(self._fitted(), self.instances))

    def _fitted(self) -> Picture:
        """The picture at the size of the masks."""
        height, width = self.instances.size
        if self.picture.shape[:2] == (height, width):
            return self.picture
        image = Image.fromarray(self.picture).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(image)

    def _sent(self) -> SentFrame:
        instances = self.instances
        sent = []
        for at, box in enumerate(instances.xyxy.astype(int).tolist()):
            left, top, right, bottom = box
            sent.append(
                SentInstance(
                    int(instances.tracker_id[at]),
                    int(instances.track_class_id[at]),
                    float(instances.confidence[at]),
                    (left, top, right, bottom),
                    instances.masks[at, top:bottom, left:right],
                )
            )
        picture = self.jpeg() if self.wanted else b""
        return SentFrame(
            self.stream, self.number, self.time_s, 0.0, instances.size, self.dropped, tuple(sent),
            picture,
        )  # fmt: skip


def encode_jpeg(picture: Picture) -> bytes:
    """A picture uint8 [H, W, 3] as JPEG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def fitting_size(picture: Picture, tallest: int) -> tuple[int, int]:
    """Height and width that a picture is shown at: its own, or smaller."""
    height, width = picture.shape[:2]
    if height <= tallest:
        return height, width
    return tallest, max(1, round(width * tallest / height))
