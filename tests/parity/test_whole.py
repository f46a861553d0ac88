"""Whole requests: what a user gives, through our code and through the reference's processor and model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tokenizers
import torch
from numpy.testing import assert_allclose, assert_array_equal
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.testing import assert_close

from sightrank import Document, InputConfig, Query, Reranker
from sightrank.inputs.images import normalise
from tests.parity.conftest import SHAPES, reference_model, released_tensors, save_checkpoint
from tests.tolerances import ENGINE, PATCHES

transformers = pytest.importorskip("transformers", reason="the reference is not installed")

MAX_PIXELS = 20_000
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PADS = ["<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEXTS = [
    "slm markdown",
    "数据提取么？为什么不用正则啊，你用正则不就全解决了么？",
    "Die wichtigsten Beiträge unserer Arbeit sind zweifach: Erstens…",
    "السلام عليكم ورحمة الله",
    "שלום, מה שלומך?",
    "नमस्ते दुनिया — สวัสดีชาวโลก",
    "e\u0301 and é, \u1e9b\u0323 and ﬁ: composed, decomposed, ligature",
    "emoji \U0001f469\u200d\U0001f680, family \U0001f468\u200d\U0001f467, flag \U0001f1fa\U0001f1e6",
    "tabs\tand\u00a0blanks  \u3000 and   runs\n\n\nof breaks\r\n\r\nmixed \n \n",
    "\nstarts with a break",
    "ends with a break\n",
    "!\n?\n。\n:\n",
    "**Query**:\nnested **Document**:\n",
    "1234567890 3.14159 0x1F -42 ½ Ⅻ ٣",
    "I'll they've we'd you're it's DON'T",
    "def f(x):\n    return {k: v for k, v in x}\n",
    "control \x01\x02\x1b characters \x7f and \u200b\ufeff zero widths",
    "https://example.org/a?b=c&d=%20e#f",
    "a",
    "�",
]


def picture(width: int, height: int, seed: int) -> PIL.Image.Image:
    rng = np.random.default_rng(seed)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
    return coarse.resize((width, height), PIL.Image.Resampling.NEAREST)


PICTURES = [
    picture(width, height, seed)
    for seed, (width, height) in enumerate(
        [(224, 224), (41, 57), (98, 70), (300, 30), (30, 300), (640, 480), (28, 28), (129, 333)]
    )
]
DOCUMENTS: dict[str, list[Any]] = {
    "text": ["A plain passage."],
    "image": [PICTURES[0]],
    "image and text": [PICTURES[1], "Figure 1: noise."],
    "text and image": ["Before it: ", PICTURES[2]],
    "two images": [PICTURES[3], PICTURES[6]],
    "mixed": ["Intro.\n", PICTURES[1], "between", PICTURES[6], PICTURES[2], "\nafter"],
}
QUERIES: dict[str, list[Any]] = {
    "text": ["what is in it?"],
    "break first": ["\n\nwhat is in it?"],
    "image": [PICTURES[7]],
    "image and text": [PICTURES[6], "like this one?"],
}


@dataclass(frozen=True)
class Whole:
    """The reference's processor and model, and our reranker from the checkpoint of the same weights."""

    tokenizer: Any
    processor: Any
    model: Any
    head: nn.Module
    ours: Reranker

    def reference(self, query: list[Any], document: list[Any]) -> dict[str, torch.Tensor]:
        """The released prompt through the reference's processors, the score token appended."""
        parts = [_slot(part) for part in (*_joined(document), "\n**Query**:\n", *_joined(query))]
        images = [part for part in (*document, *query) if not isinstance(part, str)]
        seen = dict(self.processor(images=images, return_tensors="pt")) if images else {}
        text = "".join(["**Document**:\n", *parts])
        for grid in seen.get("image_grid_thw", torch.empty(0, 3)).tolist():
            pads = int(grid[1] * grid[2] // 4)
            text = text.replace("<|image_pad|>", "<|placeholder|>" * pads, 1)
        text = text.replace("<|placeholder|>", "<|image_pad|>")
        ids = torch.tensor([[*self.tokenizer(text)["input_ids"], 100]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **seen}

    @torch.no_grad()
    def reference_logit(self, query: list[Any], document: list[Any]) -> torch.Tensor:
        out = self.model(**self.reference(query, document), output_hidden_states=True)
        logit: torch.Tensor = self.head(out.hidden_states[-1][0, -1])[0]
        return logit


def _slot(part: Any) -> str:
    return part if isinstance(part, str) else "<|vision_start|><|image_pad|><|vision_end|>"


def _joined(parts: list[Any]) -> list[Any]:
    return [piece for part in parts for piece in ("\n", part)][1:]


def qwen_like() -> tokenizers.Tokenizer:
    """Byte-level BPE with Qwen2's normalisation and split, trained on the texts below."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    fixed = ["**Document**:\n", "\n**Query**:\n", "**Document**:\n\n", "\n**Query**:\n\n"]
    bpe.train_from_iterator([*fixed * 4, *TEXTS * 2], trainer)
    bpe.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in PADS])
    return bpe


@pytest.fixture(scope="module", params=["grouped", "m0-sections"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    bpe = qwen_like()
    config = SHAPES[request.param].config() | {
        "vocab_size": bpe.get_vocab_size(),
        "vision_start_token_id": bpe.token_to_id("<|vision_start|>"),
        "vision_end_token_id": bpe.token_to_id("<|vision_end|>"),
        "image_token_id": bpe.token_to_id("<|image_pad|>"),
        "video_token_id": bpe.token_to_id("<|video_pad|>"),
    }
    model, head = reference_model(config, seed=7)
    folder = tmp_path_factory.mktemp("whole")
    save_checkpoint(folder, config, released_tensors(model, head))
    bpe.save(str(folder / "tokenizer.json"))
    return Whole(
        transformers.PreTrainedTokenizerFast(tokenizer_object=bpe),
        Qwen2VLImageProcessor(min_pixels=3136, max_pixels=MAX_PIXELS),
        model,
        head,
        Reranker.from_pretrained(folder, device="cpu", inputs=InputConfig(max_pixels=MAX_PIXELS)),
    )


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_logits_equal(whole: Whole, query: list[Any], document: list[Any]) -> None:
    expected = whole.reference_logit(query, document)
    plain = whole.ours.score_one(Query.of(query), Document.of(document))
    assert_close(torch.tensor(plain), expected)
    for _ in range(2):  # filling the cache, then reading it
        (hit,) = whole.ours.rank(Query.of(query), [Document.of(document)])
        assert hit.logit == pytest.approx(float(expected), abs=ENGINE)


def test_one_ranking_of_everything_equals_the_pairs(whole: Whole) -> None:
    ranking = whole.ours.rank("what?", [Document.of(parts) for parts in DOCUMENTS.values()])
    expected = [float(whole.reference_logit(["what?"], parts)) for parts in DOCUMENTS.values()]
    assert [hit.index for hit in ranking] == list(np.argsort(expected, kind="stable")[::-1])
    for hit in ranking:
        assert hit.logit == pytest.approx(expected[hit.index], abs=ENGINE)


ODD = [(text, PICTURES[at % len(PICTURES)]) for at, text in enumerate(TEXTS)]
PAIRS = [(["q"], [text]) for text, _ in ODD] + [([text], [image]) for text, image in ODD]


@pytest.mark.parametrize(("query", "document"), PAIRS, ids=range(len(PAIRS)))
def test_ids_positions_and_pixels_equal(
    whole: Whole, query: list[Any], document: list[Any]
) -> None:
    expected = whole.reference(query, document)
    segment = whole.ours.encoder.pair(Query.of(query), Document.of(document))
    assert_array_equal(segment.ids, expected["input_ids"][0].numpy())
    grids = expected.get("image_grid_thw")
    rows, _ = whole.model.get_rope_index(expected["input_ids"], grids, None, None)
    assert_array_equal(segment.positions, rows[:, 0].numpy())
    for image in segment.images:
        frames = normalise(image).reshape(-1, 3, 1, 196)
        columns = np.repeat(frames, 2, axis=2).reshape(-1, 1176)
        assert_allclose(columns, expected["pixel_values"].numpy(), rtol=0, atol=PATCHES)


def test_the_texts_are_odd_enough() -> None:
    bpe = qwen_like()
    merged = [text for text in TEXTS if len(bpe.encode(text).ids) < len(text.encode())]
    assert len(PAIRS) >= 30 and len(merged) > 15
    seams = [text for text in TEXTS if _seam_merges(bpe, text)]
    assert len(seams) >= 3  # texts that merge with the template around them


def _seam_merges(bpe: tokenizers.Tokenizer, text: str) -> bool:
    apart = [*bpe.encode("**Document**:\n").ids, *bpe.encode(text).ids, *bpe.encode("\n**").ids]
    return apart != list(bpe.encode(f"**Document**:\n{text}\n**").ids)


GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def released_encoder() -> Any:
    """Our encoder with the released tokenizer, rebuilt from its published ranks."""
    from recipe import tokenizer as recipe_tokenizer
    from recipe.fetch import DATA
    from sightrank.config import ModelConfig
    from sightrank.inputs.segments import Encoder, SpecialIds
    from sightrank.inputs.tokenizer import Tokenizer

    wheels = list((DATA / "packages").glob("dashscope-*.whl"))
    if not wheels:
        pytest.skip("Qwen's ranks are not here; fetch them with python -m recipe.fetch dashscope")
    rebuilt = recipe_tokenizer.qwen_tokenizer(wheels[0])
    return Encoder(Tokenizer(rebuilt.to_str()), SpecialIds.of(ModelConfig()))


@pytest.mark.parametrize("case", GOLDEN["token_counts"], ids=lambda case: str(case["tokens"]))
def test_published_token_counts(released_encoder: Any, case: dict[str, Any]) -> None:
    document = case.get("text") or PIL.Image.new("RGB", case["picture"])
    segment = released_encoder.pair(Query.of(case["query"]), Document.of(document))
    assert len(segment) - 1 == case["tokens"]
    assert segment.ids[:4].tolist() == GOLDEN["ids"]["**Document**:\n"]
