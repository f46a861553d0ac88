"""Any `config.json` is the shape of a model, or an error of ours."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sightrank.config import ModelConfig
from sightrank.errors import CheckpointError


def test_the_released_configuration_is_the_default() -> None:
    """Its vision block names three values only; the rest are the architecture's defaults."""
    released = {
        "architectures": ["JinaVLForRanking"],
        "model_type": "qwen2_vl",
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "intermediate_size": 8960,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vocab_size": 151936,
        "torch_dtype": "bfloat16",
        "vision_config": {"hidden_size": 1536, "in_chans": 3, "spatial_patch_size": 14},
    }
    assert ModelConfig.from_dict(released) == ModelConfig()
    moved = {**released, "text_config": {k: released.pop(k) for k in ("hidden_size", "vocab_size")}}
    assert ModelConfig.from_dict(moved) == ModelConfig()
    assert ModelConfig.from_dict(ModelConfig().to_dict()) == ModelConfig()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2000) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = sorted([*ModelConfig().to_dict(), "text_config", "rope_parameters"])
VISION = sorted(ModelConfig().to_dict()["vision_config"])


@example(changes={"hidden_size": "wide"}, vision={})
@example(changes={"num_attention_heads": 0}, vision={})
@example(changes={}, vision={"num_heads": 0})
@given(
    changes=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3),
    vision=st.dictionaries(st.sampled_from(VISION), JSON, max_size=2),
)
def test_any_config_is_a_shape_or_an_error_of_ours(
    changes: dict[str, Any], vision: dict[str, Any]
) -> None:
    raw = ModelConfig().to_dict()
    raw["vision_config"] |= vision
    try:
        config = ModelConfig.from_dict(raw | changes)
    except CheckpointError as error:
        assert error.hint
    else:
        assert config.head_dim > 0 and config.vision.head_dim > 0
