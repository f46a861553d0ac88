"""Words become whole tokens: merges after those there are, rows that say what the words mean."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from recipe import whole
from recipe.teacher import Teacher
from recipe.tokenizer import NUM_BYTES, SPECIAL_TOKENS, merges_of
from recipe.whole import usage, widen, widened_rows
from recipe.wiring import MEANING, MEANING_SIZE, written_basis
from sightrank.model.quantize import quantise_halves

USED = {" haus": 5.0, " maus": 3.0, "haus": 1.0, " cat": 4.0, " mauser": 0.5}


@pytest.fixture
def grown(tokenizer: Tokenizer) -> Tokenizer:
    return widen(tokenizer, USED, NUM_BYTES + 10 + len(SPECIAL_TOKENS))


def test_most_used_words_become_whole(tokenizer: Tokenizer, grown: Tokenizer) -> None:
    assert merges_of(grown)[0] == ("a", "u")  # as often as "us": of two alike the first
    assert [len(grown.encode(text).ids) for text in (" haus", " cat", " maus")] == [1, 1, 1]
    assert grown.encode(" mauser").tokens == ["Ġmaus", "er"]
    assert grown.decode(grown.encode(" haus maus cat").ids) == " haus maus cat"


def test_old_tokens_stay_in_order_and_special_ones_last(
    tokenizer: Tokenizer, grown: Tokenizer
) -> None:
    again = widen(grown, USED | {" house": 9.0}, NUM_BYTES + 13 + len(SPECIAL_TOKENS))
    size = grown.get_vocab_size() - len(SPECIAL_TOKENS)
    assert merges_of(again)[: len(merges_of(grown))] == merges_of(grown)
    assert all(again.id_to_token(n) == grown.id_to_token(n) for n in range(size))
    last = [again.id_to_token(again.get_vocab_size() - 14 + n) for n in range(14)]
    assert tuple(last) == SPECIAL_TOKENS


def test_it_ends_where_nothing_is_left_to_merge(tokenizer: Tokenizer) -> None:
    grown = widen(tokenizer, {" ab": 1.0}, 5_000)
    assert grown.get_vocab_size() == NUM_BYTES + 2 + len(SPECIAL_TOKENS)


def test_rows_say_what_words_mean_and_which_pieces_they_had(
    tokenizer: Tokenizer, grown: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(tokenizer.get_vocab_size(), 384)).astype(np.float32)
    fresh = rng.normal(size=(grown.get_vocab_size(), 384)).astype(np.float32)
    means = {word: rng.normal(size=MEANING_SIZE) for word in ("haus", "maus", "cat", "mauser")}
    monkeypatch.setattr(whole, "word_rows", lambda tokenizer, basis: fresh)
    monkeypatch.setattr(whole, "meanings", lambda _, words, weight: [means[word] for word in words])
    found = widened_rows(tokenizer, rows, grown, cast(Teacher, None), USED)
    basis = written_basis().numpy()

    def apart(row: np.ndarray) -> torch.Tensor:  # from what is written
        return torch.from_numpy(row - row @ basis.T @ basis)

    def likeness(one: np.ndarray, other: np.ndarray) -> float:
        return float(F.cosine_similarity(apart(one), apart(other), dim=0))

    place = grown.encode(" haus").ids[0]
    written = found[place] @ basis.T
    meant = means["haus"] / np.linalg.norm(means["haus"])
    assert np.allclose(written, meant * MEANING * 384**0.5, atol=0.6)  # in steps of four bits
    pieces = rows[tokenizer.encode(" haus").ids].mean(axis=0)
    assert likeness(found[place], pieces) == pytest.approx(0.7, abs=0.1)
    assert likeness(found[place], fresh[place]) == pytest.approx(0.7, abs=0.1)
    bytes_ = grown.encode("é").ids[0]
    assert likeness(found[bytes_], rows[tokenizer.encode("é").ids[0]]) > 0.98
    stored, scale = quantise_halves(torch.from_numpy(found))
    again = (torch.stack((stored & 15, stored >> 4), -1).flatten(1).float() - 8) * scale[:, None]
    assert torch.allclose(
        again, torch.from_numpy(found), atol=1e-5
    )  # what is trained on is what ships


def test_words_of_a_text_come_after_a_space_or_first() -> None:
    texts = [f"▁word{a}{b}" for a in "abcdefghijk" for b in "lmnopqrstuv"]
    texts += [f"政{chr(0x4E00 + n)}" for n in range(120)]
    vocabulary = {text: number for number, text in enumerate(texts)}
    teacher = SimpleNamespace(tokenizer=SimpleNamespace(get_vocab=lambda: vocabulary))
    found = usage(cast(Teacher, teacher))
    assert found[" wordal"] == pytest.approx(19 * found["wordal"])
    assert found["政丁"] > found["政世"] > 0  # as often as they are used
    assert " 政丁" not in found
    latin = sum(share for text, share in found.items() if "word" in text)
    assert latin == pytest.approx(121**0.7)
