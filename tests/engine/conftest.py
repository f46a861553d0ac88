"""A tiny random checkpoint, documents of every kind, and their scores by the plain path."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tokenizers
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import nn

from sightrank.config import EngineConfig, InputConfig, ModelConfig, VisionConfig
from sightrank.engine.engine import Known, Pair
from sightrank.engine.index import Index
from sightrank.engine.indexing import Failures, known
from sightrank.engine.precision import Precision
from sightrank.engine.prefix_store import PrefixStore
from sightrank.inputs.segments import Segment
from sightrank.reranker import Reranker
from sightrank.types import Document, Query

LIMITS = InputConfig(max_length=700, max_query_length=64, max_pixels=112 * 112)
KINDS = ("text", "image", "mixed", "two images", "longest")
QUERIES = ("what was it?", "\nthe lion, at noon", "x")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model"), seed=0)


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same shape with other weights: what it keeps would fit, and be wrong."""
    return make_checkpoint(tmp_path_factory.mktemp("other"), seed=1)


def make_checkpoint(folder: Path, seed: int) -> Path:
    size = make_tokenizer(folder)
    config = ModelConfig(
        vocab_size=size + 3,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        mrope_section=(2, 3, 3),
        vision=VisionConfig(depth=2, embed_dim=32, num_heads=2),
        vision_start_token_id=size,
        vision_end_token_id=size + 1,
        image_token_id=size + 2,
        torch_dtype="float32",
    )
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    save_file(random_weights(config, seed), folder / "model.safetensors")
    return folder


def make_tokenizer(folder: Path) -> int:
    """Bytes and a few merges; returns the first id of the three special tokens."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["**Document**:\n", "\n**Query**:\n\n"], trainer)
    size: int = bpe.get_vocab_size()
    special = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    bpe.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in special])
    bpe.save(str(folder / "tokenizer.json"))
    return size


def random_weights(config: ModelConfig, seed: int) -> dict[str, torch.Tensor]:
    """Of a trained network's size, so that logits differ; key biases as lopsided as Qwen2's."""
    from sightrank.model.multimodal import RerankerModel

    torch.manual_seed(seed)
    model = RerankerModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=parameter.flatten(1).shape[1] ** -0.5)
            elif name.endswith("k_proj.bias"):
                nn.init.normal_(parameter, std=3.0)
            elif not name.endswith("weight"):
                nn.init.normal_(parameter, std=0.1)
        nn.init.normal_(model.model.embed_tokens.weight)
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def load(checkpoint: Path, dtype: str = "float32", engine: EngineConfig | None = None) -> Reranker:
    return Reranker.from_pretrained(
        checkpoint, device="cpu", dtype=dtype, inputs=LIMITS, engine=engine
    )


def make_documents(folder: Path) -> dict[str, Document]:
    """One of each kind; their pictures and one text are files in `folder`."""
    random = np.random.default_rng(0)

    def picture(name: str, width: int, height: int) -> Path:
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        PIL.Image.fromarray(coarse).resize((width, height)).save(folder / name)
        return folder / name

    words = folder / "passage.txt"
    words.write_text("The lion sleeps at noon.", encoding="utf-8")
    first, second = picture("a.png", 84, 112), picture("b.png", 112, 56)
    return {
        "text": Document.of(words),
        "image": Document.of(first),
        "mixed": Document.image(second, text="A caption below.", name="captioned"),
        "two images": Document.of([second, first]),
        "longest": Document.text("Much ado about nothing. " * 200, name="long"),
    }


@dataclass(frozen=True)
class Bench:
    """Documents with their true logits, and indexes of them, in one precision of numbers."""

    checkpoint: Path
    dtype: str
    documents: dict[str, Document]
    folder: Path

    def ranker(self, engine: EngineConfig | None = None) -> Reranker:
        return load(self.checkpoint, self.dtype, engine)

    @cached_property
    def truth(self) -> dict[str, NDArray[np.float64]]:
        """kind -> logits of QUERIES behind it, by `score_one`."""
        ranker = self.ranker()
        return {
            kind: np.array([ranker.score_one(query, document) for query in QUERIES])
            for kind, document in self.documents.items()
        }

    def index(self, precision: Precision) -> Index:
        """An index of all documents, made the first time."""
        path = self.folder / f"{precision}.index"
        if not path.exists():
            self.ranker().index(list(self.documents.values()), path, precision)
        return Index(path)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    return make_documents(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="session")
def bench(
    checkpoint: Path, documents: dict[str, Document], tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    return Bench(checkpoint, "float32", documents, tmp_path_factory.mktemp("float32"))


@pytest.fixture(scope="session")
def bfloat_bench(
    checkpoint: Path, documents: dict[str, Document], tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    return Bench(checkpoint, "bfloat16", documents, tmp_path_factory.mktemp("bfloat16"))


def score(
    ranker: Reranker,
    documents: Sequence[Segment | Known],
    store: PrefixStore | None = None,
) -> NDArray[np.float64]:
    """Logits (documents, QUERIES) of every query behind every document, in one request."""
    asked = [ranker.encoder.query(Query.text(query)) for query in QUERIES]
    pairs = [
        Pair(place, number, ranker.encoder.suffix(document, query))
        for place, document in enumerate(documents)
        for number, query in enumerate(asked)
    ]
    logits = ranker.engine.score(documents, asked, pairs, store=store)
    return logits.reshape(len(documents), len(QUERIES))


def indexed(ranker: Reranker, index: Index) -> dict[str, Known]:
    """kind -> the document as the index knows it."""
    records = index.records(ranker.engine.settings, ranker.facts())
    found = known(index, records, ranker.encoder, Failures("raise"))
    return dict(zip(KINDS, found.values(), strict=True))


@pytest.fixture
def ranker(checkpoint: Path) -> Reranker:
    return load(checkpoint)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pages.index"
