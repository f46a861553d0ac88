"""The shape of a checkpoint, and the limits under which inputs are read. Frozen, validated once."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightrank.errors import CheckpointError, OptionError

MIN_PIXELS = 56 * 56
MAX_PIXELS = 768 * 28 * 28
MAX_CONTEXT = 32_768
LOGIT_BIAS = 2.65
CALIBRATION_FILE = "calibration.json"
"""As a calibration is called beside an index or in a model's folder."""
SIGNATURES_FILE = "signatures.safetensors"
"""What is kept in an index's folder to find copies."""


@dataclass(frozen=True)
class VisionConfig:
    """Shape of the vision tower (names as in Qwen2-VL's configuration)."""

    depth: int = 32
    embed_dim: int = 1280
    num_heads: int = 16
    mlp_ratio: float = 4.0
    in_channels: int = 3
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads

    @property
    def block(self) -> int:
        """Side in pixels of the square that one visual token covers."""
        return self.patch_size * self.spatial_merge_size


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a reranker checkpoint; the defaults are jina-reranker-m0's."""

    vocab_size: int = 151_936
    hidden_size: int = 1536
    num_hidden_layers: int = 28
    num_attention_heads: int = 12
    num_key_value_heads: int = 2
    intermediate_size: int = 8960
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0
    mrope_section: tuple[int, int, int] = (16, 24, 24)
    max_position_embeddings: int = MAX_CONTEXT
    tie_word_embeddings: bool = True
    vision: VisionConfig = VisionConfig()
    image_token_id: int = 151_655
    vision_start_token_id: int = 151_652
    vision_end_token_id: int = 151_653
    score_token_id: int = 100
    """Appended to every prompt; the score is read off its hidden state."""
    logit_bias: float = LOGIT_BIAS
    """relevance = sigmoid(logit - logit_bias)."""
    torch_dtype: str = "bfloat16"

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_file(cls, path: Path) -> ModelConfig:
        """Read `config.json`, in the flat layout or with the text model's fields under text_config."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(
                f"{path} does not exist.",
                "A model folder holds config.json, tokenizer.json and safetensors files.",
            ) from None
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise CheckpointError(f"{path} is not a JSON object: {error}.") from error
        if not isinstance(raw, dict):
            raise CheckpointError(f"{path} is not a JSON object.")
        return cls.from_dict(raw)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ModelConfig:
        """Build from the content of a Qwen2-VL `config.json`; absent fields take m0's values.

        Raises CheckpointError.
        """
        try:
            config = cls._from_dict(raw)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CheckpointError(
                f"config.json holds a value of the wrong kind: {error}.", _CHECK_FOLDER
            ) from error
        _check(config)
        return config

    @classmethod
    def _from_dict(cls, raw: dict[str, Any]) -> ModelConfig:
        text = {**raw, **(raw.get("text_config") or {})}
        default = cls()
        rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
        simple = {
            name: type(getattr(default, name))(text[name])
            for name in _TEXT_FIELDS
            if text.get(name) is not None
        }
        top = {
            name: type(getattr(default, name))(raw[name])
            for name in _TOP_FIELDS
            if raw.get(name) is not None
        }
        if rope.get("rope_theta") is not None:
            simple["rope_theta"] = float(rope["rope_theta"])
        section = rope.get("mrope_section") or default.mrope_section
        return cls(
            **simple,
            **top,
            torch_dtype=str(raw.get("torch_dtype") or raw.get("dtype") or default.torch_dtype),
            mrope_section=tuple(int(size) for size in section),  # type: ignore[arg-type]
            vision=_vision(raw.get("vision_config") or {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json` in the flat layout that `transformers` 4.5x reads."""
        vision = self.vision
        return {
            "architectures": ["JinaVLForRanking"],
            "model_type": "qwen2_vl",
            **{name: getattr(self, name) for name in (*_TEXT_FIELDS, *_TOP_FIELDS)},
            "hidden_act": "silu",
            "rope_scaling": {"type": "mrope", "mrope_section": list(self.mrope_section)},
            "torch_dtype": self.torch_dtype,
            "use_sliding_window": False,
            "vision_config": {
                "depth": vision.depth,
                "embed_dim": vision.embed_dim,
                "num_heads": vision.num_heads,
                "mlp_ratio": vision.mlp_ratio,
                "in_channels": vision.in_channels,
                "patch_size": vision.patch_size,
                "temporal_patch_size": vision.temporal_patch_size,
                "spatial_merge_size": vision.spatial_merge_size,
                "hidden_size": self.hidden_size,
                "model_type": "qwen2_vl",
            },
        }


_CHECK_FOLDER = "Check that the folder is a checkpoint of this architecture."
_TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "rms_norm_eps",
    "rope_theta",
    "max_position_embeddings",
    "tie_word_embeddings",
)
_TOP_FIELDS = (
    "image_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "score_token_id",
    "logit_bias",
)


def _vision(raw: dict[str, Any]) -> VisionConfig:
    names = VisionConfig.__dataclass_fields__
    given = {name: raw[name] for name in names if raw.get(name) is not None}
    if "in_chans" in raw:
        given["in_channels"] = raw["in_chans"]
    if "spatial_patch_size" in raw:
        given["patch_size"] = raw["spatial_patch_size"]
    default = VisionConfig()
    return VisionConfig(
        **{name: type(getattr(default, name))(value) for name, value in given.items()}
    )


def _check(config: ModelConfig) -> None:
    vision = config.vision
    counts = [getattr(config, name) for name in _TEXT_FIELDS if name != "tie_word_embeddings"]
    if min(*counts, vision.depth, vision.embed_dim, vision.num_heads, vision.mlp_ratio) <= 0:
        raise CheckpointError("config.json holds a size that is not positive.", _CHECK_FOLDER)
    ids = (
        config.score_token_id,
        config.image_token_id,
        config.vision_start_token_id,
        config.vision_end_token_id,
    )
    rules = {
        "hidden_size must divide into num_attention_heads": (
            config.hidden_size % config.num_attention_heads == 0
        ),
        "num_attention_heads must be a multiple of num_key_value_heads": (
            config.num_attention_heads % config.num_key_value_heads == 0
        ),
        "mrope_section must hold three numbers whose sum is half the head width": (
            len(config.mrope_section) == 3 and 2 * sum(config.mrope_section) == config.head_dim
        ),
        "vision embed_dim must divide into num_heads of a width that is a multiple of 4": (
            vision.embed_dim % vision.num_heads == 0 and vision.head_dim % 4 == 0
        ),
        "patch 14, temporal patch 2, merge 2 and 3 channels are the layout that is read": (
            (
                vision.patch_size,
                vision.temporal_patch_size,
                vision.spatial_merge_size,
                vision.in_channels,
            )
            == (14, 2, 2, 3)
        ),
        "score, image and vision token ids must differ and lie inside the vocabulary": (
            len(set(ids)) == 4 and min(ids) >= 0 and max(ids) < config.vocab_size
        ),
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise CheckpointError(
            f"config.json does not describe a Qwen2-VL reranker: {'; '.join(broken)}.",
            _CHECK_FOLDER,
        )


@dataclass(frozen=True)
class InputConfig:
    """Limits that decide what a prompt looks like; part of every prefix key."""

    max_length: int = 10_240
    """Tokens of a whole prompt, the score token included."""
    max_query_length: int = 512
    """Tokens kept free for the query when a document is cut."""
    max_doc_length: int | None = None
    """Tokens of a text document; None: max_length - max_query_length, or max_query_length if larger."""
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is not int and (name, value) != ("max_doc_length", None):
                raise OptionError(f"{name} is {value!r}.", "It must be a whole number.")
        if self.max_length > MAX_CONTEXT:
            raise OptionError(
                f"max_length is {self.max_length}.", f"It may be at most {MAX_CONTEXT}."
            )
        if self.max_query_length < 1 or self.document_tokens < 1:
            raise OptionError("max_query_length and max_doc_length must be at least 1.")
        if self.document_tokens + self.max_query_length > self.max_length:
            raise OptionError(
                f"max_doc_length {self.document_tokens} + max_query_length {self.max_query_length}"
                f" is over max_length {self.max_length}.",
                "Lower one of them or raise max_length (at least twice max_query_length).",
            )
        if not MIN_PIXELS <= self.min_pixels <= self.max_pixels:
            raise OptionError(
                f"min_pixels is {self.min_pixels}, max_pixels {self.max_pixels}.",
                f"Allowed: {MIN_PIXELS} <= min_pixels <= max_pixels.",
            )

    @property
    def document_tokens(self) -> int:
        """Most tokens of a text document before it is cut (the released model's rule)."""
        if self.max_doc_length is not None:
            return self.max_doc_length
        return max(self.max_length - self.max_query_length, self.max_query_length)

    def lowered(
        self, max_doc_length: int | None = None, max_pixels: int | None = None
    ) -> InputConfig:
        """These limits, each lowered to what is given and never raised. Raises OptionError."""
        length, pixels = self.max_doc_length, self.max_pixels
        if max_doc_length is not None:
            length = min(max_doc_length, self.document_tokens)
        if max_pixels is not None:
            pixels = min(max_pixels, pixels)
        return replace(self, max_doc_length=length, max_pixels=pixels)


@dataclass(frozen=True)
class EngineConfig:
    """How much runs at once and how much is remembered; None leaves it to the memory there is."""

    memory_bytes: int | None = None
    """All that this process may take, weights included; on a GPU, of its memory. None: half of what
    the machine, or the container, has free when the model is loaded."""
    batch_tokens: int | None = None
    """Tokens and image patches that go through the model together; a longer document goes alone.
    None: 8192, or less where memory is short."""
    cache_bytes: int | None = None
    """Memory for the keys and values of documents that were scored before. None: what the other
    parts leave."""
    host_bytes: int | None = None
    """Beside a GPU, the machine's memory for those that the GPU has no room for. None: a quarter of
    what is free. On a CPU it means nothing."""
    models: int = 1
    """Models in this process, this one among them, that share memory_bytes, or what is free, evenly."""

    def __post_init__(self) -> None:
        least = {"memory_bytes": 1, "batch_tokens": 1, "cache_bytes": 0, "host_bytes": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < low):
                raise OptionError(f"{name} is {value!r}.", f"It must be at least {low}, or None.")
        if type(self.models) is not int or self.models < 1:
            raise OptionError(f"models is {self.models!r}.", "It must be at least 1.")
