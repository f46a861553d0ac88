"""Translation word by word: for each token those of other beginnings that mean the most alike.

The corpus has few aligned texts in some languages and none in others; the word vectors hold what the
teacher knows of all of them. A query some of whose words are swapped for such neighbours teaches the
decoder to match meanings where it would match surfaces.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from recipe.layout import Ints

NEAR = 0.45
"""Cosine from which two tokens count as translations of each other."""
MOST = 4
"""Translations a token has at most, of each script."""
UNSPACED = {"CJK": 1, "HANGUL": 2, "THAI": 3, "LAO": 3, "KHMER": 3, "MYANMAR": 3}
"""Scripts without spaces, or with endings that are words, and the letters of a word at least."""


class Lexicon:
    """Translations by token, in other scripts and, of another beginning, in the same one."""

    def __init__(self, vectors: NDArray[np.float32], tokenizer: Tokenizer) -> None:
        size = tokenizer.get_vocab_size()
        words = [tokenizer.decode([token], skip_special_tokens=False) for token in range(size)]
        scripts = np.array([_script(word) for word in words])
        # Inflected forms share their beginning, and so do most words borrowed from one another.
        _, begins = np.unique([word.strip().casefold()[:2] for word in words], return_inverse=True)
        units = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=-1)
        rows = [np.flatnonzero(scripts == name) for name in sorted(set(scripts) - {""})]
        found: dict[int, list[int]] = defaultdict(list)
        for one in rows:
            for other in rows:
                for token, near in _nearest(units, one, other, begins):
                    found[token].append(near)
        self._found = {token: np.array(near) for token, near in found.items()}

    def __len__(self) -> int:
        """Tokens that have translations."""
        return len(self._found)

    def __getitem__(self, token: int) -> Ints:
        """Tokens that mean much the same."""
        return self._found.get(token, np.empty(0, np.int64))

    def swap(self, query: Ints, share: float, rng: np.random.Generator) -> Ints:
        """The query with about `share` of its words swapped for translations."""
        swapped = query.copy()
        for place in np.flatnonzero(rng.random(len(query)) < share):
            found = self[int(query[place])]
            if len(found):
                swapped[place] = rng.choice(found)
        return swapped


def _nearest(
    units: Tensor, rows: Ints, others: Ints, begins: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """(token of `rows`, one of the most alike of `others`) with a cosine of at least NEAR."""
    start = torch.from_numpy(begins)
    for block in torch.split(torch.from_numpy(rows), 2048):
        cosines = units[block] @ units[others].T
        cosines[start[block][:, None] == start[others][None]] = -1.0
        near = cosines.topk(min(MOST, len(others)), dim=1)
        at, which = (near.values >= NEAR).nonzero(as_tuple=True)
        chosen = others[near.indices[at, which].numpy()]
        yield from zip(block[at].tolist(), chosen.tolist(), strict=True)


def _script(surface: str) -> str:
    """The script of a token that is probably a word, else an empty string."""
    word = surface.strip()
    scripts = {unicodedata.name(char, "?").split()[0] for char in word}
    if scripts & {"HIRAGANA", "KATAKANA"}:
        scripts = scripts - {"HIRAGANA", "KATAKANA"} | {"CJK"}
    if not word.isalpha() or len(scripts) > 1:
        return ""
    (script,) = scripts
    if script in UNSPACED:
        return script if len(word) >= UNSPACED[script] else ""
    return script if surface.startswith(" ") and len(word) > 2 else ""
