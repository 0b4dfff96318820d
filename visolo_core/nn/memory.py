"""The memory of the network: what a stored frame is worth to the current one.

Paper, section 3.3. A stored frame is a key and two values for each cell; they depend on that
frame alone and are computed once, when it is stored. (The official code recomputes them for
every stored frame at every frame; the result is the same.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visolo_core.config import ModelConfig
from visolo_core.nn.layers import ConvNorm


class Memory(nn.Module):
    """Encodes values and reads them. Official key ``Memory_module``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.value = ConvNorm(config.width, config.width, config.groups, relu=False)

    def encode(self, features: Tensor) -> Tensor:
        """Values of a frame.

        Args:
            features: [B, 2, D, rows, columns], category and kernel features of the frame.

        Returns:
            [B, 2, D, S], the values to store.
        """
        batch, two, width, rows, columns = features.shape
        values = self.value(features.reshape(batch * two, width, rows, columns))
        return values.reshape(batch, two, width, rows * columns)  # type: ignore[no-any-return]

    @staticmethod
    def attention(query: Tensor, keys: Tensor, valid: Tensor) -> Tensor:
        """What each cell reads from each stored one.

        Args:
            query: [B, D/2, S], queries of the current frame.
            keys: [B, M, D/2, S], keys of M frames.
            valid: bool [B, M], False for empty slots; at least one must be True.

        Returns:
            [B, M * S, S], the share of every stored cell; shares add up to 1.
        """
        batch, frames, key_width, cells = keys.shape
        logits = keys.transpose(2, 3).reshape(batch, frames * cells, key_width) @ query
        # -inf excludes an empty slot from the softmax exactly; a key of zeros would not.
        hidden = ~valid.repeat_interleave(cells, dim=1).unsqueeze(2)
        return logits.masked_fill(hidden, float("-inf")).softmax(dim=1)

    @staticmethod
    def read(query: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """The values that each cell reads from memory.

        Args:
            query, keys, valid: as in :meth:`attention`.
            values: [B, M, 2, D, S], the values of the keys.

        Returns:
            [B, 2, D, S], values averaged over all cells of all valid frames.
        """
        shares = Memory.attention(query, keys, valid)
        batch, frames, _, width, cells = values.shape
        flat = values.permute(0, 2, 3, 1, 4).reshape(batch, 2 * width, frames * cells)
        return torch.bmm(flat, shares).reshape(batch, 2, width, cells)
