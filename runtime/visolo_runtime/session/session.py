"""One video stream: frames in, instances with identity out."""

from __future__ import annotations

import time

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.engines.buffers import Buffers
from visolo_runtime.engines.raw_frame import RawFrame
from visolo_runtime.session.state import check_kept, kept_tensors, pack, put_back, unpack
from visolo_runtime.session.step import Step
from visolo_runtime.session.stream import Stream, StreamFrame, StreamOptions
from visolo_runtime.video.frames import (
    ChannelOrder,
    Frame,
    ResizedFrame,
    check_channel_order,
)
from visolo_runtime.video.raw_frames import raw_frame
from visolo_runtime.video.resizing import resized


class Session:
    """Tracks the instances of one video, frame by frame.

    Args:
        buffers: the engines' buffers.
        options: what to do with the video.
        row: this stream's row in the buffers.
        channel_order: of frames given as arrays, ``rgb`` or ``bgr``.

    Raises:
        VisoloError: if the options need more memory slots than the engines have, the channel order
            is unknown, or the engines have no masks on a device to hand out.
    """

    def __init__(
        self,
        buffers: Buffers,
        options: StreamOptions,
        row: int = 0,
        channel_order: ChannelOrder = "rgb",
    ) -> None:
        self._buffers = buffers
        self._channel_order = check_channel_order(channel_order)
        if options.device_masks:
            buffers.hand_out_masks()
        self.stream = Stream(options, row, buffers.slots, buffers.input_size)
        """The state of the video."""

    def step(self, frame: Frame) -> Instances:
        """The instances of the next frame, without delay.

        Args:
            frame: uint8 [H, W, 3] in the session's channel order, of NumPy or of a library that
                shares its arrays through ``__dlpack__``, ``__array_interface__`` or
                ``__cuda_array_interface__``; an NV12 frame; a Pillow image; or the result of
                :func:`~visolo_runtime.video.resizing.resized`. Every frame of a video must have
                the same size. Frames on a GPU are accepted by engines that resize there; they can
                be changed again when the call returns.

        Raises:
            VisoloError: if the type, shape or size of the frame is wrong. The session stays usable.
        """
        step = Step(self._buffers, [self.prepare(frame)])
        step.compute()
        return step.follow()[0]

    def prepare(self, frame: Frame) -> StreamFrame:
        """The first part of a step: check the frame and, unless the engines do it, resize it to
        the network's input size.

        Args:
            frame: as for :meth:`step`.

        Raises:
            VisoloError: if the type, shape or size of the frame is wrong.
        """
        begin = time.perf_counter()
        prepared = StreamFrame(self.stream, self._accept(frame))
        self.stream.check(prepared.frame)
        prepared.stage_ms["resize"] = (time.perf_counter() - begin) * 1e3
        return prepared

    def _accept(self, frame: Frame) -> ResizedFrame | RawFrame:
        if isinstance(frame, ResizedFrame):
            return frame
        size, order = self._buffers.input_size, self._channel_order
        raw = raw_frame(frame, size, order, self._buffers.gpu) if self._buffers.resizes else None
        return raw or resized(frame, size, order)

    def skip(self) -> None:
        """Skip an unreadable frame of the video: no track has a mask there."""
        self.stream.position += 1

    def finish(self) -> list[Track]:
        """The tracks of the video so far: class, score, and a mask or None for every frame.

        Raises:
            VisoloError: if the session does not record.
        """
        return self.stream.finish()

    def save(self) -> bytes:
        """The state of the video so far, for :meth:`restore`, in this process or another one.

        With ``record=True`` it holds all masks so far.
        """
        header, arrays = self.stream.save()
        return pack(header, {**arrays, **kept_tensors(self._buffers, self.stream.row)})

    def restore(self, state: bytes) -> None:
        """Go on where another session stopped: the next frames get the same instances, bit for bit
        if the backend is the same.

        Args:
            state: from :meth:`save` of a session of the same model with the same settings.

        Raises:
            VisoloError: if the state is damaged, or of another model or other settings.
        """
        header, arrays = unpack(state)
        check_kept(self._buffers, self.stream.row, arrays)
        try:
            self.stream.restore(header, arrays)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise VisoloError("the state of the session is damaged: begin anew") from error
        put_back(self._buffers, self.stream.row, arrays)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Height and width of the video's frames; None before the first."""
        return self.stream.frame_size

    @property
    def resize_ahead(self) -> tuple[int, int] | None:
        """Height and width to which a reader may resize frames ahead; None if the engines do it."""
        return None if self._buffers.resizes else self._buffers.input_size

    def device_ms(self, frame: Frame) -> dict[str, float]:
        """Step a frame, and return the milliseconds of each stage by the device's clock.

        It is slower than :meth:`step`: nothing is replayed as a whole. Empty for engines that run
        on the host.

        Args:
            frame: as for :meth:`step`.

        Raises:
            VisoloError: if the type, shape or size of the frame is wrong.
        """
        self._buffers.measured = True
        try:
            self.step(frame)
            return self._buffers.device_ms()
        finally:
            self._buffers.measured = False

    @property
    def stage_ms(self) -> dict[str, float]:
        """Milliseconds of each stage of the last step, by the host's clock."""
        return self.stream.stage_ms

    @property
    def frames(self) -> int:
        """Frames of the video so far, including skipped ones."""
        return self.stream.position

    @property
    def tracks_begun(self) -> int:
        """Number of tracks begun since the start of the video."""
        return self.stream.tracks_begun
