"""Word-by-word translation, and a vocabulary that grows without changing what it had."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from recipe import grow, pack, tokenizer
from recipe.lexicon import Lexicon, is_word
from sightrank.weights import NANO

WORDS = (" water", " Water", " waters", " fire", " вода", "水", "火", "ter", "42")


@pytest.fixture
def words() -> Tokenizer:
    """A token for each of WORDS."""
    letters = tokenizer.byte_letters()
    spelt = ["".join(letters[byte] for byte in word.encode()) for word in WORDS]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(spelt)}, "?"))
    made.decoder = decoders.ByteLevel()
    return made


@pytest.fixture
def lexicon(words: Tokenizer) -> Lexicon:
    return Lexicon(vectors(), words)


def vectors() -> np.ndarray:
    """Everything about water has one vector, the rest another."""
    about = {"water": [1.0, 0.1], "fire": [0.0, 1.0]}
    kinds = ["water", "water", "water", "fire", "water", "water", "fire", "water", "water"]
    return np.array([about[kind] for kind in kinds], np.float32)


def test_a_translation_is_of_another_script_or_beginning(lexicon: Lexicon) -> None:
    found = lexicon[WORDS.index(" water")]
    assert found == {
        "CJK": [WORDS.index("水")],
        "CYRILLIC": [WORDS.index(" вода")],
    }
    latin = lexicon[WORDS.index("水")]["LATIN"]
    assert sorted(latin) == [0, 1, 2]
    assert list(lexicon[WORDS.index(" fire")]) == ["CJK"]


def test_fragments_and_numbers_have_no_translation(lexicon: Lexicon) -> None:
    assert not len(lexicon[WORDS.index("ter")])
    assert not len(lexicon[WORDS.index("42")])


def test_vowel_signs_belong_to_words() -> None:
    assert all(map(is_word, ("hello", "हिन्दी", "বাংলা", "ไทยนี้", "政府")))
    assert not any(map(is_word, ("", "a1", "x-y", "two words", "5")))


def test_swapping_keeps_what_has_no_translation(lexicon: Lexicon) -> None:
    query = np.array([0, 7, 3, 8])
    for seed in range(8):
        swapped = lexicon.swap(query, 1.0, np.random.default_rng(seed)).tolist()
        assert swapped in ([4, 7, 3, 8], [5, 7, 6, 8])  # all in one script
    assert query.tolist() == [0, 7, 3, 8]
    assert lexicon.swap(query, 0.0, np.random.default_rng(0)).tolist() == query.tolist()


def test_only_other_scripts_count(words: Tokenizer) -> None:
    counts = dict.fromkeys(range(len(WORDS)), 2.0)
    assert grow.not_latin(words, counts) == {4: 2.0, 5: 2.0, 6: 2.0}


def test_old_rows_stay_as_they_are(monkeypatch: pytest.MonkeyPatch, words: Tokenizer) -> None:
    drawn = np.random.default_rng(0).normal(size=(len(WORDS), 3)).astype(np.float32)
    kept = words.get_vocab()
    asked = {}

    def rows(_: Tokenizer, basis: np.ndarray) -> np.ndarray:
        asked["basis"] = basis.tolist()
        return drawn.copy()

    monkeypatch.setattr(grow, "word_rows", rows)
    old = Tokenizer(models.WordLevel({w: i for i, w in enumerate(list(kept)[1:4])}, "?"))
    before = np.arange(9, dtype=np.float32).reshape(3, 3)
    grown = grow.grown_rows(old, before, words)
    for word, place in kept.items():
        was = old.token_to_id(word)
        expected = drawn[place] if was is None else before[was]
        assert np.array_equal(grown[place], expected)
        assert asked["basis"][place] == (was is not None)


def test_nanos_rows_are_nanos_own() -> None:
    rows = pack.rows_for(NANO / "tokenizer.json")
    size = Tokenizer.from_file(str(NANO / "tokenizer.json")).get_vocab_size()
    assert rows.shape == (size, 384)
    assert np.array_equal(rows, pack.shipped_rows())
