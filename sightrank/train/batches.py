"""Groups to batches: which pairs are scored together, encoded and packed. Torch tensors, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightrank.inputs.files import naming
from sightrank.inputs.images import ImagePatches, normalise
from sightrank.inputs.segments import Encoder, Segment
from sightrank.train.records import Candidate, Group


@dataclass(frozen=True)
class Tree:
    """A document's tokens and the queries asked of it, in numbers of tokens."""

    prefix: int
    suffixes: tuple[int, ...]
    rewinds: tuple[int, ...]
    """Of each suffix: how many tokens at the prefix's end it does not see, but replaces."""


@dataclass(frozen=True)
class Batch:
    """Trees packed for one pass: first every prefix, then every suffix, tree by tree."""

    ids: Tensor
    """(tokens,)"""
    positions: Tensor
    """(3, tokens)"""
    trees: tuple[Tree, ...]
    ends: Tensor
    """(pairs,): the last token of each suffix."""
    patches: Tensor | None
    """(patches, 588) of every distinct image, normalised."""
    grids: tuple[tuple[int, int], ...]
    visual_rows: Tensor
    """Of each image token in `ids`, the row of the vision tower's output."""
    rows: Tensor
    """(groups, documents): the pair that holds a group's document; 0 where `mask` is False."""
    mask: Tensor
    labels: Tensor
    teacher: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


def sample(group: Group, positives: int, negatives: int, rng: np.random.Generator) -> Group:
    """At most so many relevant and so many other documents of a group, drawn at random."""
    wanted: list[int] = []
    for limit, relevant in ((positives, True), (negatives, False)):
        own = [at for at, each in enumerate(group.candidates) if (each.label > 0) == relevant]
        drawn = rng.permutation(len(own))[:limit]
        wanted += [own[at] for at in drawn]
    return replace(group, candidates=tuple(group.candidates[at] for at in sorted(wanted)))


def share(groups: Sequence[Group], most: int) -> list[Group]:
    """Each group with up to `most` documents of the others as further irrelevant ones.

    Documents that a group has itself are not added again.
    """
    if not most:
        return list(groups)
    result = []
    for place, group in enumerate(groups):
        seen = {each.key for each in group.candidates}
        extra: list[Candidate] = []
        others = [*groups[place + 1 :], *groups[:place]]
        for each in (candidate for other in others for candidate in other.candidates):
            if len(extra) < most and each.key not in seen:
                seen.add(each.key)
                extra.append(replace(each, label=0.0, teacher=None))
        result.append(replace(group, candidates=(*group.candidates, *extra)))
    return result


def assemble(groups: Sequence[Group], encoder: Encoder) -> Batch:
    """Encode and pack groups; documents with equal keys are one tree. Raises InputError."""
    documents: dict[str, Segment] = {}
    asked: list[Segment] = []
    pairs: dict[tuple[str, int], Segment] = {}
    for place, group in enumerate(groups):
        with naming(group.name):
            query = encoder.query(group.query)
            asked.append(query)
            for each in group.candidates:
                if each.key not in documents:
                    documents[each.key] = encoder.document(each.document)
                pairs[each.key, place] = encoder.suffix(documents[each.key], query)
    rank = {key: at for at, key in enumerate(documents)}
    order = sorted(pairs, key=lambda pair: rank[pair[0]])  # stable: queries stay in order
    return _pack(groups, documents, {pair: pairs[pair] for pair in order})


def _pack(
    groups: Sequence[Group],
    documents: dict[str, Segment],
    pairs: dict[tuple[str, int], Segment],
) -> Batch:
    by_document: dict[str, list[Segment]] = {key: [] for key in documents}
    for (key, _), suffix in pairs.items():
        by_document[key].append(suffix)
    segments = [*documents.values(), *pairs.values()]
    images = [image for segment in segments for image in segment.images]
    patches, grids, visual_rows = _pictures(images)
    total = sum(map(len, documents.values()))
    row = {pair: at for at, pair in enumerate(pairs)}
    width = max(len(group.candidates) for group in groups)
    return Batch(
        ids=torch.from_numpy(np.concatenate([each.ids for each in segments])).long(),
        positions=torch.from_numpy(
            np.concatenate([each.positions for each in segments], axis=1)
        ).long(),
        trees=tuple(
            Tree(
                len(documents[key]),
                tuple(len(suffix) for suffix in suffixes),
                tuple(suffix.rewind for suffix in suffixes),
            )
            for key, suffixes in by_document.items()
        ),
        ends=torch.tensor([len(suffix) for suffix in pairs.values()]).cumsum(0) + total - 1,
        patches=patches,
        grids=grids,
        visual_rows=visual_rows,
        rows=_grid(
            [[row[each.key, at] for each in g.candidates] for at, g in enumerate(groups)], width
        ).long(),
        mask=_grid([[1.0] * len(group.candidates) for group in groups], width) > 0,
        labels=_grid([[each.label for each in group.candidates] for group in groups], width),
        teacher=_teacher(groups, width),
    )


def _grid(rows: Sequence[Sequence[float]], width: int) -> Tensor:
    """Rows padded with 0 at the right, (rows, width)."""
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=torch.float32)


def _teacher(groups: Sequence[Group], width: int) -> Tensor | None:
    scores = [[each.teacher for each in group.candidates] for group in groups]
    if any(score is None for row in scores for score in row):
        return None
    return _grid([[score or 0.0 for score in row] for row in scores], width)


def _pictures(
    images: Sequence[ImagePatches],
) -> tuple[Tensor | None, tuple[tuple[int, int], ...], Tensor]:
    """Patches and grids of the distinct images, and for each token of `images` its row of output."""
    distinct: dict[str, ImagePatches] = {}
    starts: dict[str, int] = {}
    used = 0
    for image in images:
        if image.digest not in distinct:
            distinct[image.digest], starts[image.digest] = image, used
            used += image.num_tokens
    rows = [np.arange(image.num_tokens) + starts[image.digest] for image in images]
    if not rows:
        return None, (), torch.empty(0, dtype=torch.long)
    patches = torch.from_numpy(np.concatenate([normalise(each) for each in distinct.values()]))
    grids = tuple(image.grid for image in distinct.values())
    return patches, grids, torch.from_numpy(np.concatenate(rows))
