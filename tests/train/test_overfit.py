"""A tiny random model learns fifty groups by heart, by each loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightrank.train.loop import train
from sightrank.train.settings import LOSSES
from tests.train.runs import quiet, settings, write_groups

FASTER = {"margin-mse": 3e-3}


@pytest.mark.parametrize("loss", LOSSES)
def test_fifty_groups_are_learned_by_heart(tmp_path: Path, checkpoint: Path, loss: str) -> None:
    write_groups(tmp_path / "train.jsonl", 50)
    config = settings(
        tmp_path,
        checkpoint,
        loss={"name": loss, "temperature": 0.5 if loss == "listnet" else 1.0},
        lora={"rank": 8, "alpha": 16, "dropout": 0.0},
        train={
            "steps": 60,
            "groups": 25,
            "accumulate": 1,
            "learning_rate": FASTER.get(loss, 1e-2),
            "head_learning_rate": FASTER.get(loss, 1e-2),
            "save_every": 1000,
            "validate_every": 60,
        },
        head={"steps": 0},
    )
    assert train(config, quiet).ndcg == 1.0
