"""What every room's tests share: how hypothesis runs, and a tiny model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, no database and no deadline: a test that fails here fails anywhere.
# HYPOTHESIS_PROFILE=explore looks for new examples, as many as HYPOTHESIS_EXAMPLES says.
_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
settings.register_profile("fixed", derandomize=True, **_COMMON)  # type: ignore[arg-type]
settings.register_profile(
    "explore",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "1000")),
    **_COMMON,  # type: ignore[arg-type]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of nano's architecture, tiny, with random weights and a small tokenizer."""
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
