"""Configurations: what is wrong in one is named; the documented one is the default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sightrank.errors import OptionError
from sightrank.train.settings import Settings

LEAST: dict[str, dict[str, Any]] = {"data": {"train": "a.jsonl"}, "train": {"to": "out"}}
DOCS = Path(__file__).parents[2] / "docs" / "training.md"


def made(**sections: dict[str, Any]) -> Settings:
    raw = {name: {**LEAST.get(name, {}), **sections.get(name, {})} for name in (*LEAST, *sections)}
    return Settings.from_dict(raw, Path("/somewhere"))


BAD: list[tuple[dict[str, dict[str, Any]], str]] = [
    ({"lorra": {}}, "unknown section: lorra. Allowed: data, train, model"),
    ({"lora": {"ranks": 8}}, "unknown key: ranks. Allowed: rank, alpha"),
    ({"lora": {"rank": "8"}}, "lora.rank is '8'. It must be a whole number"),
    ({"lora": {"rank": True}}, "must be a whole number"),
    ({"lora": {"rank": 0}}, "lora.rank is 0. It must be at least 1"),
    ({"lora": {"targets": ["lm_head"]}}, "lora.targets is 'lm_head'. Allowed: q_proj"),
    ({"loss": {"name": "mse"}}, "loss.name is 'mse'. Allowed: bce"),
    ({"loss": {"temperature": 0}}, "must be above 0"),
    ({"train": {"learning_rate": "fast"}}, "must be a number"),
    ({"train": {"steps": 0}, "head": {"steps": 0}}, "both 0"),
    ({"train": {"head": False}, "model": {"language": "frozen"}}, "nothing learns"),
    ({"data": {"max_pixels": 5}}, "max_pixels 5"),
    ({"data": {"in_batch": 3}, "loss": {"name": "kl"}}, "A teacher scored only"),
    ({"data": {"in_batch": 3}, "train": {"groups": 1}}, "train.groups of 2 or more"),
]


@pytest.mark.parametrize(("sections", "message"), BAD, ids=[message for _, message in BAD])
def test_what_is_wrong_is_named(sections: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        made(**sections)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(OptionError, match=r"\[data\] lacks train"):
        Settings.from_dict({"train": {"to": "x"}}, Path())


def test_a_file_that_is_no_toml_or_not_there_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    with pytest.raises(OptionError, match="cannot be read"):
        Settings.from_file(path)
    path.write_text("[data\n")
    with pytest.raises(OptionError, match="is not TOML"):
        Settings.from_file(path)


def test_paths_start_from_the_configuration() -> None:
    settings = made(data={"valid": ["b.jsonl"]})
    assert settings.data.train == ("/somewhere/a.jsonl",)
    assert settings.data.valid == ("/somewhere/b.jsonl",)
    assert settings.train.to == "/somewhere/out"
    assert settings.model.start == "nano"


def test_the_digest_tells_trainings_apart_and_not_where_they_go() -> None:
    one = made().digest()
    assert one == made(train={"to": "elsewhere", "log_every": 1}).digest()
    assert one != made(train={"seed": 1}).digest()


def test_the_documented_configuration_is_the_default() -> None:
    block = re.search(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    documented = tomllib.loads(block[1])
    found = Settings.from_dict(documented, Path("/x"))
    least = {"data": {"train": "train.jsonl"}, "train": {"to": "result"}}
    assert found == Settings.from_dict(least, Path("/x"))
    for name, section in documented.items():
        assert section.keys() == vars(getattr(found, name)).keys()
