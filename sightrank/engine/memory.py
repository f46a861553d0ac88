"""What runs at once and what is remembered, so that all of it stays inside a budget of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import torch

from sightrank.config import EngineConfig, ModelConfig
from sightrank.engine.available import available_bytes
from sightrank.engine.precision import Shape
from sightrank.errors import OutOfMemoryError
from sightrank.inputs.segments import Segment
from sightrank.model.multimodal import RerankerModel

MIB = 1024**2
RUNTIME_BYTES = 384 * MIB
"""Interpreter, PyTorch's libraries, tokenizer, a file being decoded; measured 250 MiB with nano."""
MOST_TOKENS = 8192
"""Larger batches are no faster."""
MOST_WAITING_BYTES = 512 * MIB
BATCH_SHARE, WAITING_SHARE, CACHE_SHARE = 0.4, 0.125, 0.9

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Limits:
    """A budget shared out."""

    fixed_bytes: int
    """The model's weights and what runs it."""
    token_bytes: int
    """What a token or a patch of a batch takes at most: activations, keys and values."""
    batch_tokens: int
    """Tokens and image patches that go through the model together."""
    waiting_bytes: int
    """Documents that are read and not yet scored, mostly pixels."""
    cache_bytes: int
    """Keys and values of documents that were scored before."""
    host_bytes: int
    """More of them, in the machine's memory beside a GPU."""


@dataclass(frozen=True)
class Expected:
    """What a request will take, judged before it is run."""

    num_tokens: int
    """Prompt tokens of all documents."""
    peak_bytes: int
    """Of memory, the model's weights included."""


def limits(config: EngineConfig, model: RerankerModel, device: torch.device) -> Limits:
    """Share out what the configuration grants, or half of what is free.

    Raises OutOfMemoryError for a budget that does not hold the model.
    """
    fixed = RUNTIME_BYTES + sum(tensor.nbytes for tensor in model.state_dict().values())
    if config.memory_bytes is None:
        room = available_bytes(device) // 2 // config.models
    else:
        room = config.memory_bytes // config.models - fixed
        if room < 0:
            raise OutOfMemoryError(
                f"memory_bytes is {config.memory_bytes:,}"
                + (f" for {config.models} models" if config.models > 1 else "")
                + f", the model and what runs it take {fixed:,}.",
                "Allow more, or load the model in bfloat16 or, on a CPU, in int8.",
            )
    each = token_bytes(model.config, model.dtype)
    tokens = config.batch_tokens
    if tokens is None:
        tokens = max(1, min(MOST_TOKENS, int(BATCH_SHARE * room) // each))
    waiting = min(MOST_WAITING_BYTES, int(WAITING_SHARE * room))
    cache = config.cache_bytes
    if cache is None:
        # The rest of this share is lost between the blocks of the allocator.
        cache = max(0, int(CACHE_SHARE * (room - tokens * each - waiting)))
    return Limits(fixed, each, tokens, waiting, cache, _host_bytes(config, device))


def _host_bytes(config: EngineConfig, device: torch.device) -> int:
    if device.type != "cuda":  # else the cache is in the machine's memory already
        return 0
    if config.host_bytes is not None:
        return config.host_bytes
    return available_bytes(torch.device("cpu")) // 4 // config.models


def token_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """The larger of what a token takes in the decoder and what a patch takes in the vision tower.

    Counted are the tensors of one layer that are alive at once, and of a token its keys and values
    in every layer, twice, for the moment in which an index packs or unpacks them.
    """
    size, wide = dtype.itemsize, 4  # norms and rotations are computed in float32
    text, vision = config, config.vision
    kept = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    token = (
        size * (6 * text.hidden_size + 3 * text.intermediate_size)
        + wide * 2 * text.hidden_size
        + size * 2 * kept
    )
    patch = (
        wide * 2 * vision.in_channels * vision.patch_size**2
        + size * int(vision.embed_dim * (6 + 3 * vision.mlp_ratio))
        + wide * 4 * vision.embed_dim
    )
    if size < wide:  # products that are widened on their way
        token += wide * (text.hidden_size + text.intermediate_size)
        patch += wide * int(vision.embed_dim * (3 + vision.mlp_ratio))
    return max(token, patch)


def expect(sample: Sequence[Segment], count: int, limits: Limits, shape: Shape) -> Expected | None:
    """What `count` documents like those of the sample will take; None without a sample."""
    if not sample:
        return None
    scale, work = count / len(sample), [cost(segment) for segment in sample]
    tokens = scale * sum(map(len, sample))
    token_bytes = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * shape.item_bytes
    peak = (
        limits.fixed_bytes
        + limits.token_bytes * min(scale * sum(work), max(limits.batch_tokens, *work))
        + min(scale * sum(segment.num_bytes for segment in sample), limits.waiting_bytes)
        + min(tokens * token_bytes, limits.cache_bytes)
    )
    return Expected(round(tokens), round(peak))


def cost(document: Segment | Sized) -> int:
    """Work of a prefill in tokens: the decoder's, and a patch of the vision tower as one more."""
    images = document.images if isinstance(document, Segment) else ()
    return len(document) + sum(image.grid[0] * image.grid[1] for image in images)


def in_halves(
    run: Callable[[Sequence[_Item]], Sequence[_Result]],
    items: Sequence[_Item],
    relieve: Callable[[], None],
) -> list[_Result]:
    """`run(items)`, and where memory does not suffice, of each half of them, down to one.

    `relieve` is called before every new try. Raises OutOfMemoryError if one item is too much.
    """
    try:
        return list(run(items))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Outside of the handler, because the error holds on to all that its frames hold.
    relieve()
    if len(items) < 2:
        raise OutOfMemoryError(
            f"Memory does not suffice for a single document or query: {found}.",
            "Lower max_pixels or max_length, or free memory.",
        )
    middle = len(items) // 2
    return in_halves(run, items[:middle], relieve) + in_halves(run, items[middle:], relieve)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: NumPy's, PyTorch's on a GPU, or its plain RuntimeError on a CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    says = str(error).lower()
    phrases = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(phrase in says for phrase in phrases)
