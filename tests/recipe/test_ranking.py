"""What is trained is what is shipped: a step's logits are those of the plain network, pair by pair."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from recipe.layout import Special, as_grid, as_picture
from recipe.lookalikes import Lookalikes
from recipe.pack import TextPack
from recipe.pages import PageConfig, PageRanking
from recipe.ragged import Ragged
from recipe.ranking import Body, RankingConfig, TextRanking, ndcg
from recipe.train import unfreeze
from recipe.trainer import Batch
from sightrank.config import ModelConfig
from sightrank.inputs.positions import positions
from sightrank.model.multimodal import RerankerModel
from tests.tolerances import ENGINE


@pytest.fixture
def ranking(pack: TextPack, special: Special, config: ModelConfig) -> TextRanking:
    return TextRanking(pack, RankingConfig(), special, config.score_token_id)


def pair(batch: Batch, document: int, query: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and positions of one prompt of a batch in which every slot holds one token."""
    bounds, lengths = batch["bounds"], batch["prefix_lengths"]
    first = int(lengths[:document].sum())
    size = int(lengths[document])
    tokens = batch["tokens"][bounds[first] : bounds[first + size]]
    starts = [0, *batch["query_lengths"].cumsum(0).tolist()]
    asked = slice(starts[query], starts[query + 1])
    ids = torch.cat((tokens, batch["query_ids"][asked]))
    steps = batch["query_steps"][asked] + batch["next_positions"][document]
    before = batch["prefix_positions"][:, document, :size]
    return ids, torch.cat((before, steps.expand(3, -1)), dim=1)


def test_a_step_scores_as_the_plain_network(ranking: TextRanking, model: RerankerModel) -> None:
    batch = ranking.batch([0, 3, 6, 9], np.random.default_rng(0), grids=0.0)
    with torch.inference_mode():
        logits = ranking.logits(model, batch)
    for document in range(4):
        for query in range(4):
            ids, places = pair(batch, document, query)
            plain = model.score_one(ids, places)
            assert float(logits[document, query]) == pytest.approx(plain, abs=ENGINE)


@pytest.fixture
def pages(
    pack: TextPack, tokenizer: Tokenizer, special: Special, config: ModelConfig, fonts_folder: Path
) -> PageRanking:
    options = PageConfig(fonts=str(fonts_folder), largest=24, picture_share=1.0)
    return PageRanking(pack, tokenizer, options, special, config.score_token_id)


def test_a_picture_in_a_step_scores_as_the_plain_network(
    pack: TextPack, config: ModelConfig, model: RerankerModel, pages: PageRanking
) -> None:
    bodies = [Body(pack.documents[index], (index,)) for index in (0, 2, 4)]
    shown = pages.show(bodies, np.random.default_rng(0), [True, False, True])
    asked = [pack.queries[index] for index in (0, 1, 2)]
    with torch.inference_mode():
        logits = pages._ask(model, shown, asked)
    first = 0
    pictures = iter(shown["grids"])
    for document in range(3):
        grid = next(pictures) if document != 1 else None
        patches = shown["patches"][first : first + grid[0] * grid[1]] if grid else None
        first += len(patches) if patches is not None else 0
        slots = shown["picture_slots"][document]
        for query in range(3):
            batch = {**shown, **_joined(asked, config.score_token_id)}
            ids, places = pair(batch, document, query)
            ids[: len(slots)][slots[: len(ids)]] = config.image_token_id
            plain = model.score_one(ids, places, patches, [grid] if grid else [])
            assert float(logits[document, query]) == pytest.approx(plain, abs=ENGINE)


@pytest.mark.parametrize("parts", [["model.layers."], ["model.layers.", "visual."]])
def test_the_tower_learns_from_ranking_where_it_is_a_part_of_the_stage(
    parts: list[str], model: RerankerModel, pages: PageRanking
) -> None:
    batch = pages.batch([0, 2, 4], np.random.default_rng(0), grids=0.0)
    learner = deepcopy(model)
    unfreeze({"parts": parts}, learner)
    pages.loss(learner, batch)[0].backward()  # type: ignore[no-untyped-call]
    learned = {name for name, weight in learner.named_parameters() if weight.grad is not None}
    assert any(name.startswith("model.layers.") for name in learned)
    assert ("visual.patch_embed.proj.weight" in learned) == ("visual." in parts)


def _joined(queries: list[np.ndarray], score: int) -> Batch:
    from recipe.grid import join_queries

    return join_queries(queries, score)


def test_a_grid_lies_where_the_network_puts_an_image(pack: TextPack, special: Special) -> None:
    rng = np.random.default_rng(2)
    grid = as_grid(pack.head, pack.documents[0], pack.tail, pack.widths, special, rng)
    inside = grid.positions[:, len(pack.head) + 1 : -len(pack.tail) - 1]
    size = tuple((inside[1:].max(axis=1) - inside[1:].min(axis=1) + 1).tolist())
    expected, following = positions([len(pack.head) + 1, size, 1 + len(pack.tail)])
    assert np.array_equal(grid.positions, expected)
    assert grid.next_position == following
    picture = as_picture(pack.head, size, pack.tail, special)
    assert np.array_equal(picture.positions, expected)
    assert len(picture.slots) == size[0] * size[1]


def test_a_grid_holds_every_token_once(pack: TextPack, special: Special) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        body = np.concatenate([pack.documents[row] for row in range(10)])
        grid = as_grid(pack.head, body, pack.tail, pack.widths, special, rng)
        inside = grid.tokens[len(pack.head) + 1 : len(grid.tokens) - len(pack.tail) - 1]
        kept = inside[inside != special.blank]
        assert sorted(kept.tolist()) == sorted(body.tolist())


def test_every_step_has_answers_and_none_from_validation(ranking: TextRanking) -> None:
    held_out = set(ranking.pack.document_group[ranking.pack.document_valid].tolist())
    batches = TextRanking(
        ranking.pack,
        RankingConfig(sizes=((4, 40), (3, 80)), pages=2, names=3, page_share=0.4, name_share=0.3),
        ranking.special,
        ranking.score,
    ).batches(seed=0)
    for _ in range(200):
        batch = next(batches)
        assert batch["labels"].any(dim=0).all()
        assert batch["labels"].any(dim=1).all()
        assert len(batch["query_lengths"]) == batch["labels"].shape[1]
    assert held_out == {5}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_grids_are_as_many_as_asked_for(ranking: TextRanking, share: float) -> None:
    ranking.config = replace(ranking.config, grid_share=share)
    rng = np.random.default_rng(0)
    assert np.mean([ranking._grids(rng) for _ in range(2000)]) == pytest.approx(share, abs=0.03)


def test_ndcg_of_known_orders() -> None:
    labels = torch.eye(3)
    assert ndcg(torch.eye(3), labels) == pytest.approx(1.0)
    worst = 1 / np.log2(4)  # each relevant one last of three
    assert ndcg(-torch.eye(3), labels) == pytest.approx(worst)


@pytest.fixture
def lookalikes(pack: TextPack) -> Lookalikes:
    return Lookalikes(pack, np.arange(len(pack.documents)))


def test_lookalikes_are_of_one_language_and_best_first(
    pack: TextPack, lookalikes: Lookalikes
) -> None:
    english, german = (pack.langs.index(lang) for lang in ("en", "de"))
    for lang in (english, german):
        for row in np.flatnonzero(pack.document_lang == lang)[:5]:
            found = lookalikes.nearest(pack.documents[int(row)], lang, 4)
            assert found[0] == row
            assert (pack.document_lang[found] == lang).all()
            assert len(set(found.tolist())) == len(found) == 4


def test_scores_of_bodies_are_those_by_which_documents_are_found(
    pack: TextPack, lookalikes: Lookalikes
) -> None:
    english = pack.langs.index("en")
    query = pack.documents[int(np.flatnonzero(pack.document_lang == english)[0])][:8]
    found = lookalikes.nearest(query, english, 5)
    scores = lookalikes.scores(query, english, [pack.documents[int(row)] for row in found])
    assert len(found) > 1
    assert (scores > 0).all()
    assert (np.diff(scores) <= 1e-6).all()
    unknown = np.array([len(pack.vectors) - 1])
    assert lookalikes.scores(unknown, english, [query, unknown]).tolist() == [0.0, 0.0]


def test_lookalikes_share_a_token_that_few_documents_have(tokenizer: Tokenizer) -> None:
    texts = ["abc X", *["abc"] * 30, "abd X", "ayd"]
    rows = [tokenizer.encode(text).ids for text in texts]
    pack = _texts(rows, tokenizer.get_vocab_size())
    lookalikes = Lookalikes(pack, np.arange(len(rows)))
    found = lookalikes.nearest(np.array(tokenizer.encode("X").ids), 0, 10)
    assert sorted(found.tolist()) == [0, 31]
    assert not len(lookalikes.nearest(np.array(tokenizer.encode("Z").ids), 0, 10))
    assert lookalikes.is_copy(1, 2)
    assert not lookalikes.is_copy(0, 32)


def _texts(rows: list[list[int]], size: int) -> TextPack:
    """A pack of one language that holds these documents and nothing else."""
    count, none = len(rows), np.empty(0, np.int64)
    return TextPack(
        documents=Ragged.of(rows),
        document_group=np.arange(count, dtype=np.int32),
        document_lang=np.zeros(count, np.int16),
        document_source=np.zeros(count, np.int16),
        document_valid=np.zeros(count, bool),
        queries=Ragged.of([]),
        query_group=np.empty(0, np.int32),
        query_lang=np.empty(0, np.int16),
        questions=Ragged.of([]),
        question_lang=np.empty(0, np.int16),
        question_mark=none,
        places=Ragged.of([]),
        place_group=np.empty(0, np.int32),
        place_lang=np.empty(0, np.int16),
        place_valid=np.empty(0, bool),
        langs=("en",),
        sources=("cldr",),
        head=none,
        tail=none,
        widths=np.ones(size, np.uint8),
        vectors=np.zeros((size, 4), np.float32),
    )


def test_a_step_of_lookalikes_holds_each_group_once(
    pack: TextPack, special: Special, config: ModelConfig
) -> None:
    ranking = TextRanking(pack, RankingConfig(alike=1.0), special, config.score_token_id)
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = ranking._documents(4, rng, alike=1.0)
        groups = pack.document_group[chosen]
        assert len(set(groups.tolist())) == 4
        assert not pack.document_valid[chosen].any()
