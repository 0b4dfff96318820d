"""What a source consists of: clips, and in a clip frames with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from visolo_runtime.video.frames import Picture

DEFAULT_FPS = Fraction(30)
"""Of pictures, and of videos that state no rate."""

CUT_SHORT = "the video is cut short: "
"""Begins the reason of a ``Skipped`` that stands for all frames that a container should still have
had."""


@dataclass(frozen=True)
class SourceFrame:
    """A frame of a clip."""

    picture: Picture
    """uint8 [H, W, 3] RGB"""
    time_s: float
    """when it is presented, in seconds from the clip's first frame"""
    pixel_aspect: Fraction = Fraction(1)
    """width of a pixel by its height"""


@dataclass(frozen=True)
class Skipped:
    """Stands for a frame that cannot be read."""

    reason: str
    time_s: float | None = None
    """as for a frame, if it is known"""


@dataclass(frozen=True)
class Notice:
    """Something that a user should know about the source, between two of its frames: a gap, a lost
    connection."""

    text: str
    """one sentence, without the clip's name"""
    gap_s: float = 0.0
    """seconds without frames, if that is what happened"""
    urgent: bool = False
    """whether to report it at once, ahead of frames that are still waiting"""


@dataclass(frozen=True)
class Cut:
    """The frames after it belong to a clip of their own, in which tracks begin anew."""

    reason: str


Event = SourceFrame | Skipped | Notice | Cut
"""What a source yields."""


@dataclass(frozen=True)
class Clip:
    """One video."""

    video_id: int
    name: str
    frames: Callable[[], Iterator[Event]]
    """Opens the clip and yields its frames in order, with ``Skipped`` in place of each that cannot
    be read."""
    fps: Fraction = DEFAULT_FPS
    length: int | None = None
    """Number of frames, if known in advance."""
    size: tuple[int, int] | None = None
    """Height and width that the results must have, if the source states them."""
    frame_names: tuple[str, ...] = ()
    """Names of the frames, if they are files."""
    live: bool = False
    """Whether frames arrive in real time, without an end."""
    once: bool = False
    """Whether the frames can be read only once, as those of a pipe."""
    audio: Path | None = None
    """A file that has the clip's sound."""
    files: tuple[Path, ...] = ()
    """What is read: no output may be one of these."""
    notes: tuple[str, ...] = ()
    """What a user should know about the clip before it runs, one sentence each."""

    def pictures(self) -> Iterator[Picture]:
        """The frames that can be read, uint8 [H, W, 3] RGB, without their times."""
        return (frame.picture for frame in self.frames() if isinstance(frame, SourceFrame))


def at_constant_rate(
    pictures: Iterable[Picture | Skipped], fps: Fraction = DEFAULT_FPS
) -> Iterator[SourceFrame | Skipped]:
    """Pictures as the frames of a video, one after another.

    Args:
        pictures: uint8 [H, W, 3] RGB; what cannot be read keeps its place.
        fps: frames a second.
    """
    for number, picture in enumerate(pictures):
        time_s = float(number / fps)
        if isinstance(picture, Skipped):
            yield replace(picture, time_s=time_s)
        else:
            yield SourceFrame(picture, time_s)
