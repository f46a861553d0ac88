"""Meanings: where they are taught, layers that begin as nothing and learn them, heads that match them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F

from recipe import wiring
from recipe.composing import HELD_OUT, Composing, ComposingConfig, Kind
from recipe.context import GRAIN, Basis, ContextPack, aligned
from recipe.grid import RowsPlan, embed_slots, join_queries, pad_prefixes, score_grid
from recipe.layout import Prefix, Special, as_text
from recipe.matching import Matching, best_matches
from recipe.pack import TextPack
from recipe.ragged import Ragged, as_arrays
from recipe.showing import Shown
from recipe.start import fresh
from recipe.teacher import Teacher
from recipe.trainer import Batch
from recipe.wiring import MEANING, MEANING_SIZE, SIZE, WIRED, wire_meaning, written_basis
from recipe.words import Words, meanings, words_by_script
from sightrank.config import ModelConfig
from sightrank.model.attention import plain_attention
from sightrank.model.multimodal import RerankerModel

TEXTS = ("red fox", "roter Fuchs", "рыжая лиса", "blue sea")
WORDS = sorted({word for text in TEXTS for word in text.split()})


@pytest.fixture
def contexts(tokenizer: Tokenizer) -> ContextPack:
    """Enough texts that some are held out; each word means one thing, where it ends."""
    means = F.normalize(
        torch.randn(len(WORDS), MEANING_SIZE, generator=torch.Generator().manual_seed(1))
    )
    texts, ends, targets = [], [], []
    for number in range(2 * HELD_OUT):
        text = TEXTS[number % len(TEXTS)]
        texts.append(tokenizer.encode(text).ids)
        words = text.split()
        stops = np.cumsum([len(tokenizer.encode(word).ids) + 1 for word in words]) - 2
        ends.append(stops.tolist())
        targets += [means[WORDS.index(word)] * GRAIN for word in words]
    rows = torch.stack(targets).round().to(torch.int8).numpy()
    return ContextPack(Ragged.of(texts), Ragged.of(ends), rows)


@pytest.fixture
def task(
    pack: TextPack, contexts: ContextPack, tokenizer: Tokenizer, special: Special
) -> Composing:
    config = ComposingConfig(rows=4, pictures=2, tokens=(10, 40))
    return Composing(pack, contexts, tokenizer, config, special)


@pytest.fixture
def deep(config: ModelConfig, pack: TextPack) -> RerankerModel:
    """Two layers more than rank."""
    deeper = replace(config, num_hidden_layers=WIRED + 2)
    return fresh(deeper, torch.from_numpy(pack.vectors), query_word=ord("Q"))


def test_tokens_are_taught_where_pieces_end(tokenizer: Tokenizer) -> None:
    pieces = {"<s>": 0, "</s>": 1, "of:": 2, "red": 3, "fox": 4, "es": 5, "?": 6}
    theirs = Tokenizer(models.WordPiece(pieces, unk_token="?", continuing_subword_prefix=""))
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    theirs.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", None, [("<s>", 0), ("</s>", 1)]
    )
    text = "red foxes"
    tokens, bounds = aligned(tokenizer.encode(text), theirs.encode("of: " + text), len("of: "))
    assert [text[: token + 1] for token in tokens] == ["red", "red fox", "red foxes"]
    assert bounds.tolist() == [2, 3, 4, 5]
    merged = Tokenizer(models.WordLevel({"red": 0, "foxes": 1, "?": 2}, "?"))
    merged.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens, bounds = aligned(merged.encode(text), theirs.encode("of: " + text), len("of: "))
    assert (tokens.tolist(), bounds.tolist()) == ([0, 1], [2, 3, 5])


def test_directions_are_brought_to_one_spread() -> None:
    states = torch.randn(4000, 384) * torch.linspace(3, 0.1, 384) + 5
    found = Basis.fit(states)(states)
    assert torch.allclose(found.norm(dim=1), torch.ones(4000))
    assert found.mean(dim=0).abs().max() < 0.02
    spread = found.var(dim=0)
    assert spread[0] < 3 * spread[-1]  # 380 times before


def test_directions_are_kept_in_a_file(tmp_path: Path) -> None:
    states = torch.randn(600, 384)
    fitted = Basis.fit(states)
    fitted.save(tmp_path / "context.npz")
    assert torch.equal(Basis.load(tmp_path / "context.npz")(states), fitted(states))
    assert Basis.load()(states).shape == (600, MEANING_SIZE)  # those of nano


def test_words_are_of_all_scripts_and_pieces_where_they_are_not_spaced() -> None:
    endings = [a + b for a in "abcdefghijk" for b in "lmnopqrstuv"]
    marks = [a + b for a in "कखगघचछजझटठ" for b in "डढतथदधनपफबभम"]
    pieces = {f"▁word{each}" for each in endings} | {f"within{each}" for each in endings}
    pieces |= {f"▁क{each}ि" for each in marks} | {f"政{chr(0x4E00 + n)}" for n in range(120)}
    vocabulary = {piece: number for number, piece in enumerate(sorted(pieces))}
    found = words_by_script(vocabulary, lambda text: 1 if text == " wordal" else 2)
    assert set(found) == {"LATIN", "DEVANAGARI", "CJK"}
    assert all(word.startswith("word") for word in found["LATIN"][0])
    assert len(found["CJK"][0]) == 120
    words, edges = found["LATIN"]
    drawn = np.diff([0.0, *edges])
    assert np.flatnonzero(drawn < drawn.max() / 2).tolist() == [words.index("wordal")]


def test_a_word_alone_means_the_mean_of_its_pieces_less_what_all_have_in_common() -> None:
    pieces = {"passage": 0, ":": 1, "red": 2, "fox": 3, "es": 4, "</s>": 5}
    tokenizer = Tokenizer(models.WordPiece(pieces, continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 5)])
    rows = torch.randn(6, 384)

    class Stub:
        def __init__(self) -> None:
            self.tokenizer = tokenizer

        def states(self, texts: list[list[int]], depth: int) -> list[torch.Tensor]:
            return [rows[ids] for ids in texts]

    words, weight = ["red", "foxes", "es"], np.array([2, 1, 1], np.float32)
    found = torch.from_numpy(meanings(cast(Teacher, Stub()), words, weight).astype(np.float32))
    basis = Basis.load()
    units = basis.units(torch.stack((rows[2], (rows[3] + rows[4]) / 2, rows[4])))
    wanted = F.normalize((units - (2 * units[0] + units[1] + units[2]) / 4) @ basis.turn, dim=-1)
    assert torch.allclose(found / GRAIN, wanted, atol=0.6 / GRAIN)


def test_padded_rows_see_their_own_past() -> None:
    q, k, v = torch.randn(12, 6, 8), torch.randn(12, 2, 8), torch.randn(12, 2, 8)
    found = RowsPlan(3).layer(0)(q, k, v)
    for row in (slice(0, 4), slice(4, 8), slice(8, 12)):
        assert torch.allclose(
            found[row], plain_attention(q[row], k[row], v[row], causal=True), atol=1e-6
        )


def test_rows_of_a_step_are_of_one_length(task: Composing) -> None:
    lengths = task.batch(task.shown, np.random.default_rng(0), "row")["prefix_lengths"]
    assert lengths.max() - lengths.min() < 24  # what follows the last end of a text is left out


def test_what_is_written_is_read_again(contexts: ContextPack, tmp_path: Path) -> None:
    for part in range(2):
        np.savez(tmp_path / f"context-{part:03}.npz", **as_arrays(contexts))
    again, size = ContextPack.load(tmp_path), len(contexts.texts)
    assert len(again.texts) == 2 * size
    assert np.array_equal(again.texts[size + 3], contexts.texts[3])
    assert np.array_equal(again.target(size + 3), contexts.target(3))


def test_a_token_amid_a_word_is_taught_what_the_word_means(contexts: ContextPack) -> None:
    tokens, means = contexts.taught(0)
    assert tokens.tolist() == list(range(len("red fox")))
    red, fox = contexts.target(0)
    assert (means[:3] == red).all()
    assert (means[3:] == fox).all()


def test_without_contexts_it_is_said_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"recipe\.context"):
        ContextPack.load(tmp_path / "none")


@pytest.mark.parametrize("kind", ["row", "grid"])
def test_each_slot_is_taught_what_its_tokens_mean(
    task: Composing, contexts: ContextPack, tokenizer: Tokenizer, kind: Kind
) -> None:
    prefix, slots, targets = task.prompt(task.shown, np.random.default_rng(0), kind, (60, 16))
    assert isinstance(prefix, Prefix)
    seen = 0
    for slot, target in zip(slots, targets, strict=True):
        held = prefix.tokens[prefix.bounds[slot] : prefix.bounds[slot + 1]]
        before = tokenizer.decode(prefix.tokens[: prefix.bounds[slot + 1]].tolist())
        word = before.split()[-1]
        if len(held) == 1 and word in WORDS and not before[-1].isspace():
            meant = next(
                contexts.target(number)[text.split().index(word)]
                for number, text in enumerate(TEXTS)
                if word in text.split()
            )
            assert target @ meant > 0.99
            seen += 1
    assert seen > (4 if kind == "row" else 0)
    assert np.allclose(np.linalg.norm(targets, axis=1), 1)


def test_a_picture_is_taught_where_the_words_are_printed(
    task: Composing, contexts: ContextPack
) -> None:
    for seed in range(20):
        shown, slots, _ = task.prompt(task.shown, np.random.default_rng(seed), "picture", (8, 16))
        if isinstance(shown, Shown):
            break
    assert isinstance(shown, Shown)
    squares = set(shown.prefix.slots.tolist())
    printed = [slot in squares for slot in slots.tolist()]
    assert 0 < sum(printed) < len(printed)  # the rest is the query
    batch = task.batch(task.shown, np.random.default_rng(seed), "picture")
    assert batch["picture_slots"].sum() == sum(h * w // 4 for h, w in batch["grids"])
    assert batch["taught"].max() < batch["picture_slots"].numel()
    body = np.array(task.tokenizer.encode("red fox\nblue sea").ids)
    found = task._print(body, np.array([2, 6, 11, 15]), np.random.default_rng(0))
    assert found is not None
    image, where = found
    columns = image.width // 28
    assert (where >= 0).any()
    ink = np.asarray(image.convert("L"), float).reshape(image.height // 28, 28, columns, 28)
    spread = ink.std(axis=(1, 3)).flatten()
    assert spread[where[where >= 0]].min() > spread.min()  # there is print in those squares


def test_tokens_of_words_alone_are_taught_what_the_words_mean(
    pack: TextPack, contexts: ContextPack, tokenizer: Tokenizer, special: Special
) -> None:
    means = F.normalize(torch.randn(len(WORDS), MEANING_SIZE)) * GRAIN
    spelt = Ragged.of([tokenizer.encode(" " + word).ids for word in WORDS])
    words = Words(
        plain=spelt,
        titled=spelt,
        script=np.zeros(len(WORDS), np.int16),
        scripts=("LATIN",),
        weight=np.ones(len(WORDS), np.float32),
        english=np.full(len(WORDS), -1, np.int32),
        meant=means.round().to(torch.int8).numpy(),
    )
    config = ComposingConfig(rows=2, tokens=(30, 40), word_share=1.0)
    task = Composing(pack, contexts, tokenizer, config, special, words)
    prefix, slots, targets = task.prompt(task.shown, np.random.default_rng(0), "words", (40, 16))
    assert isinstance(prefix, Prefix)
    assert len(slots) == len(prefix) - len(pack.head) - len(pack.tail)
    text = bytes(prefix.tokens.tolist())
    for slot, target in zip(slots, targets, strict=True):
        if text[slot] != ord(" "):
            rest = text[text.rindex(b" ", 0, slot) + 1 :].decode()
            word = next(each for each in WORDS if rest.startswith(each))
            assert target @ words.meant[WORDS.index(word)] > 0.99 * GRAIN
    drawn = next(task.batches(0))
    assert len(drawn["prefix_lengths"]) == 3 * config.rows


def test_best_matches_count_for_more_where_a_query_is_certain() -> None:
    query = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    right, wrong = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 9.0]])
    assert best_matches(query, right) == pytest.approx((2 + 0.5 / 2**0.5) / 2)
    assert best_matches(query, wrong) == pytest.approx(0.25)


def test_states_that_say_which_word_it_is_find_the_passage(
    pack: TextPack, special: Special, monkeypatch: pytest.MonkeyPatch
) -> None:
    matching = Matching(pack, special, score=100, rounds=2)
    rows = np.flatnonzero(pack.document_lang == pack.langs.index("en"))[:4]
    matching.asked = rows
    monkeypatch.setattr(matching.ranking, "look_alikes", lambda *_, valid: rows)
    letters = torch.eye(256)[[n - 32 if 97 <= n <= 122 else n for n in range(256)]]

    def states(batch: Batch) -> torch.Tensor:  # of lower and upper case, in which passages are told
        slots = torch.zeros(*batch["prefix_positions"].shape[1:], 256)
        present = torch.arange(slots.shape[1]) < batch["prefix_lengths"][:, None]
        slots[present] = letters[batch["tokens"].clamp(max=255)]
        return torch.cat((slots, slots.roll(1, 1)), dim=2)

    assert set(matching.figures(states)) == {"matched_translated"}
    assert matching.figures(states)["matched_translated"] > 0.8
    assert (
        matching.figures(lambda batch: torch.ones_like(states(batch)))["matched_translated"] < 0.8
    )


def test_blind_rows_lack_what_words_mean_and_keep_the_rest(
    task: Composing, deep: RerankerModel
) -> None:
    batch = task.batch(task.shown, np.random.default_rng(0), "row", blind=0.5)
    seen, _ = task.states(deep, {**batch, "blind": torch.zeros_like(batch["blind"])})
    rows, _ = task.states(deep, batch)
    slots, lengths = batch["prefix_positions"].shape[-1], batch["prefix_lengths"]
    lost = torch.zeros(len(lengths), slots, dtype=torch.bool)
    lost[torch.arange(slots) < lengths[:, None]] = batch["blind"]
    lost = lost.flatten()
    basis = written_basis()
    assert 0 < lost.sum() < len(lost)
    assert torch.equal(rows[~lost], seen[~lost])
    assert (rows[lost] @ basis.T).abs().max() < 1e-4 < (seen[lost] @ basis.T).abs().max()
    assert torch.allclose(rows - seen, (rows - seen) @ basis.T @ basis, atol=1e-4)


def test_cells_of_grids_are_blind(task: Composing, deep: RerankerModel) -> None:
    batch = task.batch(task.shown, np.random.default_rng(0), "grid")
    rows, _ = task.states(deep, batch)
    blind, first = batch["blind"], int(batch["prefix_lengths"][0])
    assert 0 < blind.sum() < len(blind)
    cells = rows[:first][blind[:first]]
    assert len(cells) > 0
    assert (cells @ written_basis().T).abs().max() < 0.05 * cells.abs().max()


def test_held_out_texts_are_not_shown(task: Composing) -> None:
    assert not set(task.shown) & set(task.held_out)
    assert len(task.held_out) == 2


def test_layers_that_compose_begin_as_nothing(task: Composing, deep: RerankerModel) -> None:
    before, states = task.states(deep, task.batch(task.shown, np.random.default_rng(0), "grid"))
    assert torch.equal(before, states)


def test_they_learn_meanings_and_keep_the_rows(task: Composing, deep: RerankerModel) -> None:
    composing = ("model.layers.0.", "model.layers.1.")
    for name, weight in deep.named_parameters():
        weight.requires_grad_(name.startswith(composing))
    learning = [weight for weight in deep.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=2e-3)
    with torch.inference_mode():
        first = task.validate(deep)
    rng = np.random.default_rng(0)
    for _ in range(60):
        loss, figures = task.loss(deep, task.batch(task.shown, rng, "row"))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    assert figures["kept"] < 0.1
    with torch.inference_mode():
        last = task.validate(deep)
    assert last["cosine_row"] > 0.7 > 0.3 > first["cosine_row"]


def test_a_path_of_its_own_finds_what_means_the_same(
    deep: RerankerModel, pack: TextPack, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two documents that share no token with the query, one says the same."""
    basis = torch.linalg.qr(torch.randn(384, MEANING_SIZE)).Q.T
    monkeypatch.setattr(wiring, "written_basis", lambda: basis)
    vectors = deep.model.embed_tokens.weight
    means = F.normalize(torch.randn(len(vectors), MEANING_SIZE), dim=1)
    means[ord("b")] = means[ord("B")]
    means[:, -7:] = 0  # there the path writes
    with torch.no_grad():
        vectors -= vectors @ basis.T @ basis
        vectors += means @ basis * MEANING * 384**0.5
    wire_meaning(deep, query_word=ord("Q"))
    documents = [np.array([*b"mnbop"]), np.array([*b"mncop"])]
    prefixes = [as_text(pack.head, body, pack.tail) for body in documents]
    batch = {**pad_prefixes(prefixes), **join_queries([np.array([ord("B")])], score=100)}
    seen: list[torch.Tensor] = []
    deep.model.layers[1 - WIRED].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.inference_mode():
        score_grid(deep, embed_slots(deep, batch, 0.0), batch)
    asked = seen[0].view(2, -1, 384)[:, -2] @ basis[-4:-1].T  # what each head found for B
    assert (asked[0] > SIZE / 2).all()
    assert (asked[1] < -SIZE / 2).all()


def test_the_trained_path_reads_nothing_of_it(deep: RerankerModel) -> None:
    wire_meaning(deep, query_word=ord("Q"))
    written = written_basis()[-7:]
    for layer in deep.model.layers[-WIRED:]:
        for part in (layer.mlp.gate_proj, layer.mlp.up_proj):
            assert (part.weight @ written.T).abs().max() < 1e-5
        assert (written @ layer.mlp.down_proj.weight).abs().max() < 1e-5
