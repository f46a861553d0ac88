"""Translation word by word: for each token those of other beginnings that mean the most alike.

The corpus has few aligned texts in some languages and none in others; the word vectors hold what the
teacher knows of all of them. A query some of whose words are swapped for such neighbours teaches the
decoder to match meanings where it would match surfaces.
"""

from __future__ import annotations

import unicodedata
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
        texts = [tokenizer.decode([token], skip_special_tokens=False) for token in range(size)]
        units = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=-1)
        scripts = np.array([_script(text) for text in texts])
        # Inflected forms share their beginning, and so do most words borrowed from one another.
        _, begins = np.unique([text.strip().casefold()[:2] for text in texts], return_inverse=True)
        rows = {name: np.flatnonzero(scripts == name) for name in sorted(set(scripts) - {""})}
        self._found: dict[int, dict[str, list[int]]] = {}
        for one in rows.values():
            for name, other in rows.items():
                for token, near in _nearest(units, one, other, begins):
                    self._found.setdefault(token, {}).setdefault(name, []).append(near)

    def __len__(self) -> int:
        """Tokens that have translations."""
        return len(self._found)

    def __getitem__(self, token: int) -> dict[str, list[int]]:
        """By script, tokens that mean much the same."""
        return self._found.get(token, {})

    def swap(self, query: Ints, share: float, rng: np.random.Generator) -> Ints:
        """The query with about `share` of its words swapped for translations, all in one script."""
        known = sorted({script for token in query.tolist() for script in self[token]})
        if not known:
            return query
        script = known[int(rng.integers(len(known)))]
        swapped = query.copy()
        for place in np.flatnonzero(rng.random(len(query)) < share):
            if near := self[int(query[place])].get(script):
                swapped[place] = rng.choice(near)
        return swapped


def _nearest(
    units: Tensor, rows: Ints, others: Ints, begins: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """(token of `rows`, one of the most alike of `others`) with a cosine of at least NEAR."""
    start = torch.from_numpy(begins)
    kept = units[others]
    for block in torch.split(torch.from_numpy(rows), 512):
        cosines = units[block] @ kept.T
        cosines[start[block][:, None] == start[others][None]] = -1.0
        near = cosines.topk(min(MOST, len(others)), dim=1)
        at, which = (near.values >= NEAR).nonzero(as_tuple=True)
        chosen = others[near.indices[at, which].numpy()]
        yield from zip(block[at].tolist(), chosen.tolist(), strict=True)


def _script(surface: str) -> str:
    """The script of a token that is probably a word, else an empty string."""
    word = surface.strip()
    scripts = set(map(script_of, word))
    if scripts & {"HIRAGANA", "KATAKANA"}:
        scripts = scripts - {"HIRAGANA", "KATAKANA"} | {"CJK"}
    if not is_word(word) or len(scripts) > 1:
        return ""
    (script,) = scripts
    if script in UNSPACED:
        return script if len(word) >= UNSPACED[script] else ""
    return script if surface.startswith(" ") and len(word) > 2 else ""


def script_of(char: str) -> str:
    """The first word of the character's name: LATIN, CJK; "?" if it has none."""
    return unicodedata.name(char, "?").split()[0]


def is_word(text: str) -> bool:
    """Whether it is letters and nothing else; the vowel signs of India's scripts count as letters."""
    return bool(text) and all(unicodedata.category(char)[0] in "LM" for char in text)
