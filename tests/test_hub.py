"""Names of models: folders, hub ids, and a hub that answers or does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from sightrank import Reranker, weights
from sightrank.errors import CheckpointError, HubUnavailableError, MissingExtraError


@pytest.mark.parametrize(
    "name",
    ["no/such/folder", "./gone", "/gone", "~/gone", "gone", "a b/c", "a/", "a\0b/c", "x" * 5000],
)
def test_names_that_are_no_model(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"is not a folder\. Give a model folder, a hub id"):
        weights.locate(name)
    with pytest.raises(CheckpointError, match="is not a folder"):
        weights.locate(Path("no/hub"))


class Hub:
    """Stands in for the hub: answers, or fails as a machine without a network does."""

    def __init__(self, folder: Path | None, cached: bool) -> None:
        self.folder, self.cached = folder, cached
        self.asked: list[dict[str, Any]] = []

    def snapshot_download(self, repository: str, **options: Any) -> str:
        self.asked.append({"repository": repository, **options})
        if options.get("local_files_only"):
            if not self.cached:
                raise LocalEntryNotFoundError("nothing here")
        elif self.folder is None:
            raise ConnectionError("Network is unreachable\nand more lines")
        return str(self.folder)


def test_a_hub_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(None, False).snapshot_download)
    with pytest.raises(HubUnavailableError) as caught:
        Reranker.from_pretrained(weights.M0)
    message = caught.value.message
    assert weights.M0 in message and "Network is unreachable" in message
    assert "\n" not in message and "give its path" in caught.value.hint
    assert "CC-BY-NC-4.0" in capsys.readouterr().err


def test_the_licence_is_shown_on_the_first_load_only(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for cached, repository, shown in [
        (False, weights.M0, True),
        (True, weights.M0, False),
        (False, "someone/else", False),
    ]:
        hub = Hub(checkpoint, cached)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
        assert Reranker.from_pretrained(repository, device="cpu").name == repository
        assert len(hub.asked) == (1 if cached else 2)
        assert all("*.safetensors" in asked["allow_patterns"] for asked in hub.asked)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert (weights.M0_LICENCE in captured.err) is shown


def test_a_hub_id_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sightrank\[hub\]'"):
        weights.locate(weights.M0)
