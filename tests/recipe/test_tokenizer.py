"""Qwen2's tokenizer rebuilt, and its cut: closed under merges, bytes in place, specials last."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from recipe import tokenizer as subject
from recipe.fetch import DATA
from sightrank.errors import CheckpointError
from sightrank.weights import NANO

WORDS = (b"he", b"ll", b"hell", b"hello", b" w", b"or", b"ld", b"orld", b" world", b"xy", b"xyz")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """256 bytes, printable ones first, and eleven merges, from a file of ranks like Qwen's."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    tokens = [bytes([byte]) for byte in printable + others] + list(WORDS)
    path = tmp_path_factory.mktemp("ranks") / "tiny.tiktoken"
    path.write_bytes(b"".join(_line(token, rank) for rank, token in enumerate(tokens)))
    return subject.qwen_tokenizer(path)


@pytest.fixture(scope="module")
def qwen() -> Tokenizer:
    wheels = list((DATA / "packages").glob("dashscope-*.whl"))
    if not wheels:
        pytest.skip("Qwen's ranks are not here; fetch them with python -m recipe.fetch dashscope")
    return subject.qwen_tokenizer(wheels[0])


def _line(token: bytes, rank: int) -> bytes:
    return base64.b64encode(token) + f" {rank}\n".encode()


def test_merges_are_found_again_from_ranks(tiny: Tokenizer) -> None:
    merges = subject.merges_of(tiny)
    assert len(merges) == len(WORDS)
    assert merges[2] == ("he", "ll")
    assert merges[3] == ("hell", "o")
    assert merges[8] == ("\u0120w", "orld")
    assert tiny.encode("hello world").ids == [259, 264]


def test_a_cut_keeps_the_parts_of_what_it_keeps(tiny: Tokenizer) -> None:
    counts = subject.count_ids(tiny, ["hello"] * 5 + ["xyz"] * 2)
    cut = subject.prune(tiny, counts, 256 + 4 + 14)
    kept = [left + right for left, right in subject.merges_of(cut)]
    assert kept == ["he", "ll", "hell", "hello"]
    assert cut.encode("hello").ids == [259]
    assert cut.decode(cut.encode("hello xyz").ids) == "hello xyz"


def test_uses_of_a_dropped_token_pass_to_its_parts(tiny: Tokenizer) -> None:
    # "xyz" alone is used less than "he", but what "xyz" leaves to "xy" makes that used more.
    ids = {token: tiny.token_to_id(token) for token in ("he", "xy", "xyz")}
    cut = subject.prune(tiny, {ids["he"]: 5, ids["xy"]: 3, ids["xyz"]: 4}, 256 + 1 + 14)
    assert subject.merges_of(cut) == [("x", "y")]


@given(counts=st.dictionaries(st.integers(256, 266), st.integers(0, 9)), keep=st.integers(0, 11))
@settings(max_examples=50, deadline=None)
def test_any_cut_is_a_tokenizer(tiny: Tokenizer, counts: dict[int, int], keep: int) -> None:
    cut = subject.prune(tiny, counts, 256 + keep + 14)
    assert cut.get_vocab_size() == 256 + keep + 14
    vocab = cut.get_vocab(with_added_tokens=False)
    assert sorted(vocab.values()) == list(range(256 + keep))
    for left, right in subject.merges_of(cut):
        assert {left, right, left + right} <= vocab.keys()
    assert cut.id_to_token(100) == tiny.id_to_token(100) == "\u00a7"  # the score token, byte A7
    assert [cut.token_to_id(token) for token in subject.SPECIAL_TOKENS] == list(
        range(256 + keep, 256 + keep + 14)
    )
    assert cut.decode(cut.encode("hello world, xyz \u4e16").ids) == "hello world, xyz \u4e16"


def test_an_impossible_size_is_refused(tiny: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match="270 to 281"):
        subject.prune(tiny, {}, 300)


def test_ranks_with_a_gap_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "gap.tiktoken"
    path.write_bytes(_line(b"a", 0) + _line(b"b", 2))
    with pytest.raises(CheckpointError, match="2 ranks"):
        subject.read_ranks(path)


def test_languages_weigh_as_planned() -> None:
    counts = {"en": Counter({1: 10}), "de": Counter({2: 50}), "nl": Counter({3: 5})}
    shares = subject.balance(counts, dict.fromkeys(counts, 10**6))
    assert shares[1] == pytest.approx(1 / 3)
    assert shares[2] == pytest.approx(2 * shares[3])
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello, world!", [9707, 11, 1879, 0]),
        ("You are a helpful assistant.", [2610, 525, 264, 10950, 17847, 13]),
        ("\u4f60\u597d\uff0c\u4e16\u754c", [108386, 3837, 99489]),
        ("السلام عليكم", [31382, 124941, 124794, 124613]),
        ("12345", [16, 17, 18, 19, 20]),
        ("<|vision_start|><|image_pad|><|vision_end|>", [151652, 151655, 151653]),
        ("**Document**:\n", [334, 7524, 334, 510]),
        ("\n**Query**:\n", [198, 334, 2859, 334, 510]),
        ("§", [17851]),
    ],
)
def test_qwen_goldens(qwen: Tokenizer, text: str, ids: list[int]) -> None:
    assert qwen.encode(text).ids == ids


def test_qwen_counts_of_the_model_card(qwen: Tokenizer) -> None:
    documents = {
        "数据提取么？为什么不用正则啊，你用正则不就全解决了么？": 31,
        "During the California Gold Rush, some merchants made more money selling supplies to "
        "miners than the miners made finding gold.": 33,
    }
    for text, tokens in documents.items():
        prompt = f"**Document**:\n{text}\n**Query**:\nslm markdown"
        assert len(qwen.encode(prompt).ids) == tokens


def test_qwen_has_all_its_ids(qwen: Tokenizer) -> None:
    assert qwen.get_vocab_size() == 151_657
    assert len(subject.merges_of(qwen)) == 151_387
    assert qwen.token_to_id("<|endoftext|>") == 151_643


def test_nano_tokens_are_qwens(qwen: Tokenizer) -> None:
    cut = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    config = json.loads((NANO / "config.json").read_text(encoding="utf-8"))
    assert cut.get_vocab_size() == config["vocab_size"]
    kept = subject.merges_of(cut)[: subject.GROWN - subject.NUM_BYTES - len(subject.SPECIAL_TOKENS)]
    theirs = set(kept)
    assert [merge for merge in subject.merges_of(qwen) if merge in theirs] == kept
    assert all(cut.id_to_token(i) == qwen.id_to_token(i) for i in range(256))
    text = "Überprüfung der 42 Straßen: Größe ≥ 3,5 m² — 東京 и Москва"
    assert cut.decode(cut.encode(text).ids) == text


def test_marks_are_parts_of_words_where_they_are_asked_to_be() -> None:
    letters = {letter: place for place, letter in enumerate(subject.byte_letters())}
    for text, parts in {"हिन्दी है": (6, 2), "don't (go) 42!\n": (9, 9)}.items():
        for split, count in zip((subject.SPLIT, subject.SPLIT_WITH_MARKS), parts, strict=True):
            splitter = subject.assemble(letters, [], split).pre_tokenizer
            assert len(splitter.pre_tokenize_str(text)) == count
