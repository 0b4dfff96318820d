"""Cameras and streams, by FFmpeg."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.sources.addresses import scheme_of, without_secrets
from visolo_runtime.sources.clip import Clip, Event
from visolo_runtime.sources.decoding import decode, open_container
from visolo_runtime.sources.reading_beside import read_beside
from visolo_runtime.sources.reconnecting import (
    BroadcastOver,
    Connection,
    ConnectionLost,
    Reconnecting,
)
from visolo_runtime.sources.source_options import DEFAULTS, SourceOptions

_IN_BURSTS = ("hls", "dash")
"""Formats that are sent a segment of several seconds at a time."""
_SEGMENTS = 3
"""Timeouts for one of them: a segment may be longer than the wait for a frame."""


def clip_of_stream(address: str, options: SourceOptions = DEFAULTS) -> Clip:
    """A live stream by its address. Nothing is opened until its frames are asked for."""
    name = without_secrets(address)
    playlist = any(suffix in address.lower() for suffix in (".m3u8", ".mpd"))
    timeout_s = options.timeout_s * (_SEGMENTS if playlist else 1)
    settings = settings_of(address, options) | {"fpsprobesize": "0"}  # or it waits for 20 frames
    return _clip(
        name, _Opener(name, address, timeout_s, None, settings, options.deinterlace), options
    )


def require_camera(index: int) -> None:
    """Refuse a number that no camera has, where the system can tell.

    Raises:
        VisoloError: if there is none.
    """
    device = Path(f"/dev/video{index}")
    if sys.platform == "linux" and not device.exists():
        raise VisoloError(f"there is no camera {index} ({device})")


def clip_of_camera(index: int, options: SourceOptions = DEFAULTS) -> Clip:
    """A camera by its number."""
    name = f"camera {index}"
    if sys.platform == "darwin":
        device, driver = str(index), "avfoundation"
    elif sys.platform == "win32":
        device, driver = f"video={index}", "dshow"
    else:
        device, driver = f"/dev/video{index}", "v4l2"
    return _clip(
        name,
        _Opener(name, device, options.timeout_s, driver, deinterlace=options.deinterlace),
        options,
    )


def clip_of_camera_at(device: Path, options: SourceOptions = DEFAULTS) -> Clip:
    """A camera by its device, such as ``/dev/video0`` or a link to it."""
    driver = "v4l2" if sys.platform == "linux" else None
    name = f"camera {device}"
    opener = _Opener(name, str(device), options.timeout_s, driver, deinterlace=options.deinterlace)
    return _clip(name, opener, options, files=(device,))


def settings_of(address: str, options: SourceOptions) -> dict[str, str]:
    """FFmpeg's options for an address."""
    if scheme_of(address) not in ("rtsp", "rtsps"):
        return {}
    if options.rtsp_transport == "auto":
        transport = {"rtsp_flags": "prefer_tcp"}
    else:
        transport = {"rtsp_transport": options.rtsp_transport}
    return {**transport, "allowed_media_types": "video"}


def has_an_end(container: Any) -> bool:
    """Whether an open container is a recording: its length is known, or its playlist has an end."""
    if container.format.name in _IN_BURSTS:
        return container.duration is not None
    return bool(container.size > 0)


def reason_of(error: VisoloError, timeout_s: float) -> tuple[str, bool]:
    """Why a container cannot be opened, as part of a sentence, and whether that is final."""
    import av

    cause = error.__cause__
    if isinstance(cause, av.error.ExitError):
        return f"no answer for {timeout_s:g} s", False
    if isinstance(cause, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        # Cameras lock a user out who tries a wrong password again and again.
        return "the server refuses this user and password", True
    if isinstance(cause, (av.error.ProtocolNotFoundError, av.error.DemuxerNotFoundError)):
        return "FFmpeg does not know this kind of address", True
    if isinstance(cause, FileNotFoundError):
        return f"there is no {cause.filename}", False
    if isinstance(cause, OSError):
        return str(cause.strerror or cause).lower(), False
    return str(error), cause is None


def _clip(name: str, opener: _Opener, options: SourceOptions, files: tuple[Path, ...] = ()) -> Clip:
    def frames() -> Reconnecting:
        return Reconnecting(name, opener.connect, options)

    return Clip(1, name, frames, live=True, files=files)


@dataclass
class _Opener:
    """Makes connections to one source."""

    name: str
    source: str
    timeout_s: float
    driver: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    deinterlace: bool = False
    was_open: bool = False

    def connect(self) -> Connection:
        import av

        limits, begun_s = (self.timeout_s, self.timeout_s), time.monotonic()
        try:
            container = open_container(self.source, self.driver, self.settings, self.name, limits)
        except VisoloError as error:
            # Not "from error": FFmpeg's errors hold the address with its password.
            if time.monotonic() - begun_s >= self.timeout_s:
                raise ConnectionLost(f"no answer for {self.timeout_s:g} s") from None
            raise ConnectionLost(*reason_of(error, self.timeout_s)) from None
        if self.was_open and container.format.name in _IN_BURSTS and has_an_end(container):
            container.close()
            raise BroadcastOver
        self.was_open = True
        for stream in container.streams:
            if stream.type != "video":  # its packets would hide that the pictures stand still
                stream.discard = av.stream.Discard.all
        frames = _frames(self.name, container, self.deinterlace)
        return Connection(
            read_beside(frames, self.timeout_s) if self.driver else frames,
            self.timeout_s,
            has_times=not container.format.flags & av.format.Flags.no_timestamps.value,
            in_bursts=container.format.name in _IN_BURSTS,
        )


def _frames(name: str, container: Any, deinterlace: bool) -> Generator[Event]:
    with container:  # also if it is closed before its first frame
        yield from decode(name, opened=container, deinterlace=deinterlace)
