"""Make whole words of what nano's vocabulary cuts up: `python -m recipe.whole`.

Qwen2's merges make few words of other languages than English and Chinese whole: by use 29 of 100 words
in Latin letters, 15 of Russian ones, none of Greek. A word of one token has a row that says what it means,
one of three is guessed from its pieces. So merges of our own follow Qwen2's, learned from the words of the
web as byte-pair encoding does, and rows for them come from the teacher. Old tokens keep their ids' order.
"""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from recipe.fetch import DATA
from recipe.pack import known_surfaces, shipped_rows, unit_rows, word_rows
from recipe.teacher import Teacher
from recipe.tokenizer import SPECIAL_TOKENS, SPLIT_WITH_MARKS, Merge, assemble, merges_of
from recipe.wiring import MEANING, written_basis
from recipe.words import JOINED, LISTED, SPOKEN, meanings, words_by_script
from sightrank.model.quantize import dequantise, quantise_halves
from sightrank.weights import NANO

SIZE = 77_824
"""Ids in the vocabulary: as many as rows of four bits have place for where eight bits had 39,936."""
GAINS = (0.34, 0.25, 0.12)
"""What a word of two, three or more tokens gains by having one less: shares of words whose translation
nano found among a thousand, 0.48 of two, 0.23 of three, 0.12 of four, and by the teacher's own 0.82."""
FIRST = 0.05
"""Share of words with no space before them, at the beginning of a text or after a sign."""


def main() -> None:
    """Write `.data/tokenizer/`: the tokenizer, and rows for all of its tokens."""
    folder = DATA / "tokenizer"
    old = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    teacher = Teacher.load(DATA / "packages")
    used = usage(teacher)
    grown = widen(old, used, SIZE)
    rows = widened_rows(old, shipped_rows(), grown, teacher, used)
    folder.mkdir(parents=True, exist_ok=True)
    grown.save(str(folder / "tokenizer.json"), pretty=False)
    np.save(folder / "vectors.npy", rows)
    print(json.dumps({"ids": len(rows), "merges": len(merges_of(grown))}))


def usage(teacher: Teacher) -> dict[str, float]:
    """Words of the scripts that come first as they stand in a text, after a space or at its beginning,
    and how often each is used: in all of a script as often as in training (`Words.listed`)."""
    used: dict[str, float] = {}
    for script, (words, edges) in words_by_script(teacher.tokenizer.get_vocab()).items():
        if script in SPOKEN:
            share = len(words) ** LISTED / edges[-1]
            shares = (np.diff(edges, prepend=0.0) * share).tolist()
            places = {"": 1.0} if script in JOINED else {" ": 1 - FIRST, "": FIRST}
            for before, part in places.items():
                used |= {
                    before + word: part * each for word, each in zip(words, shares, strict=True)
                }
    return used


def widen(old: Tokenizer, used: Mapping[str, float], size: int) -> Tokenizer:
    """`old` with merges after its own until it has `size` ids: always the pair of neighbours that is
    most used, as in byte-pair encoding (Sennrich et al. 2016). Special tokens stay the last."""
    vocab = old.get_vocab(with_added_tokens=False)
    letters = sorted(vocab, key=vocab.__getitem__)
    texts = list(used)
    merges = merges_of(old)
    cut_up = assemble(vocab, merges, SPLIT_WITH_MARKS).encode_batch(texts)
    pairs = _Pairs([each.tokens for each in cut_up], [used[text] for text in texts])
    while len(letters) < size - len(SPECIAL_TOKENS) and (pair := pairs.most_used()):
        merges.append(pair)
        made = pair[0] + pair[1]
        if made not in vocab:
            vocab[made] = len(letters)
            letters.append(made)
        pairs.merge(pair)
    return assemble(
        {token: number for number, token in enumerate(letters)}, merges, SPLIT_WITH_MARKS
    )


class _Pairs:
    """Neighbours in rows of tokens, each row used so often."""

    def __init__(self, rows: list[list[str]], weights: Sequence[float]) -> None:
        self.rows, self.weights = rows, weights
        self.counts: dict[Merge, float] = defaultdict(float)
        self.places: dict[Merge, set[int]] = defaultdict(set)
        for number in range(len(rows)):
            self._count(number, 1.0)
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def _count(self, number: int, sign: float) -> set[Merge]:
        pairs = list(pairwise(self.rows[number]))
        gain = GAINS[min(len(pairs), len(GAINS)) - 1] if pairs else 0.0
        for pair in pairs:
            self.counts[pair] += sign * self.weights[number] * gain
            if sign > 0:
                self.places[pair].add(number)
            else:
                self.places[pair].discard(number)
        return set(pairs)

    def most_used(self) -> Merge | None:
        """The pair with the largest count that is left; None if no row has two tokens."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if self.places[pair] and np.isclose(-count, self.counts[pair], rtol=1e-9):
                return pair
        return None

    def merge(self, pair: Merge) -> None:
        """Make one token of each two of that pair."""
        touched: set[Merge] = set()
        for number in sorted(self.places[pair]):
            touched |= self._count(number, -1.0)
            self.rows[number] = _merged(self.rows[number], pair)
            touched |= self._count(number, 1.0)
        for each in touched - {pair}:
            if self.places[each]:
                heapq.heappush(self.heap, (-self.counts[each], each))


def _merged(row: Sequence[str], pair: Merge) -> list[str]:
    made: list[str] = []
    place = 0
    while place < len(row):
        whole = tuple(row[place : place + 2]) == pair
        made.append("".join(pair) if whole else row[place])
        place += 2 if whole else 1
    return made


def widened_rows(
    old: Tokenizer,
    rows: NDArray[np.float32],
    grown: Tokenizer,
    teacher: Teacher,
    used: Mapping[str, float],
) -> NDArray[np.float32]:
    """Embeddings of the grown vocabulary, (size, 384), in steps of four bits as they ship.

    Old tokens keep their rows. A new one has what the teacher says of its surface and, as much, the mean
    of the rows of the pieces it had been: what is printed is still read in pieces. Words of either kind
    have what they mean (`Words.meant`) where the composing layers write it.
    """
    vocab = grown.get_vocab()
    tokens = sorted(vocab, key=vocab.__getitem__)
    place = old.get_vocab()
    known = np.array([token in place for token in tokens])
    surfaces, _ = known_surfaces(grown)
    fresh = word_rows(grown, basis=known)
    result = np.empty_like(fresh)
    result[known] = rows[[place[token] for token in tokens if token in place]]
    for number in np.flatnonzero(~known).tolist():
        pieces = old.encode(surfaces[number]).ids if "\ufffd" not in surfaces[number] else []
        result[number] = fresh[number] + (
            unit_rows(rows[pieces].mean(axis=0)[None])[0] if pieces else 0
        )
    result[~known] = unit_rows(result[~known])
    return _in_steps(_with_meanings(result, surfaces, used, teacher))


def _with_meanings(
    rows: NDArray[np.float32], surfaces: Sequence[str], used: Mapping[str, float], teacher: Teacher
) -> NDArray[np.float32]:
    """Rows with what words mean written along the directions that are kept for it."""
    weight: dict[str, float] = defaultdict(float)
    for text, share in used.items():
        weight[text.strip()] += share
    meant = dict(
        zip(weight, meanings(teacher, list(weight), np.array([*weight.values()])), strict=True)
    )
    basis = written_basis().numpy()
    words = [surface.strip() if surface in used else None for surface in surfaces]
    whole = np.array([word is not None for word in words])
    told = np.array([meant[word] for word in words if word is not None], np.float32)
    told /= np.linalg.norm(told, axis=1, keepdims=True)
    length = MEANING * rows.shape[1] ** 0.5
    written = rows.copy()
    written[whole] += (told * length - rows[whole] @ basis.T) @ basis
    return written


def _in_steps(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows as they come back from four bits, so that what is trained on them is what ships."""
    back: NDArray[np.float32] = dequantise(*quantise_halves(torch.from_numpy(rows))).numpy()
    return back


if __name__ == "__main__":
    main()
