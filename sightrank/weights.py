"""From a folder or a hub id to a model: every tensor used, every parameter filled, or an error."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sightrank.config import ModelConfig
from sightrank.errors import CheckpointError, HubUnavailableError
from sightrank.extras import require
from sightrank.model.multimodal import RerankerModel, fresh_head
from sightrank.model.quantize import check_int8, dequantise, linears, pack, quantise, to_int8

NANO = Path(__file__).parent / "nano"
M0 = "jinaai/jina-reranker-m0"
M0_LICENCE = (
    "jina-reranker-m0's weights are CC-BY-NC-4.0: not for commercial use without Jina AI's licence."
)
WANTED = ("*.json", "*.safetensors", "*.txt")
"""Files of a hub's page that loading needs."""
INDEX = "model.safetensors.index.json"
SCALE = "_scale"
"""`NAME` in int8 goes with `NAME_scale`: one float a row, weight = int8 * scale. So does one in uint8, two
numbers of four bits a byte."""

# Later versions of transformers nest the two towers below `model`; the released file does not.
_RENAMED = (("model.visual.", "visual."), ("model.language_model.", "model."))
_UNUSED = frozenset({"lm_head.weight"})


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with the folder it came from and a digest of what was loaded."""

    name: str
    folder: Path
    config: ModelConfig
    model: RerankerModel
    fingerprint: str
    """sha256 (hex) of the configuration, and of every tensor's name, dtype, shape and bytes."""
    fresh_head: bool = False
    """The folder had no score head, and one with random weights was put on."""


def load(
    name: str | Path | None,
    device: torch.device,
    dtype: torch.dtype | None,
    head_seed: int | None = None,
) -> Checkpoint:
    """Load nano (None), a folder, or a hub id, strictly, in evaluation mode.

    `dtype` None keeps the one the configuration names; int8 computes the linear maps of decoder and
    vision tower in it and all else in float32. With `head_seed` a checkpoint without any score
    head, such as Qwen2-VL-2B-Instruct, gets one of random weights. Raises CheckpointError, and
    OptionError where int8 does not run.
    """
    int8 = dtype == torch.int8
    if int8:
        check_int8(device)
    folder = locate(name)
    config = ModelConfig.from_file(folder / "config.json")
    target = torch.float32 if int8 else dtype or _dtype(config)
    with torch.device("meta"):
        model = RerankerModel(config)
        rounded = {f"{name}.weight" for name, _ in linears(model)} if int8 else set()
        if int8:
            to_int8(model)
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    tensors: dict[str, Tensor] = {}
    for key, tensor in read_tensors(folder, digest):
        if key in tensors:
            raise CheckpointError(f"{folder} holds {key} twice.", "Remove the stale shard.")
        if key in rounded and tensor.ndim == 2:
            tensors[key], tensors[key + SCALE] = quantise(tensor)
        else:
            tensors[key] = tensor.to(device=device, dtype=target)
    fresh = head_seed is not None and not any(key.startswith("score.") for key in tensors)
    if fresh and head_seed is not None:
        head = fresh_head(config.hidden_size, config.logit_bias, head_seed)
        tensors |= {
            f"score.{key}": tensor.to(device=device, dtype=target) for key, tensor in head.items()
        }
    _check_complete(folder, model, tensors)
    model.load_state_dict(tensors, assign=True)
    tensors.clear()  # else packing holds every weight twice
    pack(model)
    model.requires_grad_(False).eval()
    label = "nano" if name is None else str(name)
    return Checkpoint(label, folder, config, model, digest.hexdigest(), fresh)


def locate(name: str | Path | None, wanted: Sequence[str] = WANTED) -> Path:
    """The folder of a checkpoint; of a hub id that is no folder `wanted` is downloaded first."""
    if name is None or name == "nano":
        return NANO
    folder = Path(name)
    if os.path.isdir(folder):  # noqa: PTH112  (Path.is_dir raises on a name that is too long)
        return folder
    if isinstance(name, Path) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise _no_checkpoint(name)
    return _download(name, wanted)


def _no_checkpoint(name: str | Path) -> CheckpointError:
    return CheckpointError(
        f"{name!s:.200} is not a folder.",
        f"Give a model folder, a hub id such as {M0}, or nothing for the built-in nano.",
    )


def _download(repository: str, wanted: Sequence[str]) -> Path:
    require("hub", "Checkpoints of a hub", "huggingface_hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(repository, allow_patterns=list(wanted), local_files_only=True)
        )
    except HFValidationError:
        raise _no_checkpoint(repository) from None
    except LocalEntryNotFoundError:  # first load
        if repository == M0:
            print(M0_LICENCE, file=sys.stderr)
    try:
        return Path(snapshot_download(repository, allow_patterns=list(wanted)))
    except Exception as error:
        raise HubUnavailableError(
            f"{repository} is no folder here, is not in the local cache and could not be fetched"
            f" ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}).",
            "Copy the model's folder to this machine and give its path instead.",
        ) from error


def _dtype(config: ModelConfig) -> torch.dtype:
    name = config.torch_dtype.removeprefix("torch.")
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.bfloat16}.get(
        name
    )
    if dtype is None:
        raise CheckpointError(
            f"config.json asks for torch_dtype {name}.", "Allowed: float32, bfloat16, float16."
        )
    return dtype


def read_tensors(folder: Path, digest: hashlib._Hash | None = None) -> Iterator[tuple[str, Tensor]]:
    """(checkpoint key in the original layout, tensor) of every used tensor, as floats."""
    for path in _files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                names = set(file.keys())
                for name in sorted(names, key=canonical):
                    if canonical(name) in _UNUSED or _is_scale(name, names):
                        continue
                    scale = name + SCALE if name + SCALE in names else None
                    stored = file.get_tensor(name)
                    factors = file.get_tensor(scale) if scale else None
                    if digest is not None:
                        _update(digest, canonical(name), stored, factors)
                    yield (
                        canonical(name),
                        stored if factors is None else dequantise(stored, factors),
                    )
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is damaged or not a safetensors file: {error}.", "Fetch it again."
            ) from error


def _update(digest: hashlib._Hash, name: str, *tensors: Tensor | None) -> None:
    for tensor in tensors:
        if tensor is not None:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)


def _is_scale(name: str, names: set[str]) -> bool:
    return name.endswith(SCALE) and name.removesuffix(SCALE) in names


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.exists():
        try:
            mapping = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = sorted({folder / Path(name).name for name in mapping.values()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index} has no usable weight_map: {error}.") from error
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [path.name for path in files if not path.exists()]
    if missing or not files:
        what = f"lacks {', '.join(missing[:10])}" if missing else "holds no *.safetensors file"
        raise CheckpointError(f"{folder} {what}.", "Fetch the whole checkpoint again.")
    return files


def canonical(name: str) -> str:
    """The key of a tensor in the released file's layout."""
    for new, old in _RENAMED:
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def _check_complete(folder: Path, model: RerankerModel, tensors: dict[str, Tensor]) -> None:
    wanted = {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    problems = (
        [f"missing {name} {wanted[name]}" for name in sorted(wanted.keys() - found.keys())]
        + [f"unexpected {name} {found[name]}" for name in sorted(found.keys() - wanted.keys())]
        + [
            f"{name} is {found[name]}, not {wanted[name]}"
            for name in sorted(wanted.keys() & found.keys())
            if wanted[name] != found[name]
        ]
    )
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise CheckpointError(
            f"{folder} does not fit its config.json: {'; '.join(problems[:10])}{more}.",
            "Fetch the checkpoint again, or check that config.json belongs to it.",
        )
