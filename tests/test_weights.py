"""Loading: key layouts, shards, and strictness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from sightrank import Reranker, weights
from sightrank.errors import CheckpointError
from sightrank.model.quantize import dequantise, quantise, quantise_halves
from tests.int8 import NEEDS_INT8

CPU = torch.device("cpu")


@pytest.fixture
def tensors(checkpoint: Path) -> dict[str, Tensor]:
    return load_file(checkpoint / "model.safetensors")


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint's folder without its weights."""
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    return tmp_path


def save(folder: Path, tensors: dict[str, Tensor], name: str = "model.safetensors") -> None:
    save_file({key: value.clone() for key, value in tensors.items()}, folder / name)


def save_shards(folder: Path, tensors: dict[str, Tensor], count: int) -> dict[str, str]:
    where = {key: f"model-{i % count}.safetensors" for i, key in enumerate(sorted(tensors))}
    for shard in set(where.values()):
        save(folder, {key: tensors[key] for key in tensors if where[key] == shard}, shard)
    index = {"metadata": {}, "weight_map": where}
    (folder / weights.INDEX).write_text(json.dumps(index))
    return where


def nested(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys as later versions of transformers save them."""
    return {
        "model." + key
        if key.startswith("visual.")
        else key.replace("model.", "model.language_model.", 1)
        if key.startswith("model.")
        else key: value
        for key, value in tensors.items()
    }


def load(folder: Path) -> weights.Checkpoint:
    return weights.load(folder, CPU, None)


def assert_holds(loaded: weights.Checkpoint, tensors: dict[str, Tensor]) -> None:
    state = loaded.model.state_dict()
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize("layout", ["released", "nested"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("lm_head", [False, True])
def test_layouts_shards_and_an_unused_head_load_alike(
    folder: Path, tensors: dict[str, Tensor], layout: str, shards: int, lm_head: bool
) -> None:
    given = tensors if layout == "released" else nested(tensors)
    if lm_head:
        given = given | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    if shards == 1:
        save(folder, given)
    else:
        save_shards(folder, given, shards)
    assert_holds(load(folder), tensors)


@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied_embeddings(folder: Path, tensors: dict[str, Tensor], tied: bool) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": tied}))
    other = torch.zeros_like(tensors["model.embed_tokens.weight"])
    save(folder, tensors if tied else tensors | {"lm_head.weight": other})
    loaded = load(folder)
    assert loaded.config.tie_word_embeddings is tied
    assert_holds(loaded, tensors)


def test_both_layouts_score_the_same(
    checkpoint: Path, folder: Path, tensors: dict[str, Tensor]
) -> None:
    save_shards(folder, nested(tensors), 2)
    pairs = [("q", "a document"), ("q", "another")]
    ours, theirs = (Reranker.from_pretrained(f, device="cpu") for f in (checkpoint, folder))
    assert ours.score(pairs) == theirs.score(pairs)


def test_the_first_ten_differences_are_listed(folder: Path, tensors: dict[str, Tensor]) -> None:
    names = sorted(tensors)
    given = {key: tensors[key] for key in names[9:]} | {"extra.weight": torch.ones(2)}
    given[names[-1]] = torch.ones(5)
    save(folder, given)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    message = caught.value.message
    assert all(f"missing {key} {tuple(tensors[key].shape)}" in message for key in names[:9])
    assert "unexpected extra.weight (2,)" in message
    assert "and 1 more" in message  # the eleventh is the tensor of another shape
    save(folder, {**tensors, names[-1]: torch.ones(5)})
    with pytest.raises(CheckpointError, match=rf"{names[-1]} is \(5,\), not "):
        load(folder)


def test_a_tensor_that_two_shards_hold_is_refused(folder: Path, tensors: dict[str, Tensor]) -> None:
    where = save_shards(folder, tensors, 2)
    key = next(key for key in where if where[key] == "model-0.safetensors")
    half = {name: tensors[name] for name in tensors if where[name] == "model-1.safetensors"}
    save(folder, half | {key: tensors[key]}, "model-1.safetensors")
    with pytest.raises(CheckpointError, match=f"{key} twice"):
        load(folder)


def test_missing_weights_are_named(folder: Path, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"holds no \*\.safetensors file"):
        load(folder)
    save_shards(folder, tensors, 3)
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-1\.safetensors"):
        load(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 5}}', '{"weight_map"']
)
def test_a_broken_index_is_an_error_of_ours(folder: Path, content: str) -> None:
    (folder / weights.INDEX).write_text(content)
    with pytest.raises(CheckpointError, match="no usable weight_map"):
        load(folder)


@given(share=st.floats(0, 0.99), junk=st.binary(max_size=30))
def test_damaged_weights_are_an_error_of_ours(
    checkpoint: Path, tmp_path: Path, share: float, junk: bytes
) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    whole = (checkpoint / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: int(len(whole) * share)] + junk)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged") as caught:
        load(tmp_path)
    assert caught.value.hint


def test_the_fingerprint_knows_every_byte_and_no_layout(
    folder: Path, tensors: dict[str, Tensor]
) -> None:
    save(folder, tensors)
    first = load(folder).fingerprint
    (folder / "model.safetensors").unlink()
    save(folder, nested(tensors))
    assert load(folder).fingerprint == first
    key = sorted(tensors)[-1]
    changed = tensors[key].clone().flatten()
    changed[-1] += 1e-6
    save(folder, {**tensors, key: changed.view_as(tensors[key])})
    assert load(folder).fingerprint != first


def test_eight_bit_weights_come_back_within_half_a_step(
    folder: Path, tensors: dict[str, Tensor]
) -> None:
    stored: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if value.ndim > 1:
            stored[key], stored[key + weights.SCALE] = quantise(value)
        else:
            stored[key] = value
    save(folder, stored)
    state = load(folder).model.state_dict()
    assert state.keys() == tensors.keys()
    for key, value in tensors.items():
        step = stored[key + weights.SCALE].max() if value.ndim > 1 else 0
        assert float((state[key] - value).abs().max()) <= 0.51 * float(step)


def test_four_bit_embeddings_load(folder: Path, tensors: dict[str, Tensor]) -> None:
    key = "model.embed_tokens.weight"
    stored, scale = quantise_halves(tensors[key])
    save(folder, {**tensors, key: stored, key + weights.SCALE: scale})
    loaded = load(folder)
    assert_close(loaded.model.state_dict()[key], dequantise(stored, scale))
    save(folder, {**tensors, key: stored})  # half the columns and no scale
    with pytest.raises(CheckpointError, match=rf"{key} is "):
        load(folder)


@NEEDS_INT8
def test_int8_is_loaded_as_strictly(folder: Path, tensors: dict[str, Tensor]) -> None:
    key = "model.layers.0.mlp.up_proj.weight"
    stored, scale = quantise(tensors[key])
    save(folder, tensors)
    loaded = weights.load(folder, CPU, torch.int8)
    assert loaded.fingerprint == load(folder).fingerprint
    assert loaded.model.dtype == torch.float32
    layer = loaded.model.get_submodule(key.removesuffix(".weight"))
    step = torch.eye(stored.shape[1]) * 127  # whose bytes are the weight's columns
    assert_close(layer(step).mT, stored * scale[:, None] * 127)
    for wrong in (tensors[key][0], tensors[key][:-1]):
        save(folder, {**tensors, key: wrong.contiguous()})
        with pytest.raises(CheckpointError, match=rf"{key} is "):
            weights.load(folder, CPU, torch.int8)
    save(folder, {name: tensor for name, tensor in tensors.items() if name != key})
    with pytest.raises(CheckpointError, match=f"missing {key}"):
        weights.load(folder, CPU, torch.int8)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{", b"null"])
def test_a_config_that_is_no_object(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json is not a JSON object"):
        load(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    checkpoint: Path, folder: Path
) -> None:
    import tokenizers

    bpe = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    bpe.add_tokens(["one", "two"])
    bpe.save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has \d+ tokens, .* embeds \d+"):
        Reranker.from_pretrained(folder, device="cpu")
