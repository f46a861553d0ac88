"""How rare each token is, which its row does not tell and by which shared words are weighed.

A linear map finds a quarter of it in the rows, of tokens it was not fitted to. Two sources are averaged:
the share of the pack's documents that hold a token, in the language where that is largest, and the
teacher's vocabulary, which knows how often its pieces stand on the web.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from recipe.pack import TextPack, vocabulary
from recipe.teacher_file import FOLDER, TOKENIZER, wheel_member

ENOUGH = 800
"""Documents of a language that say how rare a token is in it."""
COMMONEST, MOST = 7.0, 9.0
"""-log of how often the commonest words stand on the web; and what is as rare as can be, from there."""
BOUND = 2.5
"""Spreads from the mean, at most."""


def rarity(pack: TextPack, tokenizer: Tokenizer) -> NDArray[np.float32]:
    """Of each token (vocabulary,), in spreads about the mean of running tokens, each of which counts as
    often as the square root of the documents it is in."""
    surfaces, known = vocabulary(tokenizer)
    here, found_in = in_documents(pack)
    there = on_the_web(wheel_member(FOLDER, *TOKENIZER).decode(), surfaces)
    there = np.where(known & ~np.isnan(there), there, COMMONEST)
    both = (here + (there - COMMONEST).clip(0, MOST)) / 2
    weight = np.sqrt(found_in)
    mean = np.average(both, weights=weight)
    spread = np.average((both - mean) ** 2, weights=weight) ** 0.5
    bounded: NDArray[np.float32] = ((both - mean) / spread).clip(-BOUND, BOUND).astype(np.float32)
    return bounded


def in_documents(pack: TextPack) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """-log of the largest share of a language's documents that hold a token, at most MOST; and the
    documents of all those languages that do."""
    size = len(pack.vectors)
    rare, total = np.full(size, MOST), np.zeros(size, np.int64)
    for lang in range(len(pack.langs)):
        rows = np.flatnonzero((pack.document_lang == lang) & ~pack.is_name)
        if len(rows) >= ENOUGH:
            found_in = np.zeros(size, np.int64)
            for row in rows:
                found_in[np.unique(pack.documents[int(row)])] += 1
            rare = np.minimum(rare, np.log(len(rows) / (found_in + 0.5)))
            total += found_in
    return rare.clip(0, MOST), total


def on_the_web(teacher: str, surfaces: Sequence[str]) -> NDArray[np.float64]:
    """-log of the probability of each surface under the unigram model of the teacher's tokenizer.json:
    of the piece that it is, or of the pieces it is made of; NaN where there are none."""
    from recipe.teacher import pieces_of

    scores = [score for _, score in json.loads(teacher)["model"]["vocab"]]
    tokenizer = Tokenizer.from_str(teacher)
    tokenizer.no_truncation()
    ids = tokenizer.get_vocab()
    pieces = [pieces_of(tokenizer, ids, surface) for surface in surfaces]
    return np.array([-sum(scores[i] for i in row) if row else np.nan for row in pieces])
