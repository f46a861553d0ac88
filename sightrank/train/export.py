"""The result: a model folder in the released layout, and the same as an adapter beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from sightrank.config import MAX_PIXELS, MIN_PIXELS, ModelConfig
from sightrank.inputs.tokenizer import Tokenizer
from sightrank.train.settings import Settings
from sightrank.train.stages import State, adapt, lay_over, lora_config, start, with_main
from sightrank.weights import Checkpoint

SHARD_BYTES = 4 * 10**9
COPIED = ("*.json", "*.txt", "*.jinja")
"""Beside the weights: what other programs read of the tokenizer and the image processor."""


def export(settings: Settings, main: State | None, head: State | None) -> None:
    """Write the folder `train.to`: weights with adapters merged, and `adapter/` where there are any.

    `main` and `head` are what the stages trained.
    """
    folder = Path(settings.train.to)
    checkpoint = start(settings)
    if main is not None:
        with_main(settings, checkpoint, main)
    if head is not None:
        lay_over(checkpoint.model, head)
    if main is not None and settings.model.language == "lora":
        score = {k: v for k, v in checkpoint.model.state_dict().items() if k.startswith("score.")}
        write_adapter(settings, main, score, folder / "adapter")
    write_folder(checkpoint, checkpoint.model.state_dict(), folder)


def write_folder(checkpoint: Checkpoint, state: State, folder: Path) -> None:
    """A model folder as m0's: config.json, tokenizer.json, safetensors, and files for others."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in COPIED:
        for path in checkpoint.folder.glob(pattern):
            if not path.name.startswith(("config.json", "model.safetensors")):
                shutil.copyfile(path, folder / path.name)
    config = full_config(checkpoint)
    dtype = getattr(torch, checkpoint.config.torch_dtype.removeprefix("torch."))
    for old in folder.glob("model*.safetensors*"):
        old.unlink()
    _write_weights({name: each.to(dtype).contiguous() for name, each in state.items()}, folder)
    _write_json(folder / "config.json", config)
    for name, content in _companions(folder).items():
        if not (folder / name).exists():
            _write_json(folder / name, content)


def full_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Our configuration with what `transformers` wants besides."""
    config: ModelConfig = checkpoint.config
    raw = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    # Never met in a prompt, but looked for in it. Qwen's tokenizers have it right after the image's.
    video = raw.get("video_token_id") or config.image_token_id + 1
    return {**config.to_dict(), "video_token_id": video}


def write_adapter(settings: Settings, main: State, score: State, folder: Path) -> None:
    """peft's format: the low-rank matrices, and the score head as a module that is kept whole."""
    checkpoint = start(settings)
    adapters = adapt(settings, checkpoint.model)
    assert adapters is not None
    lay_over(checkpoint.model, main)
    tensors: dict[str, Tensor] = get_peft_model_state_dict(adapters, save_embedding_layers=False)
    tensors |= {f"base_model.model.{name}": tensor for name, tensor in score.items()}
    config = lora_config(settings)
    config.modules_to_save = ["score"]
    config.base_model_name_or_path = settings.model.start
    config.inference_mode = True
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    kept = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(kept, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _write_weights(tensors: dict[str, Tensor], folder: Path) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name in sorted(tensors):
        if shards[-1] and used + tensors[name].nbytes > SHARD_BYTES:
            shards.append({})
            used = 0
        shards[-1][name] = tensors[name]
        used += tensors[name].nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = [f"model-{at:05}-of-{len(shards):05}.safetensors" for at in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name, metadata={"format": "pt"})
    places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    _write_json(folder / "model.safetensors.index.json", index)


def _companions(folder: Path) -> dict[str, dict[str, Any]]:
    """What the reference's own processors read, for a start that came without them."""
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    pad = "<|endoftext|>"
    named = {"pad_token": pad, "eos_token": pad} if tokenizer.has(pad) else {}
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "padding_side": "left",
            "model_max_length": 32_768,
            **named,
        },
        "preprocessor_config.json": {
            "image_processor_type": "Qwen2VLImageProcessor",
            "min_pixels": MIN_PIXELS,
            "max_pixels": MAX_PIXELS,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
