"""The state of long videos, kept now and then, so that another worker can go on with them.

What goes on is exact: :meth:`Session.restore` gives the same instances as a session that never
stopped. The frames before the cut are decoded again and not run, because a decoder that begins in
the middle of a file may yield other pictures.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.bulk.folder import write_whole
from visolo_runtime.bulk.outputs import Counts, VideoOutputs
from visolo_runtime.session.session import Session
from visolo_runtime.session.streams import Streams
from visolo_runtime.sources.clip import Clip, Event, Skipped, SourceFrame


class StepwiseStreams(Streams):
    """Streams that begin no frame before the last one was followed: a session can be saved between
    any two."""

    @property
    def overlap(self) -> bool:
        return False


@dataclass(frozen=True)
class Kept:
    """Where a video was cut."""

    session: bytes
    position: int
    """frames before the cut, including skipped ones"""
    time_s: float
    counts: Counts
    pieces: int
    """of the lines"""


class Segments:
    """Keeps and finds the state of one video.

    Args:
        folder: of this video's state.
        every_s: seconds of the video between two cuts.
    """

    def __init__(self, folder: Path, every_s: float) -> None:
        self._folder, self._every_s = folder, every_s
        self._last_s = 0.0

    def find(self) -> Kept | None:
        """Where the video was cut last, if it was and can be read."""
        try:
            line, _, session = (self._folder / "state").read_bytes().partition(b"\n")
            values = json.loads(line)
            kept = Kept(
                session, int(values["position"]), float(values["time_s"]),
                Counts.from_dict(values["counts"]), int(values["pieces"]),
            )  # fmt: skip
        except (OSError, ValueError, TypeError, KeyError):
            return None  # the video begins at its first frame, with the same outputs
        pieces = [self.piece(number) for number in range(kept.pieces)]
        return kept if all(piece.exists() for piece in pieces) else None

    def resume(self, kept: Kept, session: Session, outputs: VideoOutputs) -> None:
        """Go on where the video was cut.

        Raises:
            VisoloError: if the state is damaged, or of other engines.
        """
        session.restore(kept.session)
        self._last_s = kept.time_s
        outputs.counts = kept.counts
        outputs.pieces = [self.piece(number) for number in range(kept.pieces)]

    def keep(self, time_s: float, session: Session, outputs: VideoOutputs) -> bool:
        """Keep the state if a segment is over.

        Args:
            time_s: of the last frame.
            session: between two frames.
            outputs: of the video.

        Raises:
            VisoloError: if it cannot be written.
            OSError: likewise.
        """
        if time_s - self._last_s < self._every_s:
            return False
        self._folder.mkdir(exist_ok=True)
        outputs.cut_lines(self.piece(len(outputs.pieces)))
        header: dict[str, Any] = {
            "position": session.frames,
            "time_s": time_s,
            "counts": {**outputs.counts.as_dict(), "seconds": outputs.seconds},
            "pieces": len(outputs.pieces),
        }
        write_whole(self._folder / "state", json.dumps(header).encode() + b"\n" + session.save())
        self._last_s = time_s
        return True

    def piece(self, number: int) -> Path:
        """A part of the lines."""
        return self._folder / f"{number}.jsonl"

    def forget(self) -> None:
        """The video is over."""
        shutil.rmtree(self._folder, ignore_errors=True)


def from_frame(clip: Clip, position: int) -> Clip:
    """The clip without its first frames, which are decoded all the same.

    Args:
        clip: a recording.
        position: frames to leave out, including those that cannot be read.
    """

    def frames() -> Iterator[Event]:
        left = position
        for event in clip.frames():
            if left > 0:
                left -= isinstance(event, (SourceFrame, Skipped))
            else:
                yield event

    return replace(clip, frames=frames)


def check_segments(segment_s: float | None, video: bool) -> None:
    """Refuse what cannot be gone on with exactly.

    Raises:
        VisoloError: if an annotated video is asked for, whose encoder has a state of its own.
    """
    if segment_s is not None and not segment_s > 0:
        raise VisoloError("--segment needs a length such as 10m, 90s or 1h")
    if segment_s is not None and video:
        raise VisoloError(
            "--segment cannot go on with an annotated video, whose encoder keeps no state: leave "
            "out --segment or --video"
        )
