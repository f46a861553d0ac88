"""nDCG@10 of groups held out, their documents ranked by the model as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from sightrank.evaluate.metrics import average, measure
from sightrank.inputs.segments import Encoder
from sightrank.train.batches import assemble
from sightrank.train.records import Group


def ndcg(
    scorer: nn.Module,
    groups: Sequence[Group],
    encoder: Encoder,
    accelerator: Accelerator,
    most: int,
) -> float:
    """Mean nDCG@10; `most` documents run at once, and processes share the work.

    Grades are rounded up to whole numbers. Of equal scores the less relevant document counts as the
    better one, so a model that tells nothing apart has the worst value.
    """
    scores = _scores(scorer, groups, encoder, accelerator, most)
    grades, run = {}, {}
    for at, group in enumerate(groups):
        labels = [math.ceil(each.label) for each in group.candidates]
        grades[str(at)] = {str(place): label for place, label in enumerate(labels)}
        order = sorted(range(len(labels)), key=labels.__getitem__)
        run[str(at)] = {str(place): scores[at, place] for place in order}
    return average(measure(grades, run))["ndcg@10"]


def _scores(
    scorer: nn.Module,
    groups: Sequence[Group],
    encoder: Encoder,
    accelerator: Accelerator,
    most: int,
) -> dict[tuple[int, int], float]:
    """Logits by (group, document)."""
    pieces = [
        (at, places)
        for at, group in enumerate(groups)
        for places in _cut(len(group.candidates), most)
    ]
    found: list[tuple[tuple[int, int], float]] = []
    training = scorer.training
    scorer.eval()
    world, rank = accelerator.num_processes, accelerator.process_index
    with torch.no_grad():
        for start in range(0, len(pieces), world):
            # Shards are gathered by all together: whoever has no piece left runs the first again.
            mine = start + rank < len(pieces)
            at, places = pieces[start + rank if mine else 0]
            group = groups[at]
            part = replace(group, candidates=tuple(group.candidates[place] for place in places))
            batch = assemble([part], encoder).to(accelerator.device)
            logits = scorer(batch)[batch.rows[0]].tolist()
            if mine:
                found += [((at, place), value) for place, value in zip(places, logits, strict=True)]
    scorer.train(training)
    return dict(gather_object(found))


def _cut(count: int, most: int) -> list[range]:
    return [range(start, min(start + most, count)) for start in range(0, count, most)]
