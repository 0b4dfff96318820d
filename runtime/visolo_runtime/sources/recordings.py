"""Recordings at an address: video files by HTTP, and playlists that have an end."""

from __future__ import annotations

import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_runtime.sources.addresses import without_secrets
from visolo_runtime.sources.clip import CUT_SHORT, DEFAULT_FPS, Clip, Event, Skipped
from visolo_runtime.sources.decoding import decode, frame_rate, open_container, video_stream
from visolo_runtime.sources.frame_names import is_video
from visolo_runtime.sources.live import has_an_end, reason_of, settings_of
from visolo_runtime.sources.source_options import SourceOptions

_RECONNECT = {"reconnect": "1", "reconnect_delay_max": "8"}
"""FFmpeg asks an HTTP server for the rest when a connection breaks."""


@dataclass(frozen=True)
class Inspection:
    """What a first look at an address showed."""

    live: bool
    fps: Fraction = DEFAULT_FPS
    length: int | None = None
    must_be_copied: bool = False
    """whether it has to be read back and forth, and the server only sends it from its beginning"""


def inspect_address(address: str, options: SourceOptions) -> Inspection:
    """Open an address once to see what it is.

    One that does not answer is taken for a recording if it is called like a video file, and for a
    live source otherwise.
    """
    limits = (options.timeout_s, options.timeout_s)
    settings = settings_of(address, options)
    try:
        container = open_container(address, None, settings, without_secrets(address), limits)
    except VisoloError:
        return Inspection(live=not is_video(Path(urlsplit(address).path)))
    with container:
        length = video_stream(container).frames or None
        live = not has_an_end(container)
        copied = not live and _sends_only_from_the_beginning(container)
        return Inspection(live, frame_rate(container), length, copied)


def clip_at(address: str, inspection: Inspection, options: SourceOptions) -> Clip:
    """A recording by its address."""
    name = without_secrets(address)
    return Clip(
        1,
        name,
        lambda: _frames(address, name, inspection, options),
        inspection.fps,
        inspection.length,
    )


def _sends_only_from_the_beginning(container: Any) -> bool:
    """Whether the first picture of a film cannot be read after its index at the end."""
    import av

    if "mp4" not in container.format.name:
        return False
    try:
        next(container.demux(video_stream(container)))
    except (av.FFmpegError, StopIteration):
        return True
    return False


def _frames(
    address: str, name: str, inspection: Inspection, options: SourceOptions
) -> Iterator[Event]:
    if inspection.must_be_copied:
        with _copy_of(address, name, options.timeout_s) as copy:
            opened = open_container(copy, shown=name, timeout=None)
            yield from decode(name, opened=opened, deinterlace=options.deinterlace)
        return
    limits = (options.timeout_s, options.timeout_s)
    settings = settings_of(address, options) | _RECONNECT
    try:
        container = open_container(address, None, settings, name, limits)
    except VisoloError as error:
        # Not "from error": FFmpeg's errors hold the address with its password.
        why, _ = reason_of(error, options.timeout_s)
        raise VisoloError(f"cannot open '{name}': {why}") from None
    cut_short, waited, asked_s = "", False, time.monotonic()
    for event in decode(name, opened=container, deinterlace=options.deinterlace):
        # What was waiting in the decoder may still follow.
        waited = waited or time.monotonic() - asked_s >= options.timeout_s
        if isinstance(event, Skipped) and event.reason.startswith(CUT_SHORT):
            cut_short = event.reason.removeprefix(CUT_SHORT)
        else:
            yield event
        asked_s = time.monotonic()
    if cut_short and waited:
        raise VisoloError(f"'{name}' breaks off: no data for {options.timeout_s:g} s")
    if cut_short:
        raise VisoloError(f"'{name}' breaks off: {cut_short}")


def _copy_of(address: str, name: str, timeout_s: float) -> BinaryIO:
    """The file in a temporary one, which goes when it is closed."""
    parts = urlsplit(address)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    if parts.username:
        user, password = unquote(parts.username), unquote(parts.password or "")
        passwords.add_password(None, bare, user, password, is_authenticated=True)
    opener = urllib.request.build_opener(
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )
    copy = tempfile.TemporaryFile()  # noqa: SIM115, closed by the caller
    try:
        with opener.open(bare, timeout=timeout_s) as answer:
            shutil.copyfileobj(answer, copy)
    except OSError as error:
        copy.close()
        raise VisoloError(f"cannot copy '{name}' to read it: {reason(error)}") from None
    copy.seek(0)
    return copy
