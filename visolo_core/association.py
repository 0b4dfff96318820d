"""From instances to tracks, in NumPy.

An instance continues the best matching track of the previous frame, otherwise a lost track, trying
the most recently lost first, otherwise it begins a new track. Which match is best may depend on the
tracks' scores too, so that a doubtful track does not take the object of one that is sure. Match
values compare the query of the cell in which a track was last seen with the keys of this frame's
cells. A track holds only what association needs, so the state is bounded however long the video is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visolo_core.decoding import Floats, match_values

_NO_MATCH = -1.0


@dataclass
class TrackState:
    """One object tracked through the video."""

    track_id: int
    """From 1; unique in the video and never reused."""
    query: Floats
    """[D/2], query of the cell in which it was last seen."""
    score_sum: NDArray[np.float64]
    """[C], sum of its raw class scores over its frames. Float32 would stop growing after some 17
    million frames, which a camera watching a still scene reaches within a week."""
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


def classify(tracks: Sequence[TrackState]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Class index int64 [N] and score float32 [N] of each track, as :meth:`TrackState.classify`."""
    if not tracks:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    frames = np.array([track.frames_seen for track in tracks])
    means = np.array([track.score_sum for track in tracks]) / frames[:, None]
    label = means.argmax(axis=1)
    return label, means[np.arange(len(tracks)), label].astype(np.float32)


@dataclass
class Associator:
    """Assigns the instances of each frame to tracks. One per video stream."""

    match_threshold: float = 0.1
    """A track is continued if the match value reaches this."""
    lost_limit: int = 256
    """Most lost tracks that are kept."""
    return_threshold: float = 0.0
    """A lost track returns only if the match value reaches this as well."""
    track_score_power: float = 0.0
    """The best match is the one with the greatest value times the track's score to this power."""
    _current: list[TrackState] = field(default_factory=list)
    _lost: deque[list[TrackState]] = field(default_factory=deque)  # newest group first
    _next_id: int = 1

    @property
    def lost_count(self) -> int:
        """Number of lost tracks that can still return."""
        return sum(len(group) for group in self._lost)

    @property
    def comparable(self) -> int:
        """Number of tracks that the next frame's instances are compared with."""
        return len(self._current) + self.lost_count

    @property
    def tracks_begun(self) -> int:
        """Number of tracks begun so far."""
        return self._next_id - 1

    def groups(self) -> list[list[TrackState]]:
        """The tracks of the last frame, then the groups of lost ones, the newest first."""
        return [list(self._current), *(list(group) for group in self._lost)]

    def resume(self, groups: list[list[TrackState]], tracks_begun: int) -> None:
        """Go on where another one stopped.

        Args:
            groups: from :meth:`groups` of the other.
            tracks_begun: by the other.
        """
        current, *lost = groups
        self._current, self._lost, self._next_id = current, deque(lost), tracks_begun + 1

    def step(self, query: Floats, key: Floats, classes: Floats) -> list[TrackState]:
        """Assign this frame's instances to tracks.

        Args:
            query: float32 [N, D/2], queries of the instances' cells, best instance first.
            key: float32 [N, D/2], their keys.
            classes: float32 [N, C], their raw class scores.

        Returns:
            the N tracks, in the order of the instances.
        """
        instance_key = key.T
        claimed: dict[int, TrackState] = {}
        match = self._match(self._current, instance_key)
        newly_lost = self._claim(self._current, match, claimed, self.match_threshold)
        if self._lost and len(claimed) < len(key):
            self._claim_lost(instance_key, claimed)

        tracks = []
        scores = classes.astype(np.float64)
        for instance, seen in enumerate(zip(query, scores, strict=True)):
            track = claimed.get(instance)
            if track is None:
                track = TrackState(self._next_id, *seen)
                self._next_id += 1
            else:
                track.see(*seen)
            tracks.append(track)

        self._current = tracks
        self._keep_lost(newly_lost)
        return tracks

    def _claim_lost(self, instance_key: Floats, claimed: dict[int, TrackState]) -> None:
        """Assign lost tracks to unmatched instances, the most recently lost tracks first.

        All are compared at once, since few of the many groups of a long video have a match.
        """
        match = self._match([track for group in self._lost for track in group], instance_key)
        first, threshold = 0, max(self.match_threshold, self.return_threshold)
        for position, group in enumerate(self._lost):
            rows = match[first : first + len(group)]
            first += len(group)
            if rows.max(initial=-1) >= threshold:
                self._lost[position] = self._claim(group, rows, claimed, threshold)
            if len(claimed) == instance_key.shape[1]:
                break

    @staticmethod
    def _match(tracks: list[TrackState], instance_key: Floats) -> Floats:
        """Match values [tracks, instances]."""
        if not tracks or not instance_key.size:
            return np.empty((len(tracks), instance_key.shape[1]), np.float32)
        return match_values(np.array([track.query for track in tracks]).T, instance_key)

    def _claim(
        self,
        tracks: list[TrackState],
        match: Floats,
        claimed: dict[int, TrackState],
        threshold: float,
    ) -> list[TrackState]:
        """Assign tracks to unmatched instances, in score order; returns the tracks left over.
        Match values of assigned tracks are overwritten."""
        if not match.size:
            return tracks
        trust = None
        if self.track_score_power:
            trust = classify(tracks)[1].astype(np.float64) ** self.track_score_power
        taken: set[int] = set()
        for instance, values in enumerate(match.T):
            if instance in claimed:
                continue
            if trust is None:
                best = int(values.argmax())
            else:
                reached = values >= threshold
                best = int(np.where(reached, values * trust, _NO_MATCH).argmax())
            if values[best] >= threshold:
                claimed[instance] = tracks[best]
                match[best] = _NO_MATCH
                taken.add(best)
        return [track for place, track in enumerate(tracks) if place not in taken]

    def _keep_lost(self, newly_lost: list[TrackState]) -> None:
        self._lost = deque(group for group in self._lost if group)
        if newly_lost:
            for track in newly_lost:  # views would keep all arrays of their last frame
                track.query, track.score_sum = track.query.copy(), track.score_sum.copy()
            self._lost.appendleft(newly_lost)
        excess = self.lost_count - self.lost_limit
        while excess > 0:
            oldest = self._lost.pop()
            if len(oldest) > excess:
                self._lost.append(oldest[: len(oldest) - excess])
            excess -= len(oldest)
