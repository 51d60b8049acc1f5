"""The division of a jagged batch into dense tiles: made once for a batch, used by all layers.

L tokens, B sequences, H heads; a block has b sequences padded to n tokens; a tile has r rows and k keys of a block.

Sequences are sorted by the length of their history and grouped into blocks with little padding. A block's rows are
divided into tiles of ROWS rows, and a tile's keys end with its last row: most of a long sequence's upper triangle is
skipped. Padding repeats the last token of a history: no real row sees it, since it comes later, and its own rows are
dropped. Candidates have separate tiles: the keys of the history and, as the last column, each row's own key.
The plan depends on the lengths alone, so equal batches are computed in equal order, to the bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.attention.masks import sees
from model.errors import ModelError

ROWS: Final = 128  # of a tile; with fewer, matrix products are inefficient; with more, more of the triangle is computed
AREA: Final = {"cpu": 1 << 17, "cuda": 1 << 24}  # largest b * r * k of a tile: a few times the cache of a CPU core
WASTE: Final = 16  # a block may waste 1/16 of AREA in padding, about what the launch of one more block costs


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One dense piece: r rows and k keys of b sequences. `rows` and `keys` are indices into the sequence.

    A history's tile counts its padding as well; a candidates' tile has one sequence, and in its last column, for each
    row, the row itself.
    """

    number: int  # in TilePlan.tiles
    sequences: Tensor  # i64[b] into the batch
    rows: Tensor  # i64[1, r, 1]
    keys: Tensor  # i64[1, 1, k], or [1, r, k] in a candidates' tile
    history: int  # tokens of history; places are clamped to it
    visible: Tensor  # bool[1, r, k]
    row_slice: slice  # of the block in a history's tile, of all L tokens in a candidates' tile
    key_slice: slice  # likewise, without the last column of a candidates' tile


@dataclass(frozen=True, slots=True, eq=False)
class TileBlock:
    """The histories of b sequences, padded to n tokens, and the tiles that cover them."""

    matrices: int  # b * H
    length: int  # n
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TilePlan:
    """The tiles of one batch; `padded` gathers tokens into the blocks, and `where` gathers the outputs back."""

    tokens: int
    max_len: int
    starts: Tensor
    lengths: Tensor
    blocks: tuple[TileBlock, ...]
    candidates: tuple[Tile, ...]
    padded: Tensor  # i64[P]: token * H + head at each place [b, H, n] of the blocks, one block after another
    where: Tensor  # i64[L * H]: each row in the outputs [b, H, r] of the tiles, one tile after another

    @property
    def tiles(self) -> list[Tile]:
        """All tiles, in the order of their numbers."""
        return [*(tile for block in self.blocks for tile in block.tiles), *self.candidates]

    def tokens_at(self, tile: Tile, index: Tensor) -> Tensor:
        """Return the tokens (into L) at indices into the tile's sequences; padding gives the last token of each."""
        starts = self.starts[tile.sequences][:, None, None]
        last = self.lengths[tile.sequences][:, None, None] - 1
        return starts + torch.minimum(index, last)


def plan_tiles(
    offsets: Tensor, *, max_len: int, tokens: int, heads: int, num_targets: Tensor | None = None, window: int = 0
) -> TilePlan:
    """Divide a batch into tiles.

    Args:
        offsets: Bounds of the sequences, i64[B+1], from 0 to `tokens`, never falling.
        max_len: The longest sequence allowed; candidates count as one token.
        tokens: L.
        heads: H.
        num_targets: Number of candidates at the end of each sequence, i64[B], or None.
        window: The number of tokens before itself that a row sees, 0 for all.

    Raises:
        ModelError: The arguments do not describe a batch, or a sequence is too long.
    """
    bounds, targets = checked(offsets, tokens, num_targets, max_len, window)
    return _Planner(bounds, targets, heads, window, offsets.device).plan(max_len)


def plan_candidates(history: int, max_len: int) -> TilePlan:
    """Return a plan on the CPU with one tile of one row, for candidates after one history: place and time are the same.

    Its keys are those of the history and, as the last column, the candidate's own.
    """
    keys = torch.arange(history + 1)[None, None]
    whole, rows, seen = slice(history, history + 1), keys[..., -1:], torch.ones_like(keys, dtype=torch.bool)
    tile = Tile(0, torch.zeros(1, dtype=torch.int64), rows, keys, history, seen, whole, slice(0, history))
    starts, none = torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    return TilePlan(history + 1, max_len, starts, starts + history + 1, (), (tile,), none, none)


class _Planner:
    """The state of making one plan."""

    def __init__(
        self, bounds: NDArray[np.int64], targets: NDArray[np.int64], heads: int, window: int, device: torch.device
    ) -> None:
        self.starts, self.lengths = bounds[:-1], np.diff(bounds)
        self.targets, self.histories = targets, self.lengths - targets
        self.window, self.device = window, device
        self.area = AREA.get(device.type, AREA["cuda"])
        self.heads = np.arange(heads)
        self.where = np.empty((bounds[-1], heads), np.int64)
        self.tiles = self.outputs = 0

    def plan(self, max_len: int) -> TilePlan:
        order = np.argsort(-self.histories, kind="stable")
        order = order[: np.count_nonzero(self.histories)]
        blocks, padded = [], [np.empty(0, np.int64)]
        for sequences in _blocks_of(order, self.histories[order].tolist(), self.area):
            block, places_bHn = self._block(sequences)
            blocks.append(block)
            padded.append(places_bHn.ravel())
        candidates = [tile for b in np.flatnonzero(self.targets).tolist() for tile in self._candidates(b)]
        return TilePlan(
            tokens=len(self.where),
            max_len=max_len,
            starts=self._tensor(self.starts),
            lengths=self._tensor(self.lengths),
            blocks=tuple(blocks),
            candidates=tuple(candidates),
            padded=self._tensor(np.concatenate(padded)),
            where=self._tensor(self.where.ravel()),
        )

    def _block(self, sequences: NDArray[np.int64]) -> tuple[TileBlock, NDArray[np.int64]]:
        histories_b1 = self.histories[sequences][:, None]
        length = int(histories_b1[0, 0])
        index = np.arange(length)
        tokens_bn = self.starts[sequences][:, None] + np.minimum(index, histories_b1 - 1)
        real_bn = index < histories_b1
        tiles = []
        for first in range(0, length, ROWS):
            rows = slice(first, min(length, first + ROWS))
            keys = slice(max(0, first - self.window) if self.window else 0, rows.stop)
            tiles.append(self._tile(sequences, rows, keys, self._range(keys), length, rows, keys))
            self._output(tokens_bn[:, rows], real_bn[:, rows])
        places_bHn = tokens_bn[:, None] * len(self.heads) + self.heads[:, None]
        return TileBlock(len(sequences) * len(self.heads), length, tuple(tiles)), places_bHn

    def _candidates(self, b: int) -> list[Tile]:
        start, history, end = int(self.starts[b]), int(self.histories[b]), int(self.lengths[b])
        keys = slice(max(0, history - self.window) if self.window else 0, history)
        keys_1k = self._range(keys)
        step = max(1, self.area // (keys.stop - keys.start + 1))
        tiles = []
        for first in range(history, end, step):
            rows = slice(first, min(end, first + step))
            rows_r1 = self._range(rows)[:, None]
            keys_rk = torch.cat((keys_1k.expand(len(rows_r1), -1), rows_r1), 1)
            row_tokens, key_tokens = (slice(start + part.start, start + part.stop) for part in (rows, keys))
            tiles.append(self._tile(np.array([b]), rows, keys, keys_rk, history, row_tokens, key_tokens))
            self._output(np.arange(row_tokens.start, row_tokens.stop)[None], np.ones((1, len(rows_r1)), bool))
        return tiles

    def _tile(
        self,
        sequences: NDArray[np.int64],
        rows: slice,
        keys: slice,
        keys_rk: Tensor,
        history: int,
        row_slice: slice,
        key_slice: slice,
    ) -> Tile:
        rows_1r1 = self._range(rows)[None, :, None]
        keys_1rk = keys_rk.view(1, -1, keys_rk.shape[-1])
        visible = sees(rows_1r1, keys_1rk, history, self.window)
        tile = Tile(self.tiles, self._tensor(sequences), rows_1r1, keys_1rk, history, visible, row_slice, key_slice)
        self.tiles += 1
        return tile

    def _output(self, tokens_br: NDArray[np.int64], real_br: NDArray[np.bool_]) -> None:
        at_b, at_r = real_br.nonzero()
        rows, heads = real_br.shape[1], len(self.heads)
        first = self.outputs + at_b * heads * rows + at_r
        self.where[tokens_br[real_br]] = first[:, None] + self.heads * rows
        self.outputs += real_br.size * heads

    def _range(self, part: slice) -> Tensor:
        return torch.arange(part.start, part.stop, device=self.device)

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _blocks_of(order: NDArray[np.int64], lengths: Sequence[int], area: int) -> list[NDArray[np.int64]]:
    """Divide sequences, longest first, into blocks of bounded area and padding."""
    blocks, start, waste = [], 0, 0
    for i, n in enumerate(lengths):
        longest = lengths[start]
        waste += longest**2 - n**2
        if i > start and (waste > area // WASTE or (i - start + 1) * longest * min(longest, ROWS) > area):
            blocks.append(order[start:i])
            start, waste = i, 0
    return [*blocks, order[start:]] if len(order) else []


def checked(
    offsets: Tensor, tokens: int, num_targets: Tensor | None, max_len: int, window: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return offsets and candidates as arrays.

    Raises:
        ModelError: The arguments do not describe a batch, or a sequence is too long; the sentence says which.
    """
    if offsets.dtype != torch.int64 or offsets.dim() != 1 or not len(offsets):
        raise ModelError(f"Attention's offsets must be int64 [B+1], not {_shape(offsets)}.")
    bounds = offsets.cpu().numpy()
    lengths = np.diff(bounds)
    if bounds[0] != 0 or bounds[-1] != tokens or (lengths < 0).any():
        raise ModelError(
            f"Attention's offsets run from {bounds[0]} to {bounds[-1]} (shortest sequence: "
            f"{lengths.min(initial=0)}); they must rise from 0 to {tokens}, the number of tokens given."
        )
    if window < 0:
        raise ModelError(f"Attention's window is {window}; give the number of previous tokens seen, or 0 for all.")
    targets = np.zeros_like(lengths)
    if num_targets is not None:
        if num_targets.dtype != torch.int64 or num_targets.shape != (len(lengths),):
            raise ModelError(f"num_targets must be int64 [B] = [{len(lengths)}], not {_shape(num_targets)}.")
        targets = num_targets.cpu().numpy()
    wrong = np.flatnonzero((targets < 0) | (targets > lengths))
    if wrong.size:
        b = wrong[0]
        raise ModelError(f"Sequence {b} has {lengths[b]} tokens, so {targets[b]} of them cannot be candidates.")
    stood = lengths - targets + (targets > 0)
    wrong = np.flatnonzero(stood > max_len)
    if wrong.size:
        raise ModelError(
            f"Sequence {wrong[0]} has {stood[wrong[0]]} tokens (candidates count as one), more than max_len {max_len}; "
            "pass its last ones only, or raise model.max_len and train again."
        )
    return bounds, targets


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
