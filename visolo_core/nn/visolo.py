"""VISOLO: one network with two entry points.

``Visolo.forward`` takes a whole clip, for training: each frame reads the other frames.
``Visolo.step`` takes one frame and the memory, for inference: it returns the output for the frame
and the memory for the next. Both use the same few methods, as do the exported graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visolo_core import memory_policy
from visolo_core.config import ModelConfig
from visolo_core.nn.backbone import build_backbone
from visolo_core.nn.branches import CategoryBranch, KernelBranch, MaskBranch, TrackingBranch
from visolo_core.nn.memory import Memory

PIXEL_MEAN = (123.675, 116.280, 103.530)  # RGB, in 0 to 255
PIXEL_STD = (58.395, 57.120, 57.375)


class FrameFeatures(NamedTuple):
    """The features of a frame alone, before the memory is read."""

    res2: Tensor
    """[B, c2, H/4, W/4]"""
    res3: Tensor
    """[B, c3, H/8, W/8]"""
    res4: Tensor
    """[B, c4, H/16, W/16]"""
    frame: Tensor
    """[B, D, rows, columns], the input of the tracking branch; before ReLU"""
    stored: Tensor
    """[B, 2, D, rows, columns], category and kernel features"""
    query: Tensor
    """[B, D/2, S]"""
    key: Tensor
    """[B, D/2, S]"""


class FrameOutput(NamedTuple):
    """The network's output for a frame, without the mask features."""

    kernels: Tensor
    """[B, D, S]"""
    scores: Tensor
    """[B, C, S], in 0 to 1"""
    query: Tensor
    """[B, D/2, S]"""
    key: Tensor
    """[B, D/2, S]"""
    features: Tensor
    """[B, 2, D, rows, columns], to be encoded and stored"""
    res2: Tensor
    """[B, c2, H/4, W/4], for the mask branch, as are the next two"""
    res3: Tensor
    """[B, c3, H/8, W/8]"""
    res4: Tensor
    """[B, c4, H/16, W/16]"""


class ClipOutput(NamedTuple):
    """The network's output for a clip of F frames, for training."""

    mask_features: Tensor
    """[B, F, D, H/4, W/4]"""
    kernels: Tensor
    """[B, F, D, S]"""
    class_logits: Tensor
    """[B, F, C, S]"""
    match_logits: Tensor
    """[B, P, S, S], for each of the P pairs of frames (earlier, later) in the order of
    ``itertools.combinations``: rows are cells of the earlier frame"""


@dataclass(frozen=True)
class MemoryState:
    """The memory of B streams that are at the same frame. There is no other, hidden state."""

    key: Tensor
    """[B, T, D/2, S]"""
    value: Tensor
    """[B, T, 2, D, S]"""
    slots: tuple[int, ...]
    """The frame in each of the T slots, ``memory_policy.EMPTY`` if there is none."""
    next_frame: int = 0

    @property
    def valid(self) -> Tensor:
        """bool [B, T + 1]: which slots hold a frame; the last stands for the current frame, which
        reads itself only if there is no other."""
        stored = [frame != memory_policy.EMPTY for frame in self.slots]
        flags = torch.tensor([*stored, not any(stored)], device=self.key.device)
        return flags.expand(self.key.shape[0], -1)


class Visolo(nn.Module):
    """The network. Its parameters have our names; ``official_names`` maps the official ones.

    Args:
        config: shape of the network.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone, config.backbone_width, config.backbone_norm)
        channels = config.backbone_channels
        self.category_branch = CategoryBranch(channels[2], config)
        self.kernel_branch = KernelBranch(channels[2], config)
        self.tracking_branch = TrackingBranch(config)
        self.mask_branch = MaskBranch(channels, config)
        self.memory = Memory(config)
        for name, numbers in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):
            constant = torch.tensor(numbers).view(1, 3, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    def encode(self, image: Tensor) -> FrameFeatures:
        """The features of each frame alone.

        Args:
            image: [B, 3, H, W], RGB in 0 to 255.
        """
        res2, res3, res4 = self.backbone((image - self.pixel_mean) / self.pixel_std)
        frame, category = self.category_branch(res4)
        stored = torch.stack([category, self.kernel_branch(res4)], dim=1)
        query, key = self.tracking_branch(frame)
        return FrameFeatures(res2, res3, res4, frame, stored, query, key)

    def predict(
        self, features: FrameFeatures, keys: Tensor, values: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read the memory and finish the category and kernel branches.

        Args:
            features: of the current frame.
            keys: [B, M, D/2, S], values: [B, M, 2, D, S], valid: bool [B, M].

        Returns:
            class logits [B, C, S] and kernels [B, D, S].
        """
        remembered = self.memory.read(features.query, keys, values, valid)
        category, kernel = (features.stored + remembered.view_as(features.stored)).unbind(dim=1)
        logits = self.category_branch.classify(category).flatten(2)
        return logits, self.kernel_branch.kernels(kernel).flatten(2)

    def frame(
        self, image: Tensor, memory_key: Tensor, memory_value: Tensor, memory_valid: Tensor
    ) -> FrameOutput:
        """One frame, given the memory: everything but its mask features.

        Args:
            image: [B, 3, H, W], RGB in 0 to 255.
            memory_key: [B, T, D/2, S].
            memory_value: [B, T, 2, D, S].
            memory_valid: bool [B, T + 1]; the last is the frame itself.
        """
        features = self.encode(image)
        own_value = self.memory.encode(features.stored)
        keys = torch.cat([memory_key, features.key.unsqueeze(1)], dim=1)
        values = torch.cat([memory_value, own_value.unsqueeze(1)], dim=1)
        logits, kernels = self.predict(features, keys, values, memory_valid)
        return FrameOutput(
            kernels,
            logits.sigmoid(),
            features.query,
            features.key,
            features.stored,
            features.res2,
            features.res3,
            features.res4,
        )

    def begin(self, slots: int, batch: int = 1) -> MemoryState:
        """The empty memory of ``batch`` streams, with T = ``slots``."""
        config, like = self.config, self.pixel_mean
        key = like.new_zeros(batch, slots, config.key_width, config.cells)
        value = like.new_zeros(batch, slots, 2, config.width, config.cells)
        return MemoryState(key, value, (memory_policy.EMPTY,) * slots)

    def step(
        self, image: Tensor, state: MemoryState, keep_every: int = 5
    ) -> tuple[FrameOutput, MemoryState]:
        """The next frame of each stream: its output, and the memory for the frame after it.

        Args:
            image: [B, 3, H, W], RGB in 0 to 255.
            state: from :meth:`begin` or the previous step; it is not changed.
            keep_every: every ``keep_every``-th frame is kept.
        """
        output = self.frame(image, state.key, state.value, state.valid)
        if not state.slots:
            return output, replace(state, next_frame=state.next_frame + 1)
        slots, slot = memory_policy.store(state.slots, state.next_frame, keep_every)
        key, value = state.key.clone(), state.value.clone()
        key[:, slot] = output.key
        value[:, slot] = self.memory.encode(output.features)
        return output, MemoryState(key, value, slots, state.next_frame + 1)

    def forward(self, clip: Tensor) -> ClipOutput:
        """Run a training clip, in which the memory of each frame is all other frames.

        Args:
            clip: [B, F, 3, H, W], RGB in 0 to 255; F at least 2.
        """
        batch, frames = clip.shape[:2]
        flat = self.encode(clip.flatten(0, 1))

        def by_frame(part: Tensor) -> Tensor:
            return part.view(batch, frames, *part.shape[1:])

        mask_features = by_frame(self.mask_branch(flat.res2, flat.res3, flat.res4))
        features = FrameFeatures(*map(by_frame, flat))
        values = by_frame(self.memory.encode(flat.stored))
        predictions = []
        for now in range(frames):
            others = [frame for frame in range(frames) if frame != now]
            current = FrameFeatures(*(part[:, now] for part in features))
            valid = torch.ones(batch, frames - 1, dtype=torch.bool, device=clip.device)
            predictions.append(
                self.predict(current, features.key[:, others], values[:, others], valid)
            )
        logits, kernels = (torch.stack(parts, dim=1) for parts in zip(*predictions, strict=True))
        pairs = [
            features.query[:, earlier].transpose(1, 2) @ features.key[:, later]
            for earlier, later in combinations(range(frames), 2)
        ]
        return ClipOutput(mask_features, kernels, logits, torch.stack(pairs, dim=1))
