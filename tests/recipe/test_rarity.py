"""Rarity: what the pack and the teacher's vocabulary say of it, and how rows and layers take it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from recipe import rarity as subject
from recipe import wiring
from recipe.grid import embed_slots, join_queries, pad_prefixes, score_grid
from recipe.layout import as_text
from recipe.pack import Ragged, TextPack
from recipe.start import fresh
from recipe.wiring import RARE, WIRED, meaning_basis, wire_rarity
from sightrank.config import ModelConfig
from sightrank.model.multimodal import RerankerModel

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
PIECES = [
    *((name, 0.0) for name in SPECIAL),
    ("\u2581the", -3.0),
    ("\u2581fox", -9.0),
    ("es", -5.0),
    ("\u2581ze", -11.0),
    ("bu", -8.0),
]


@pytest.fixture
def teacher() -> str:
    """The tokenizer.json of a unigram model."""
    made = Tokenizer(models.Unigram(PIECES, unk_id=3))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return str(made.to_str())


@pytest.fixture
def model(config: ModelConfig) -> RerankerModel:
    """Two layers more than rank, and rows that are shorter along some directions than along others."""
    wider = replace(config, num_hidden_layers=WIRED + 2, vocab_size=1000)
    chance = torch.Generator().manual_seed(4)
    rows = torch.randn(1000, config.hidden_size, generator=chance)
    return fresh(
        wider, rows * torch.linspace(0.2, 1.4, config.hidden_size), query_word=ord("Q")
    ).eval()


@pytest.fixture
def rarity() -> torch.Tensor:
    """Of each token of the model."""
    return torch.randn(1000, generator=torch.Generator().manual_seed(3)).clip(-2.5, 2.5)


Score = Callable[[RerankerModel], torch.Tensor]


@pytest.fixture
def score(pack: TextPack) -> Score:
    """Logits of two documents under a query whose tokens are one and the other."""
    prefixes = [as_text(pack.head, np.array([*body]), pack.tail) for body in (b"mnaop", b"mnbop")]
    batch = {**pad_prefixes(prefixes), **join_queries([np.array([*b"ab"])], score=100)}

    def run(model: RerankerModel) -> torch.Tensor:
        with torch.inference_mode():
            return score_grid(model, embed_slots(model, batch, 0.0), batch).squeeze(1)

    return run


def test_pieces_of_the_vocabulary_say_how_rare_a_surface_is(teacher: str) -> None:
    said = subject.on_the_web(teacher, [" the", " fox", " foxes", "es", " zebu", "?"])
    assert said[:5].tolist() == pytest.approx([3.0, 9.0, 14.0, 5.0, 19.0])
    assert np.isnan(said[5])


def test_a_token_is_as_rare_as_in_the_language_where_it_is_commonest(
    pack: TextPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "ENOUGH", 4)
    rows = [*[[1, 2]] * 4, *[[2, 3]] * 2, [3], [4]]
    two = replace(
        pack,
        documents=Ragged.of(rows),
        document_lang=np.array([0] * 4 + [1] * 4, np.int16),
        document_source=np.full(8, pack.sources.index("manual"), np.int16),
    )
    rare, total = subject.in_documents(two)
    assert total[:6].tolist() == [0, 4, 6, 3, 1, 0]
    assert rare[1] == rare[2] == 0.0  # in all documents of the first
    assert rare[3] == pytest.approx(np.log(4 / 3.5))
    assert rare[4] == pytest.approx(np.log(4 / 1.5))
    assert rare[5] == pytest.approx(np.log(4 / 0.5))


def test_rarity_is_in_spreads_about_the_mean(
    pack: TextPack, tokenizer: Tokenizer, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "ENOUGH", 4)
    monkeypatch.setattr(subject, "wheel_member", lambda *where: teacher.encode())
    said = subject.rarity(pack, tokenizer)
    assert said.shape == (tokenizer.get_vocab_size(),)
    assert np.abs(said).max() <= subject.BOUND
    weight = np.sqrt(subject.in_documents(pack)[1])
    assert np.average(said, weights=weight) == pytest.approx(0.0, abs=0.2)
    assert said[ord("e")] < said[ord("z")]


def test_rows_tell_rarity_and_keep_the_directions_of_meaning(
    model: RerankerModel, rarity: torch.Tensor
) -> None:
    rows = model.model.embed_tokens.weight
    before, basis = rows.clone(), meaning_basis(rows)
    wire_rarity(model, rarity)
    moved = rows - before
    assert torch.linalg.matrix_rank(moved, tol=1e-2) == 1  # along one direction
    place = torch.linalg.svd(moved).Vh[0]
    along = rows @ place
    assert torch.corrcoef(torch.stack([along, rarity]))[0, 1].abs() > 0.9
    assert along.square().mean() ** 0.5 == pytest.approx(RARE, rel=0.1)
    kept = (meaning_basis(rows) * basis).sum(dim=1).abs()
    assert kept.mean() > 0.95
    assert (meaning_basis(rows) @ place).abs().max() < 0.05


def test_no_layer_reads_rarity_but_where_the_query_is_averaged(
    model: RerankerModel, rarity: torch.Tensor, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layer in model.model.layers:
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.weight.data.uniform_(0.5, 1.5)
    logits = {}
    for favour in (0.0, 50.0):
        monkeypatch.setattr(wiring, "FAVOUR", favour)
        for much in (0.0, 0.01):  # too little to change the length of a row
            told = deepcopy(model)
            wire_rarity(told, much * rarity)
            logits[favour, much] = score(told)
    assert torch.allclose(logits[0.0, 0.0], logits[0.0, 0.01], atol=1e-3)
    assert not torch.allclose(logits[50.0, 0.0], logits[50.0, 0.01], atol=1e-3)


def test_a_rare_token_of_the_query_is_looked_at_more(
    model: RerankerModel, rarity: torch.Tensor, score: Score
) -> None:
    rarity[ord("a")], rarity[ord("b")] = 2.0, -2.0
    wire_rarity(model, rarity)
    keys: list[torch.Tensor] = []
    pool = model.model.layers[2 - WIRED].self_attn
    pool.k_proj.register_forward_hook(lambda *call: keys.append(call[2]))
    score(model)
    place = pool.head_dim // 4 + 4
    rare, common, _ = keys[0].view(2, -1, keys[0].shape[-1])[0, -3:, place]
    assert rare - common > wiring.FAVOUR
