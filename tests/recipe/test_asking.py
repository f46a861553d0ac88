"""Queries about passages: places by names of other languages, and opinions on who answers them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from recipe.asking import Asking, AskingConfig
from recipe.corpus_lists import names
from recipe.distil import Taught
from recipe.layout import Special
from recipe.pack import TextPack, build
from recipe.ranking import RankingConfig, TextRanking
from sightrank.config import ModelConfig
from sightrank.model.multimodal import RerankerModel

CITIES = {"en": "Moscow", "de": "Moskau", "ru": "Москва"}


@pytest.fixture(scope="module")
def pack(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TextPack:
    """Six passages with German versions, and a city for training and one held out."""
    folder = tmp_path_factory.mktemp("places")
    documents, queries, places = [], [], []
    for place, word in enumerate(("red", "blue", "green", "yellow", "white", "black")):
        row = {"group": f"g{place}", "split": "valid" if place == 3 else "train"}
        for lang, text in (
            ("en", f"The {word} house."),
            ("de", f"Das Haus: {word}."),
            ("ru", word),
        ):
            documents.append({**row, "lang": lang, "text": text, "source": "manual"})
        queries.append({**row, "lang": "en", "text": f"{word} house", "kind": "title"})
    for split, ending in (("train", ""), ("valid", "x")):
        for lang, name in CITIES.items():
            row = {"group": f"cldr/city/{split}", "lang": lang, "split": split, "source": "cldr"}
            places.append({**row, "text": name + ending})
    for name, rows in (("documents", documents), ("queries", queries), ("names", places)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    vectors = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 384))
    made = build(folder, tokenizer, vectors.astype(np.float32))
    made.save(folder / "text.npz")
    return TextPack.load(folder / "text.npz")


@pytest.mark.parametrize(("index", "ending"), [(0, ""), (9, "x")])
def test_a_place_is_named_in_the_passage_and_asked_for_by_another_name(
    pack: TextPack, tokenizer: Tokenizer, index: int, ending: str
) -> None:
    lang = pack.langs[pack.document_lang[index]]
    for seed in range(10):
        rng = np.random.default_rng(seed)
        asking = Asking(pack, AskingConfig(alone=1.0))
        body, query = asking.place(index, pack.documents[index], pack.queries[0], rng)
        asked = tokenizer.decode(query.tolist()).strip()
        assert f" {CITIES[lang]}{ending}" in tokenizer.decode(body.tolist())
        assert asked in {name + ending for key, name in CITIES.items() if key != lang}
        assert len(body) > len(pack.documents[index])


def test_a_place_may_end_another_query(pack: TextPack, tokenizer: Tokenizer) -> None:
    asking = Asking(pack, AskingConfig(alone=0.0))
    _, query = asking.place(0, pack.documents[0], pack.queries[0], np.random.default_rng(0))
    asked = tokenizer.decode(query.tolist())
    assert asked.startswith("red house ")
    assert asked.removeprefix("red house ") in {CITIES["de"], CITIES["ru"]}
    short = asking.under(AskingConfig(alone=0.0, query_tokens=9))
    assert len(short.place(0, pack.documents[0], pack.queries[0], np.random.default_rng(0))[1]) <= 9


def test_a_question_begins_in_the_language_of_the_query(
    pack: TextPack, tokenizer: Tokenizer
) -> None:
    always = AskingConfig(cross_lingual=1.0, span_share=1.0, question_share=1.0)
    german = pack.langs.index("de")
    row = next(i for i in range(3) if pack.document_lang[i] == german)
    for seed in range(10):
        _, query = Asking(pack, always).ask(row, pack.documents[row], np.random.default_rng(seed))
        begins = [tokenizer.decode(pack.questions[i].tolist()) for i in range(len(pack.questions))]
        asked = tokenizer.decode(query.tolist())
        own = [begin for begin in begins if asked.startswith(begin)]
        assert own
        assert all(pack.question_lang[begins.index(begin)] != german for begin in own)


def test_a_city_is_known_by_its_time_zone(tmp_path: Path) -> None:
    for lang, city in (("en", "Moscow"), ("ru", "Москва")):
        path = tmp_path / "main" / f"{lang}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"<ldml><zone type='Europe/Moscow'><exemplarCity>{city}</exemplarCity></zone></ldml>",
            encoding="utf-8",
        )
    found = list(names(tmp_path, ["en", "ru"]))
    assert [(each.group, each.lang, each.text) for each in found] == [
        ("cldr/city/Europe/Moscow", "en", "Moscow"),
        ("cldr/city/Europe/Moscow", "ru", "Москва"),
    ]


class Opinionated:
    """A teacher whose vectors are counts of letters."""

    def encode(self, texts: list[str], prefix: str) -> torch.Tensor:
        assert prefix in ("query: ", "passage: ")
        counts = [[text.lower().count(letter) for letter in "abcdefghijklm"] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(counts, dtype=torch.float32), dim=-1)


@pytest.fixture
def taught(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Taught:
    made = Taught(tokenizer)
    monkeypatch.setattr(made, "_teacher", Opinionated())
    return made


def test_shares_sum_to_one_and_follow_cosines_and_bm25_alike(
    pack: TextPack, taught: Taught
) -> None:
    rows = [pack.documents[0], pack.documents[3], pack.documents[6]]
    shares = taught.shares(rows, rows[:2], np.zeros((3, 2)))
    assert shares.shape == (3, 2)
    assert torch.allclose(shares.sum(dim=0), torch.ones(2))
    assert shares.argmax(dim=0).tolist() == [0, 1]
    lexical = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 7.0]])
    moved = taught.shares(rows, rows[:2], lexical)
    assert torch.allclose(moved[:, 0], shares[:, 0])
    assert moved[2, 1] > shares[2, 1]
    assert torch.allclose(moved, taught.shares(rows, rows[:2], 100 * lexical))  # in any unit


def test_a_step_that_teachers_have_scored_descends_towards_them(
    pack: TextPack,
    special: Special,
    config: ModelConfig,
    model: RerankerModel,
    taught: Taught,
) -> None:
    options = RankingConfig(sizes=((2, 20),), taught_share=1.0, page_share=0.0, name_share=0.0)
    ranking = TextRanking(pack, options, special, config.score_token_id, taught=taught)
    batch = next(ranking.batches(1))
    assert batch["taught"].shape == batch["labels"].shape == (2, 4)
    assert batch["labels"].any(dim=0).tolist() == [True, True, False, False]
    with torch.no_grad():
        logits = ranking.logits(model, batch).float()
        agreed = {**batch, "taught": logits.softmax(dim=0)}
        opposed = {**batch, "taught": (-logits).softmax(dim=0)}
        assert ranking.loss(model, agreed)[0] < ranking.loss(model, opposed)[0]
        # Of queries that none of the documents answers only the opinion counts.
        other = agreed["taught"].clone()
        other[:, 2:] = other[:, 2:].flip(0)
        assert ranking.loss(model, {**batch, "taught": other})[0] > ranking.loss(model, agreed)[0]
        assert all(map(math.isfinite, ranking.loss(model, batch)[1].values()))
        # An opinion that is the labels changes nothing; any other does.
        alone = ranking.batch([0, 3], np.random.default_rng(1), grids=0.0)
        plain = ranking.loss(model, alone)[0]
        same = alone["labels"].float()
        assert torch.allclose(ranking.loss(model, {**alone, "taught": same})[0], plain, atol=1e-5)
        swapped = ranking.loss(model, {**alone, "taught": same.flip(0)})[0]
        assert not torch.allclose(swapped, plain, atol=1e-3)
    short = replace(options, sizes=((4, 20),))
    with pytest.raises(SystemExit, match="8 documents of different groups"):
        next(TextRanking(pack, short, special, config.score_token_id, taught=taught).batches(1))
    none = TextRanking(
        pack, replace(options, taught_share=0.0), special, config.score_token_id, taught=taught
    )
    assert "taught" not in next(none.batches(0))
