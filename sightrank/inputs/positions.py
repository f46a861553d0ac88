"""Three-row rotary positions (time, height, width), as Qwen2-VL's M-RoPE counts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def positions(
    layout: Sequence[int | tuple[int, int]], start: int = 0
) -> tuple[NDArray[np.int32], int]:
    """Positions of a run of tokens, shape (3, n), and the position of the token after them.

    `layout` lists what the run holds in order: an int k is k text tokens, (h, w) an image of h rows
    and w columns of visual tokens. Text advances all three rows by one a token. Inside an image
    that begins at p, token (i, j) has (p, p + i, p + j); the next token is at p + max(h, w).
    """
    pieces = [np.empty((3, 0), dtype=np.int32)]
    at = start
    for item in layout:
        if isinstance(item, int):
            pieces.append(np.tile(np.arange(at, at + item, dtype=np.int32), (3, 1)))
            at += item
        else:
            rows, columns = np.indices(item, dtype=np.int32).reshape(2, -1)
            pieces.append(np.stack([np.zeros_like(rows), rows, columns]) + np.int32(at))
            at += max(item)
    return np.concatenate(pieces, axis=1), at
