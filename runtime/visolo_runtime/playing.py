"""A clip that is running, and what cuts its source into several."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from visolo_core.errors import VisoloError
from visolo_runtime.run_summary import StreamCounts
from visolo_runtime.sources.clip import Clip, Cut, Skipped, SourceFrame
from visolo_runtime.sources.feed import Feed, Ready


@dataclass
class Playing:
    """A clip that is running in a stream."""

    clip: Clip
    feed: Feed
    limit: int | None = None
    """frames that may still be run, including skipped ones"""
    source: str = ""
    """name of the clip that the feed reads, of which this may be a part"""
    part: int = 1
    size: tuple[int, int] | None = None
    """height and width of the frames so far"""
    begin_s: float = 0.0
    """when this part begins, in seconds of the feed"""
    held: Ready | VisoloError | None = None
    """what was read but begins or ends a clip, which must wait until the frames under way are
    followed"""
    late: bool = False
    """whether others have waited for its next frame for long enough"""
    counts: StreamCounts = field(init=False)

    def __post_init__(self) -> None:
        self.source = self.source or self.clip.name
        self.counts = StreamCounts(self.clip.name)

    @property
    def waiting(self) -> bool:
        """Whether nothing has been read."""
        return self.held is None and self.feed.waiting

    @property
    def over(self) -> bool:
        """Whether the source has nothing more."""
        return self.held is None and self.feed.over

    def take(self) -> Ready | None:
        """The next frame of this clip, if it is there; what begins or ends a clip is held."""
        if self.held is not None:
            return None
        try:
            ready = self.feed.take(timeout=0)
        except (VisoloError, OSError) as error:
            self.held = error if isinstance(error, VisoloError) else VisoloError(str(error))
            return None
        if ready is None:
            return None
        self.late = False
        if self.size is None:
            self._begin_with(ready)
        elif self.cut_before(ready) or self._changes_size(ready):
            self.held = ready
            return None
        return replace(ready, frame=self._timed(ready.frame))

    def take_held(self, number: int) -> tuple[Ready, str]:
        """The frame that was held, and why a clip of its own begins with it.

        Args:
            number: of the frame in its clip.

        Raises:
            VisoloError: if the clip cannot go on.
        """
        held, self.held = self.held, None
        if isinstance(held, VisoloError):
            raise held
        assert held is not None
        if cut := self.cut_before(held):
            return held, cut.reason
        assert isinstance(held.frame, SourceFrame)
        assert self.size is not None
        height, width = held.frame.picture.shape[:2]
        if not self.clip.live:
            raise VisoloError(
                f"frame {number} is {width}x{height}, but the video began with "
                f"{self.size[1]}x{self.size[0]}: all frames of a video must have the same size"
            )
        return held, f"frames are {width}x{height} from here on, not {self.size[1]}x{self.size[0]}"

    def next_part(self, video_id: int, ready: Ready, run: int) -> tuple[Playing, Ready]:
        """The clip that begins with a frame of the same feed, and the frame.

        Args:
            video_id: of the clip.
            ready: the frame.
            run: frames that this part has had.
        """
        part = self.part + 1
        clip = replace(
            self.clip,
            video_id=video_id,
            name=f"{self.source} ({part})",
            length=None,
            frame_names=(),
            notes=(),
        )
        limit = None if self.limit is None else self.limit - run
        playing = Playing(clip, self.feed, limit, self.source, part)
        playing._begin_with(ready)
        return playing, replace(ready, frame=playing._timed(ready.frame))

    @staticmethod
    def cut_before(ready: Ready) -> Cut | None:
        """What makes a clip of its own begin with a frame, or with one that was dropped for it."""
        return next((each for each in ready.before if isinstance(each, Cut)), None)

    def _changes_size(self, ready: Ready) -> bool:
        frame = ready.frame
        return isinstance(frame, SourceFrame) and frame.picture.shape[:2] != self.size

    def _begin_with(self, ready: Ready) -> None:
        if self.part > 1 and self.size is None and ready.frame.time_s is not None:
            self.begin_s = self.begin_s or ready.frame.time_s
        if isinstance(ready.frame, SourceFrame):
            height, width = ready.frame.picture.shape[:2]
            self.size = height, width

    def _timed(self, frame: SourceFrame | Skipped) -> SourceFrame | Skipped:
        """A frame with its time in this part."""
        if self.begin_s == 0 or frame.time_s is None:
            return frame
        return replace(frame, time_s=frame.time_s - self.begin_s)
