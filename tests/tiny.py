"""A model folder of nano's architecture, tiny, with random weights and a small tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import nn

from sightrank.config import ModelConfig, VisionConfig
from sightrank.model.multimodal import RerankerModel


def make_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Write config.json, tokenizer.json and model.safetensors; returns `folder`."""
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
