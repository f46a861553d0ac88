"""Write a trained nano as a model folder: `python -m recipe.export --to sightrank/nano`.

The layout is m0's: config.json, tokenizer.json and safetensors, here with one scale a row: matrices in
int8, the embedding matrix, half of all numbers, in four bits.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from recipe.start import nano_config
from sightrank.config import ModelConfig
from sightrank.model.quantize import quantise, quantise_halves
from sightrank.weights import INDEX, SCALE

SHARD_BYTES = 15 * 1024**2
EMBEDDINGS = "model.embed_tokens.weight"


def main() -> None:
    """Join the parts that the stages trained and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument(
        "--decoder", default="composing-spoken", help="run that trained decoder and head"
    )
    parser.add_argument("--vision", default="read-longer", help="run that trained the vision tower")
    parser.add_argument("--to", type=Path, required=True)
    arguments = parser.parse_args()
    runs = arguments.data / "runs"
    state = _part(runs / arguments.decoder, ("model.", "score."))
    state |= _part(runs / arguments.vision, ("visual.",))
    tokenizer = arguments.data / "tokenizer" / "tokenizer.json"
    vocab_size = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    layers = sum(name.endswith(".input_layernorm.weight") for name in state)
    config = nano_config(vocab_size, layers)
    write(state, config, tokenizer, arguments.to)


def _part(run: Path, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    saved = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["model"]
    return {key: value for key, value in saved.items() if key.startswith(prefixes)}


def write(state: dict[str, Tensor], config: ModelConfig, tokenizer: Path, folder: Path) -> None:
    """A model folder of int8 matrices, embeddings of four bits and float32 vectors, in shards of at most
    15 MiB."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.safetensors"), folder / INDEX]:
        old.unlink(missing_ok=True)
    shards = _shards(_stored(state))
    names = [
        f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)
    ]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(0o644)  # the library keeps files to their owner
    places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    (folder / INDEX).write_text(json.dumps({"weight_map": dict(sorted(places.items()))}, indent=1))
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")


def _stored(state: dict[str, Tensor]) -> dict[str, Tensor]:
    stored = {}
    for name, tensor in sorted(state.items()):
        if tensor.ndim > 1 and tensor.shape[0] > 1:
            store = quantise_halves if name == EMBEDDINGS else quantise
            stored[name], stored[name + SCALE] = store(tensor)
        else:
            stored[name] = tensor.float().contiguous()
    return stored


def _shards(stored: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Cut in order; a weight and its scale stay together."""
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in stored.items():
        if shards[-1] and used + tensor.nbytes > SHARD_BYTES and not name.endswith(SCALE):
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += tensor.nbytes
    return shards


if __name__ == "__main__":
    main()
