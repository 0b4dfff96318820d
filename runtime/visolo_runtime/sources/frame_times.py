"""When frames are presented, and which distances between them are gaps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import median

from visolo_runtime.sources.clip import Notice

_REMEMBERED = 15
"""distances between frames whose median is the usual one"""
_GAP = 1.5
"""usual distances that make a gap, where data is known to be lost"""
_LONG_GAP_S = 10.0
"""without a frame make a gap in a format whose clock may jump, lost data or not: FFmpeg's limit"""
_WRONG_CLOCK_S = 24 * 3600.0
"""farther ahead, a clock was set"""
_NUDGE_S = 0.001
"""after the last frame, for one that is marked as shown earlier"""


@dataclass
class FrameTimes:
    """Seconds since the first frame of a clip, from FFmpeg's times.

    A long distance alone is no gap: while nothing moves on a screen, its recording has no frames.
    It is one if data is known to be lost there, or damaged.
    """

    rate: Fraction
    """frames a second, as the container states them"""
    clock_jumps: bool = False
    """whether the format allows times to jump"""
    _begun: bool = False
    _offset_s: Fraction | None = None
    _last_s: float = 0.0
    _distances: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def usual_s(self) -> float:
        """Distance between two frames."""
        return median(self._distances) if len(self._distances) > 2 else float(1 / self.rate)

    def next(
        self,
        at: Fraction | None,
        lost: bool = False,
        skipped: int = 0,
        following: Callable[[], Fraction | None] = lambda: None,
    ) -> tuple[float, Notice | None]:
        """The time of the next frame, and a sentence about a gap before it.

        Args:
            at: when it is shown, by FFmpeg's clock in seconds; None if that is not known.
            lost: whether data since the last frame is known to be lost or damaged.
            skipped: frames since the last one that have been reported.
            following: finds out when the frame after it is shown, if the clock seems to jump.
        """
        if not self._begun:
            self._begun, self._offset_s = True, at
            return self._last_s, None
        if at is None:
            self._last_s += self.usual_s * (1 + skipped)
            return self._last_s, None
        if self._offset_s is None:
            self._offset_s = at - _exactly(self._last_s + self.usual_s)
        last_s, usual_s = self._last_s, self.usual_s
        distance_s = float(at - self._offset_s) - last_s
        jumps = distance_s < -usual_s or distance_s > _LONG_GAP_S
        if jumps and (after := following()) is not None:
            regular = at - _exactly(distance_s - usual_s)
            if abs(after - regular) < abs(after - at):  # the time of this frame alone is wrong
                self._last_s += usual_s
                return self._last_s, None
        if distance_s < -usual_s or distance_s > _WRONG_CLOCK_S:
            self._offset_s = at - _exactly(last_s + usual_s)
            self._last_s += usual_s
            step = "back" if distance_s < 0 else "ahead"
            jump_s = abs(distance_s - usual_s)
            return self._last_s, Notice(
                f"its clock jumps {step} by {jump_s:.2f} s after {last_s:.2f} s, which is ignored"
            )
        if distance_s < _NUDGE_S:
            self._last_s += _NUDGE_S
            return self._last_s, None
        self._last_s = float(at - self._offset_s)
        gap_s = distance_s - usual_s * (1 + skipped)
        is_gap = lost and distance_s > _GAP * usual_s * (1 + skipped)
        is_gap |= self.clock_jumps and gap_s > _LONG_GAP_S
        if not is_gap:
            self._distances.append(distance_s / (1 + skipped))
            return self._last_s, None
        return self._last_s, Notice(f"{gap_s:.2f} s are missing after {last_s:.2f} s", gap_s)


def _exactly(seconds: float) -> Fraction:
    return Fraction(seconds).limit_denominator(10**6)
