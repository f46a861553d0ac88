"""Parameters, memory and work of a training step by arithmetic alone; docs/training.md has the formulas.

Of activations what autograd keeps is counted, tensor by tensor, as in Korthikanti et al. 2022
(arXiv:2205.05198); weights, gradients and AdamW's two moments as in Rajbhandari et al. 2020
(arXiv:1910.02054). A multiplication and an addition are two operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from sightrank.config import ModelConfig
from sightrank.train.settings import Settings

WIDE = 4
"""Bytes of float32: weights that learn, gradients, moments, norms."""


@dataclass(frozen=True)
class Load:
    """What runs together: sizes of one batch."""

    trees: tuple[tuple[int, int, int], ...]
    """Of each document: its tokens, tokens of all queries behind it, number of these queries."""
    images: tuple[int, ...] = ()
    """Patches of each distinct image."""

    @property
    def tokens(self) -> int:
        """Tokens in the decoder."""
        return sum(prefix + suffix for prefix, suffix, _ in self.trees)

    @property
    def pairs(self) -> int:
        """Scores."""
        return sum(count for _, _, count in self.trees)


@dataclass(frozen=True)
class Parameters:
    """How many weights there are, by part; adapters are beside the model's own."""

    embeddings: int
    language: int
    vision: int
    merger: int
    head: int
    adapters: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a step."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    workspace: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(vars(self).values())


def parameters(config: ModelConfig, settings: Settings) -> Parameters:
    """Weights of the first stage."""
    h, kv = config.hidden_size, _kv(config)
    layer = sum(i * o for i, o in _linears(config).values()) + (h + 2 * kv) + 2 * h
    vision = config.vision
    e, wide = vision.embed_dim, int(vision.embed_dim * vision.mlp_ratio)
    block = 4 * e * e + 4 * e + 2 * e * wide + wide + e + 4 * e
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * e
    merged = e * vision.spatial_merge_size**2
    return Parameters(
        embeddings=config.vocab_size * h,
        language=config.num_hidden_layers * layer + h,
        vision=patch + vision.depth * block,
        merger=2 * e + merged * merged + merged + merged * h + h,
        head=h * h + 2 * h + 1,
        adapters=config.num_hidden_layers * _adapters(config, settings),
    )


def trained(config: ModelConfig, settings: Settings) -> int:
    """How many weights learn: in the first stage, or where it has no steps, in the second."""
    found, model = parameters(config, settings), settings.model
    if not settings.train.steps:
        return found.head
    return (
        found.adapters
        + (found.language if model.language == "full" else 0)
        + (found.vision if model.vision else 0)
        + (found.merger if model.merger else 0)
        + (found.head if settings.train.head else 0)
    )


def memory(
    config: ModelConfig, settings: Settings, load: Load, *, checkpointing: bool, shards: int = 1
) -> Memory:
    """The peak of a step over `load`; under FSDP what one of `shards` processes has of it."""
    size = _size(settings)
    parts, learning = parameters(config, settings), trained(config, settings)
    weights = (parts.total - learning) * size + learning * WIDE
    if shards > 1:  # two layers are gathered whole at a time, all else for the whole step
        layers = parts.language + parts.adapters
        gathered = parts.total - layers + 2 * layers // config.num_hidden_layers
        weights = weights // shards + size * gathered
    elif size < WIDE:  # under autocast float32 weights are used through copies kept for a step
        weights += learning * size
    layer, last = _layer_bytes(config, settings), _last_bytes(config, settings)
    h, tokens = config.hidden_size, load.tokens
    flows = _flows(settings)
    everything = (config.num_hidden_layers - 1) * _saved(config, settings, load, layer)
    everything += last * tokens
    if not flows:
        activations = 0
    elif checkpointing:
        activations = config.num_hidden_layers * size * h * tokens
        activations += _saved(config, settings, load, layer)
    else:
        activations = everything
    workspace = size * tokens * (3 * config.intermediate_size + 6 * h)
    patches = sum(load.images)
    if patches:
        e = config.vision.embed_dim
        each = int(e * (6 + 3 * config.vision.mlp_ratio))
        if settings.model.vision:
            activations += config.vision.depth * patches * size * each
        workspace = max(workspace, patches * (size * each + WIDE * 4 * e))
    return Memory(
        weights=weights,
        gradients=learning * WIDE // shards,
        optimizer=2 * learning * WIDE // shards,
        activations=activations,
        workspace=workspace,
    )


def flops(config: ModelConfig, settings: Settings, load: Load, *, checkpointing: bool) -> int:
    """Operations of the forward and backward pass over `load`."""
    linear, attention = _decoder(config, load)
    tokens = load.tokens * (config.num_hidden_layers - 1)
    adapters = 2 * _adapters(config, settings) * tokens
    head = 2 * load.pairs * (config.hidden_size**2 + config.hidden_size)
    seen = _vision(config, load)
    forward = linear + attention + adapters + head + seen
    if not _flows(settings):
        return forward + 2 * head
    # Gradients of inputs cost as much as the forward pass, those of weights that learn once more.
    full = 1 if settings.model.language == "full" else 0
    backward = linear * (1 + full) + 2 * attention + 2 * adapters + 2 * head
    if not (settings.model.vision or settings.model.merger):
        # Nothing that learns lies before the first layer, so its input needs no gradient.
        linears = _linears(config)
        backward -= 2 * load.tokens * sum(i * o for i, o in list(linears.values())[:3])
    backward += 2 * seen if settings.model.vision else 0
    again = linear + attention + adapters if checkpointing else 0
    return forward + backward + again


def _decoder(config: ModelConfig, load: Load) -> tuple[int, int]:
    """Operations of linear maps and of attention, forward."""
    h, layers, tokens, pairs = (
        config.hidden_size, config.num_hidden_layers, load.tokens, load.pairs,
    )  # fmt: skip
    every = sum(i * o for i, o in _linears(config).values())
    seen = 2 * h * _kv(config)
    linear = 2 * ((layers - 1) * tokens * every + tokens * seen + pairs * (every - seen))
    squares = sum(p * p + s * (p + s) for p, s, _ in load.trees)
    last = sum(count * (p + s) for p, s, count in load.trees)
    return linear, 4 * h * ((layers - 1) * squares + last)


def _vision(config: ModelConfig, load: Load) -> int:
    vision, patches = config.vision, sum(load.images)
    e, merged = vision.embed_dim, vision.embed_dim * vision.spatial_merge_size**2
    block = 4 * e * e + 2 * e * int(e * vision.mlp_ratio)
    pixels = vision.in_channels * vision.patch_size**2
    linear = 2 * patches * (pixels * e + vision.depth * block)
    attention = 4 * e * vision.depth * sum(count * count for count in load.images)
    tokens = patches // vision.spatial_merge_size**2
    return linear + attention + 2 * tokens * (merged * merged + merged * config.hidden_size)


def _saved(config: ModelConfig, settings: Settings, load: Load, each: int) -> int:
    """Bytes that one layer keeps: of its tokens, and of the masked attention of queries."""
    scores = sum(s * (p + s) for p, s, _ in load.trees) * config.num_attention_heads
    return each * load.tokens + _size(settings) * scores


def _layer_bytes(config: ModelConfig, settings: Settings) -> int:
    """What autograd keeps of a token in a layer."""
    size, h, kv, f = _size(settings), config.hidden_size, _kv(config), config.intermediate_size
    norms = 2 * (WIDE * h + WIDE)
    # Queries, keys, values and the output; keys and values once more, gathered behind queries.
    attention = size * (2 * h + 4 * kv) + WIDE * config.num_attention_heads
    return norms + attention + size * 3 * f + _inputs(config, settings, tuple(_linears(config)))


def _last_bytes(config: ModelConfig, settings: Settings) -> int:
    """The same of the last layer, which computes keys and values alone for every token."""
    norm = WIDE * config.hidden_size + WIDE
    keys = 2 * _size(settings) * _kv(config)
    return norm + keys + _inputs(config, settings, ("k_proj", "v_proj"))


def _inputs(config: ModelConfig, settings: Settings, used: tuple[str, ...]) -> int:
    """Inputs of linear maps that are kept for the gradients of weights."""
    size, lora, linears = _size(settings), settings.lora, _linears(config)
    h = config.hidden_size
    if settings.model.language == "frozen":
        return 0
    full = settings.model.language == "full"
    targets = [name for name in used if full or name in lora.targets]
    low = 0 if full else size * lora.rank * len(targets)
    if not full and lora.dropout > 0:  # each adapter drops inputs of its own; the masks are bytes
        return low + sum((size + 1) * linears[name][0] for name in targets)
    shared = {"q_proj": "a", "k_proj": "a", "v_proj": "a", "gate_proj": "m", "up_proj": "m"}
    inputs = {shared[name] for name in targets if name in shared}
    norms = size * h * 2 if full else 0  # scales of norms learn too
    return (
        low
        + size * h * len(inputs)
        + size * linears["down_proj"][0] * ("down_proj" in targets)
        + norms
    )


def _linears(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of a layer's linear maps."""
    h, kv, f = config.hidden_size, _kv(config), config.intermediate_size
    return {
        "q_proj": (h, h), "k_proj": (h, kv), "v_proj": (h, kv), "o_proj": (h, h),
        "gate_proj": (h, f), "up_proj": (h, f), "down_proj": (f, h),
    }  # fmt: skip


def _adapters(config: ModelConfig, settings: Settings) -> int:
    """Weights of one layer's adapters."""
    if settings.model.language != "lora":
        return 0
    linears, lora = _linears(config), settings.lora
    return sum(lora.rank * sum(linears[name]) for name in set(lora.targets))


def _flows(settings: Settings) -> bool:
    """Whether gradients go through the decoder."""
    model = settings.model
    return bool(settings.train.steps) and (
        model.language != "frozen" or model.vision or model.merger
    )


def _kv(config: ModelConfig) -> int:
    return config.num_key_value_heads * config.head_dim


def _size(settings: Settings) -> int:
    return {"float32": 4, "bfloat16": 2}[settings.train.precision]
