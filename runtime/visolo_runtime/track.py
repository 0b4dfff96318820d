"""The frames of a source with their instances, one by one: the shortest way to use a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visolo_core.errors import VisoloError
from visolo_runtime.session.loading import Model, load

if TYPE_CHECKING:
    from visolo_core.instances import Instances
    from visolo_runtime.session.session import Session
    from visolo_runtime.sources.clip import Clip
    from visolo_runtime.video.frames import ChannelOrder, Picture

_LOG = logging.getLogger("visolo")


def track(
    model: str | Path | Model,
    source: str | Path | int | Iterable[Any],
    *,
    backend: str = "auto",
    device: str = "",
    channel_order: ChannelOrder = "rgb",
    output_size: tuple[int, int] | None = None,
) -> Generator[tuple[Picture, Instances]]:
    """The frames of a source, each with its instances.

    Args:
        model: a bundle's directory, weights, or a model opened with :func:`load`.
        source: a video file, a folder of frames or a pattern such as ``frames/%05d.png``, ``-`` for
            standard input, a camera's number, an address such as ``rtsp://camera/stream``, or any
            iterable of frames. A live source always yields its latest frame and drops those that
            arrived in the meantime. If it is lost, it is tried again for a minute, and its tracks
            are kept; the logger ``visolo`` says so.
        backend: as for :func:`load`; ignored if the model is already open.
        device: as for :func:`load`; ignored if the model is already open.
        channel_order: of the frames of an iterable, ``rgb`` or ``bgr``.
        output_size: (height, width) of the masks; None means the frame's own size.

    Yields:
        the frame, uint8 [H, W, 3], and its instances. Frames of files, cameras and addresses are
        RGB; those of an iterable are unchanged. A frame that cannot be read is skipped, and its
        number with it. Where frames of a live source change size, numbers and tracks begin anew.

    Raises:
        VisoloError: if the model or the source cannot be opened, the source has several videos, a
            frame of a file or an iterable has another size than the first, or a live source stays
            lost.
    """
    if not isinstance(source, (str, Path, int, Iterable)):
        raise VisoloError(
            "a source must be a path, an address, a camera's number or an iterable of frames, "
            f"not a {type(source).__name__}"
        )
    opened = model if isinstance(model, Model) else load(model, backend, device=device)

    def begin() -> Session:
        return opened.session(False, output_size, channel_order)

    session = begin()
    if isinstance(source, (str, Path, int)):
        return _of_clip(session, begin, _only_clip(str(source)))
    return _of_frames(session, source)


def _of_frames(session: Session, frames: Iterable[Any]) -> Generator[tuple[Picture, Instances]]:
    from visolo_runtime.video.frames import as_picture

    for frame in frames:
        yield as_picture(frame), session.step(frame)


def _of_clip(
    session: Session, begin: Callable[[], Session], clip: Clip
) -> Generator[tuple[Picture, Instances]]:
    from visolo_runtime.sources.clip import Cut, Notice, Skipped
    from visolo_runtime.sources.feed import Feed, Policy

    def report(notice: Notice) -> None:
        _LOG.warning("%s: %s", clip.name, notice.text)

    policy: Policy = "latest" if clip.live else "all"
    size: tuple[int, ...] | None = None
    with Feed(clip, policy, resize=session.resize_ahead, report=report) as feed:
        while (ready := feed.take()) is not None:
            for event in ready.before:
                if isinstance(event, Notice):
                    report(event)
            shape = None if isinstance(ready.frame, Skipped) else ready.frame.picture.shape
            changed = clip.live and None not in (size, shape) and size != shape
            size = shape or size
            if changed or any(isinstance(each, Cut) for each in ready.before):
                session = begin()
            else:  # dropped frames are not the beginning of a clip
                for _ in range(ready.dropped):
                    session.skip()
            if isinstance(ready.frame, Skipped):
                session.skip()
            else:
                picture = ready.frame.picture
                yield picture, session.step(ready.resized or picture)


def _only_clip(source: str) -> Clip:
    from visolo_runtime.sources.opening import open_source

    clips = open_source(source)
    if len(clips) > 1:
        raise VisoloError(
            f"'{source}' lists {len(clips)} videos, but track() takes one: run them with "
            "'visolo run', or name the folder of one video's frames"
        )
    return clips[0]
