"""A ranker that needs no model, and a tiny random checkpoint for the whole way through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from sightrank.errors import InputError
from sightrank.types import Document, Query, RankedDocument, Ranking

DEMO = Path(__file__).parents[2] / "demo"


@dataclass
class LengthRanker:
    """Ranks by the length of a document's name, longest first; remembers what it was asked."""

    name: str = "length"
    broken: frozenset[str] = frozenset()
    asked: list[Query] = field(default_factory=list)

    def rank(
        self,
        query: Query,
        documents: Sequence[Document] | None = None,
        top_k: int | None = None,
        *,
        index: Path | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        progress: Callable[[int, int], None] | None = None,
    ) -> Ranking:
        assert on_error == "skip"
        assert documents is not None and index is None
        self.asked.append(query)
        names = {index: document.name or "" for index, document in enumerate(documents)}
        failures = tuple(
            (index, InputError(f"{name} is broken.", "Mend it."))
            for index, name in names.items()
            if Path(name).name in self.broken
        )
        good = names.keys() - {index for index, _ in failures}
        best = sorted(good, key=lambda index: (-len(names[index]), index))[:top_k]
        hits = tuple(
            RankedDocument(rank, index, 1 / rank, 1.0 - rank, documents[index])
            for rank, index in enumerate(best, start=1)
        )
        return Ranking(query, hits, 7 * len(good), failures)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of documents, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a.md", "deep/er/c.txt", ".hidden/d.txt", "deep/.e.txt", "f.xyz"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}", encoding="utf-8")
    for name in ("p.pdf", "deep/Q.PDF", "bad.pdf"):
        (tmp_path / name).write_bytes(b"%PDF-1.4")
    return tmp_path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of nano's architecture, tiny, with random weights and a small tokenizer."""
    import json

    import tokenizers
    import torch
    from safetensors.torch import save_file
    from tokenizers import decoders, models, pre_tokenizers, trainers

    from sightrank.config import ModelConfig, VisionConfig
    from sightrank.model.multimodal import RerankerModel

    folder = tmp_path_factory.mktemp("tiny")
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        ["**Document**:\n", "\n**Query**:\n"],
        trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False),
    )
    size = bpe.get_vocab_size()
    special = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    bpe.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in special])
    bpe.save(str(folder / "tokenizer.json"))
    config = ModelConfig(
        vocab_size=size + len(special),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=48,
        mrope_section=(2, 3, 3),
        vision=VisionConfig(depth=1, embed_dim=16, num_heads=2),
        vision_start_token_id=size,
        vision_end_token_id=size + 1,
        image_token_id=size + 2,
        torch_dtype="float32",
    )
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    torch.manual_seed(0)
    save_file(RerankerModel(config).state_dict(), folder / "model.safetensors")
    return folder
