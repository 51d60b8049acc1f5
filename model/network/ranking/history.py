"""The histories of requests, padded, and the candidates that are ranked after them.

L tokens, B sequences, R requests, K behaviours of the longest history, N candidates, D width. A *behaviour* is an item
that the user acted on: its row plus the action's. What was only shown is none. Rows are scaled by sqrt(D), as the
tokens of every encoder are.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from model.arrays.take_rows import take_rows
from stream.example import Kind

_PROFILE = 8  # attribute values of a user at most, the last ones


class Histories(NamedTuple):
    """What was known before each request; behaviours oldest first, padded at the end."""

    behaviours: Tensor  # [R, K, D], zeros where there is none
    items: Tensor  # [R, K] their rows in the vocabulary, -1 where there is none or the item has no row
    ages: Tensor  # [R, K] seconds before the request, 0 where there is none
    there: Tensor  # [R, K] bool
    skipped: Tensor  # [R, K, D] the item that was last shown before the behaviour and is another, else zeros
    was_skipped: Tensor  # [R, K] whether there is one, bool
    profile: Tensor  # [R, D] mean of the user's attribute values, zeros where there are none


class Candidates(NamedTuple):
    """Shown items."""

    rows: Tensor  # [N, D]
    items: Tensor  # [N] their rows in the vocabulary
    request: Tensor  # [N] index into the requests


class Tokens(NamedTuple):
    """The tokens of a batch."""

    content: Tensor  # [L, D] rows of items or attribute values, not yet scaled
    action: Tensor  # [L, D] rows of the actions, zeros where there is none
    items: Tensor  # [L] rows of the items in the vocabulary, -1 where there is none
    kinds: Tensor  # [L] of stream.example.Kind
    ts_ms: Tensor  # [L]
    offsets: Tensor  # [B+1]


def candidates_of(rows_ND: Tensor, items_N: Tensor, request_N: Tensor) -> Candidates:
    """Return candidates from rows of the item table that are not yet scaled."""
    return Candidates(rows_ND * math.sqrt(rows_ND.shape[1]), items_N, request_N)


def histories(tokens: Tokens, query_R: Tensor, request_ms_R: Tensor, most: int) -> Histories:
    """Return the history up to each request.

    Args:
        tokens: The batch.
        query_R: The last token before the request, -1 for none.
        request_ms_R: Its time.
        most: Behaviours of a history at most; 0: all.
    """
    content_LD, kinds_L, offsets = tokens.content * math.sqrt(tokens.content.shape[1]), tokens.kinds, tokens.offsets
    acted_LD = content_LD + tokens.action * math.sqrt(content_LD.shape[1])
    at_RK, there_RK = last_of(kinds_L == Kind.ACTION, offsets, query_R, most)
    skipped_RK, was_skipped_RK = _skipped(tokens, at_RK, there_RK)
    known_RF, known = last_of(kinds_L == Kind.ATTRIBUTE, offsets, query_R, _PROFILE)
    profile_RD = _rows(content_LD, known_RF, known).sum(1) / known.sum(1, keepdim=True).clamp(min=1)
    age_RK = (request_ms_R[:, None] - _values(tokens.ts_ms, at_RK)).clamp(min=0).to(content_LD.dtype) / 1000
    return Histories(
        behaviours=_rows(acted_LD, at_RK, there_RK),
        items=torch.where(there_RK, _values(tokens.items, at_RK), -1),
        ages=age_RK * there_RK,
        there=there_RK,
        skipped=_rows(content_LD, skipped_RK, was_skipped_RK),
        was_skipped=was_skipped_RK,
        profile=profile_RD,
    )


def last_of(marked_L: Tensor, offsets: Tensor, query_R: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the last marked tokens up to each query, oldest first, and where there is one, [R, K] each."""
    before = torch.cat((offsets.new_zeros(1), marked_L.cumsum(0)))  # [L+1] marked tokens before each token
    sequence_R = (torch.searchsorted(offsets, query_R, right=True) - 1).clamp(min=0)
    end_R = before[query_R + 1]
    count_R = end_R - before[offsets[sequence_R]]
    count_R = count_R.clamp(max=most) if most else count_R
    k = torch.arange(max(1, int(count_R.max())) if len(count_R) else 1, device=offsets.device)
    place_M = torch.nonzero(marked_L).flatten()
    at_RK = (end_R - count_R)[:, None] + k
    return _values(place_M, at_RK.clamp(max=max(0, len(place_M) - 1))), k < count_R[:, None]


def _skipped(tokens: Tokens, at_RK: Tensor, there_RK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last shown token of another item before each behaviour, and where there is one, [R, K] each."""
    index_L = torch.arange(len(tokens.kinds), device=at_RK.device)
    shown_L = torch.where(tokens.kinds == Kind.IMPRESSION, index_L, -1).cummax(0).values
    before = torch.cat((shown_L.new_full((1,), -1), shown_L))  # [L+1] the last shown token before each token
    own_RK, found_RK = _values(tokens.items, at_RK), _values(before, at_RK)
    same_RK = _values(tokens.items, found_RK.clamp(min=0)) == own_RK
    found_RK = torch.where(same_RK, _values(before, found_RK.clamp(min=0)), found_RK)
    start_RK = tokens.offsets[(torch.searchsorted(tokens.offsets, at_RK, right=True) - 1).clamp(min=0)]
    item_RK = _values(tokens.items, found_RK.clamp(min=0))
    return found_RK.clamp(min=0), there_RK & (found_RK >= start_RK) & (item_RK >= 0) & (item_RK != own_RK)


def _values(column: Tensor, at_RK: Tensor) -> Tensor:
    """Return the values of a column, zeros if it is empty."""
    return column[at_RK] if len(column) else torch.zeros_like(at_RK)


def _rows(rows_LD: Tensor, at_RK: Tensor, there_RK: Tensor) -> Tensor:
    if not len(rows_LD):
        return rows_LD.new_zeros(*at_RK.shape, rows_LD.shape[1])
    rows_RKD = take_rows(rows_LD, at_RK.flatten()).view(*at_RK.shape, rows_LD.shape[1])
    return rows_RKD * there_RK[..., None]
