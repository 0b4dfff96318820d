"""What the server does for its visitors, whatever the protocol: streams, recordings, videos."""

from __future__ import annotations

import fnmatch
import secrets
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_core.results import frame_record, ytvis_results
from visolo_runtime.serving.guard import Guard
from visolo_runtime.serving.hub import Hub
from visolo_runtime.serving.hub_stream import HubStream, StreamSettings, key_of
from visolo_runtime.serving.recording import Recording
from visolo_runtime.serving.refusals import ConflictError, ForbiddenError, FullError, MissingError
from visolo_runtime.serving.schema import ChangeStream
from visolo_runtime.serving.states import StateFolder
from visolo_runtime.session.loading import Model
from visolo_runtime.sources.addresses import without_secrets
from visolo_runtime.sources.clip import Clip, SourceFrame
from visolo_runtime.sources.decoding import open_container
from visolo_runtime.sources.opening import open_source
from visolo_runtime.video.resizing import resized

_UPLOADS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,h264,hevc"
"""FFmpeg's names of containers that hold their pictures themselves."""


@dataclass(frozen=True)
class ServiceOptions:
    """What visitors may do."""

    allowed_sources: tuple[str, ...] = ()
    """Patterns of sources that visitors may open, such as ``rtsp://10.0.0.*/*``."""
    recordings: Path | None = None
    """Folder for recordings; None forbids them."""
    largest_upload: int = 200_000_000
    """bytes"""
    longest_upload: int = 1800
    """frames"""
    states: StateFolder | None = None
    """For live streams whose tracks go on in another server; None ends them with this one."""


@dataclass
class Service:
    """One server's streams and recordings."""

    model_name: str
    hub: Hub
    guard: Guard
    options: ServiceOptions = field(default_factory=ServiceOptions)
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    """Another one at each start: numbers of streams and tracks mean something only within it."""
    _recordings: dict[int, Recording] = field(default_factory=dict)
    _adding: threading.Lock = field(default_factory=threading.Lock)
    _uploads: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1))

    @property
    def model(self) -> Model:
        return self.hub.model

    def describe_model(self) -> dict[str, Any]:
        """Ready for json."""
        engines = self.model.engines
        return {
            "name": self.model_name,
            "labels": list(self.model.labels.names),
            "backend": engines.description,
            "precision": self.model.precision,
            "input_size": list(self.model.config.input_size),
            "max_streams": self.hub.capacity,
            "recordings": self.options.recordings is not None,
            "may_add": bool(self.options.allowed_sources),
            "run": self.run,
        }

    def describe(self, stream: HubStream) -> dict[str, Any]:
        """A stream, ready for json."""
        recording = self._recordings.get(stream.number)
        return {
            **stream.describe(),
            "recording": None if recording is None else recording.describe(),
        }

    def open_own(self, sources: Sequence[str]) -> None:
        """Begin the streams that the server was started with.

        Raises:
            VisoloError: if one cannot be opened.
        """
        for source in sources:
            clips = open_source(source)
            for clip in clips:
                self._begin(clip, without_secrets(source) if len(clips) == 1 else "")

    def add(
        self, source: str, name: str = "", lease_s: float | None = None
    ) -> tuple[HubStream, bool]:
        """Begin a stream for a visitor, unless there is one of this name already.

        Args:
            source: as for ``visolo run``.
            name: by which it is found; empty for one that is found by its number alone.
            lease_s: seconds after which it ends unless it is added again.

        Returns:
            the stream, and whether it was begun.

        Raises:
            ForbiddenError: if the server's owner did not allow this source.
            ConflictError: if the stream of this name has another source.
            VisoloError: if it cannot be opened, or all streams are in use.
        """
        patterns = self.options.allowed_sources
        if not any(_allows(each, source) for each in patterns):
            raise ForbiddenError(
                "this server does not open that source: its owner allows some with --allow-source"
            )
        shown = without_secrets(source)
        # A source may take seconds to answer: only those that could begin twice wait in turn.
        with self._adding if name else nullcontext():
            same = self._named(name) if name else None
            if same is not None and same.source != shown:
                raise ConflictError(f"the stream '{name}' has another source: remove it first")
            if same is not None:
                same.lease(lease_s)
                return same, False
            clips = open_source(source)
            if len(clips) > 1:
                raise VisoloError(f"the source has {len(clips)} videos: name one of them")
            stream = self._begin(replace(clips[0], name=name or clips[0].name), shown, name)
            stream.lease(lease_s)
            return stream, True

    def _begin(self, clip: Clip, source: str, name: str = "") -> HubStream:
        states, key = self.options.states, key_of(clip, name, source)
        saved = states.take(key) if states and key else None
        try:
            return self.hub.add(clip, source=source, name=name, saved=saved)
        except FullError:
            if states and saved is not None:
                states.keep(key, saved)  # for a server that has room
            raise

    def _named(self, name: str) -> HubStream | None:
        return next(
            (each for each in self.hub.streams() if each.name == name and not each.over), None
        )

    def number_of(self, text: str) -> int:
        """The number of the stream that is named or numbered so.

        Raises:
            MissingError: if there is none.
        """
        if text.isascii() and text.isdigit() and len(text) < 10:
            return int(text)
        stream = self._named(text) if text else None
        if stream is None:
            raise MissingError(f"there is no stream '{text[:80]}'")
        return stream.number

    def stream(self, number: int) -> HubStream:
        """A stream by its number.

        Raises:
            MissingError: if there is none.
        """
        stream = self.hub.find(number)
        if stream is None:
            raise MissingError(f"there is no stream {number}")
        return stream

    def _public(self, number: int) -> HubStream:
        stream = self.stream(number)
        if not stream.sends_picture:
            raise ForbiddenError("the pictures of a visitor's camera are nobody else's")
        return stream

    def change(self, number: int, change: ChangeStream) -> HubStream:
        """Use other settings for a stream.

        Raises:
            VisoloError: if there is no such stream or class.
        """
        stream = self.stream(number)
        settings: StreamSettings = stream.settings
        if change.paused is not None:
            settings = replace(settings, paused=change.paused)
        if change.least_score is not None:
            settings = replace(settings, least_score=change.least_score)
        if change.classes is not None:
            names = self.model.labels.names
            unknown = [each for each in change.classes if each not in names]
            if unknown:
                raise VisoloError(f"the model does not know '{unknown[0]}'")
            numbers = tuple(names.index(each) for each in change.classes)
            settings = replace(settings, classes=numbers or None)
        self.hub.change(number, settings)
        return stream

    def remove(self, number: int) -> None:
        """End a stream and its recording.

        Raises:
            MissingError: if there is none.
        """
        self.stream(number)
        recording = self._recordings.pop(number, None)
        if recording is not None:
            recording.stop()
        self.hub.remove(number)

    def snapshot(self, number: int, overlay: bool) -> bytes:
        """The newest frame of a stream as JPEG.

        Raises:
            MissingError: if there is no such stream, or no frame yet.
            ForbiddenError: if it is a visitor's own.
        """
        latest = self._public(number).latest
        if latest is None:
            raise MissingError(f"stream {number} has no frame yet")
        return latest.annotated_jpeg() if overlay else latest.jpeg()

    def record(self, number: int) -> Recording:
        """Begin to record a stream.

        Raises:
            ForbiddenError: if the server keeps no recordings, or it is a visitor's own.
            ConflictError: if it is recorded already, or over.
            VisoloError: if the files cannot be written.
        """
        stream, folder = self._public(number), self.options.recordings
        if folder is None:
            raise ForbiddenError("this server keeps no recordings: start it with --recordings DIR")
        current = self._recordings.get(number)
        if current is not None and current.active:
            raise ConflictError(f"stream {number} is being recorded already")
        if stream.over:
            raise ConflictError(f"stream {number} is over")
        self._recordings[number] = Recording(self.hub, stream, folder)
        return self._recordings[number]

    def recording(self, number: int) -> Recording:
        """The recording of a stream.

        Raises:
            MissingError: if there is none.
        """
        self.stream(number)
        if number not in self._recordings:
            raise MissingError(f"stream {number} is not recorded")
        return self._recordings[number]

    def track_video(self, path: Path) -> dict[str, Any]:
        """The frames and tracks of a short video.

        Raises:
            FullError: if another one is being tracked.
            VisoloError: if it is not a video, or too long.
        """
        if not self._uploads.acquire(blocking=False):
            raise FullError("another video is being tracked: try again later")
        try:
            return self._track(path)
        finally:
            self._uploads.release()

    def _track(self, path: Path) -> dict[str, Any]:
        try:
            # A playlist would name files and addresses of its sender's choice.
            open_container(f"file:{path}", options={"format_whitelist": _UPLOADS}).close()
            (clip,) = open_source(str(path))
        except VisoloError as error:  # where it was put is no visitor's business
            raise VisoloError(str(error).replace(f"'{path}'", "it")) from error
        session = self.model.session(record=True)
        lines: list[dict[str, Any]] = []
        for frame in clip.frames():
            if not isinstance(frame, SourceFrame):
                continue
            if len(lines) >= self.options.longest_upload:
                raise VisoloError(
                    f"the video is longer than {self.options.longest_upload} frames: cut it"
                )
            found = session.step(resized(frame.picture, self.model.config.input_size))
            lines.append(
                {"frame": found.frame, "time_s": frame.time_s, "size": list(found.size),
                 "instances": frame_record(found)}
            )  # fmt: skip
        if not lines:
            raise VisoloError("the video has no frame that can be read")
        return {"frames": lines, "tracks": ytvis_results(1, session.finish(), self.model.labels)}

    def close(self) -> None:
        """End recordings and streams."""
        for recording in self._recordings.values():
            recording.stop()
        self.hub.close()


def _allows(pattern: str, source: str) -> bool:
    """Whether a pattern stands for a source. What climbs out of a folder, or hides the host behind
    a user's name, is no match unless the pattern itself has it."""
    tricks = any(trick in source and trick not in pattern for trick in ("..", "@"))
    return not tricks and fnmatch.fnmatchcase(source, pattern)
