"""From instances to tracks, in NumPy.

An instance continues the track of the frame before that matches it best; else a lost track, the
most recently lost first; else it begins a new one. Match values compare the query of the cell in
which a track was last seen with the keys of the cells of this frame. A track holds what
association needs and no more, so the state is bounded however long the video runs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visolo_core.decoding import Floats, Ints, match_values


@dataclass
class TrackState:
    """One object as it is followed through the video."""

    track_id: int
    """Unique in its video, from 1, never used again."""
    query: Floats
    """[D/2], query of the cell in which it was last seen."""
    score_sum: NDArray[np.float64]
    """[C], sum of its raw class scores over its frames. Float32 would stop to grow after some 17
    million frames, which a camera over a still scene reaches within a week."""
    frames_seen: int = 1

    def see(self, query: Floats, class_scores: NDArray[np.float64]) -> None:
        """Continue the track with this frame's query [D/2] and raw class scores [C]."""
        self.query = query
        self.score_sum = self.score_sum + class_scores
        self.frames_seen += 1

    def classify(self) -> tuple[int, float]:
        """Class index and score of the whole track: the best mean of its raw class scores."""
        mean = self.score_sum / self.frames_seen
        label = int(mean.argmax())
        return label, float(mean[label])


@dataclass
class Associator:
    """Gives the instances of each frame their tracks. One for each video stream."""

    match_threshold: float = 0.1
    """A track is continued if the match value reaches this."""
    lost_limit: int = 256
    """At most so many lost tracks are remembered."""
    _current: list[TrackState] = field(default_factory=list)
    _lost: deque[list[TrackState]] = field(default_factory=deque)  # newest group first
    _next_id: int = 1

    @property
    def lost_count(self) -> int:
        """Number of lost tracks that could still return."""
        return sum(len(group) for group in self._lost)

    @property
    def tracks_begun(self) -> int:
        """Number of tracks since the beginning."""
        return self._next_id - 1

    def step(self, cell: Ints, query: Floats, key: Floats, scores: Floats) -> list[TrackState]:
        """Tracks of this frame's instances.

        Args:
            cell: int64 [N], cells of the instances, best instance first.
            query: float32 [D/2, S], queries of the frame.
            key: float32 [D/2, S], keys of the frame.
            scores: float32 [C, S], raw class scores of the frame.

        Returns:
            the N tracks, in the order of the instances.
        """
        instance_key = key[:, cell]
        claimed: dict[int, TrackState] = {}
        left = self._claim(self._current, self._match(self._current, instance_key), claimed)
        if self._lost and len(claimed) < len(cell):
            self._claim_lost(instance_key, claimed)

        tracks = []
        for instance, index in enumerate(cell):
            # Copies: a view would keep the whole frame's arrays alive.
            seen = query[:, index].copy(), scores[:, index].astype(np.float64)
            track = claimed.get(instance)
            if track is None:
                track = TrackState(self._next_id, *seen)
                self._next_id += 1
            else:
                track.see(*seen)
            tracks.append(track)

        self._current = tracks
        self._remember(left)
        return tracks

    def _claim_lost(self, instance_key: Floats, claimed: dict[int, TrackState]) -> None:
        """Let unmatched instances take lost tracks, those that were lost last first.

        All are compared at once: of the many groups of a long video, few have a match.
        """
        match = self._match([track for group in self._lost for track in group], instance_key)
        first = 0
        for position, group in enumerate(self._lost):
            rows = match[first : first + len(group)]
            first += len(group)
            if rows.max(initial=-1) >= self.match_threshold:
                self._lost[position] = self._claim(group, rows, claimed)
            if len(claimed) == instance_key.shape[1]:
                break

    @staticmethod
    def _match(tracks: list[TrackState], instance_key: Floats) -> Floats:
        """Match values [tracks, instances]."""
        if not tracks or not instance_key.size:
            return np.empty((len(tracks), instance_key.shape[1]), np.float32)
        return match_values(np.stack([track.query for track in tracks], axis=1), instance_key)

    def _claim(
        self, tracks: list[TrackState], match: Floats, claimed: dict[int, TrackState]
    ) -> list[TrackState]:
        """Let unmatched instances take tracks, in score order; returns the tracks left over."""
        if not match.size:
            return tracks
        free = np.ones(len(tracks), bool)
        for instance in range(match.shape[1]):
            if instance in claimed or not free.any():
                continue
            best = int(np.where(free, match[:, instance], -1).argmax())
            if match[best, instance] >= self.match_threshold:
                claimed[instance] = tracks[best]
                free[best] = False
        return [track for track, is_free in zip(tracks, free, strict=True) if is_free]

    def _remember(self, newly_lost: list[TrackState]) -> None:
        self._lost = deque(group for group in self._lost if group)
        if newly_lost:
            self._lost.appendleft(newly_lost)
        excess = self.lost_count - self.lost_limit
        while excess > 0:
            oldest = self._lost.pop()
            if len(oldest) > excess:
                self._lost.append(oldest[: len(oldest) - excess])
            excess -= len(oldest)
