"""Batches in the order in which steps take them, the same for any number of processes and workers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sightrank.inputs.segments import Encoder
from sightrank.train.batches import Batch, assemble, sample, share
from sightrank.train.data import ordered, stream
from sightrank.train.records import Group
from sightrank.train.settings import Settings


class Feed(IterableDataset[Batch]):
    """Every `step`-th batch of the training stream from batch number `first` on, without end."""

    def __init__(self, settings: Settings, encoder: Encoder, first: int, step: int) -> None:
        super().__init__()
        self.settings, self.encoder, self.first, self.step = settings, encoder, first, step

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        start, step = self.first + number * self.step, self.step * workers
        # Groups that others take, or that were taken before, are parsed and passed over: this is
        # what makes the stream one and the same for all.
        for groups in islice(self._batches(), start, None, step):
            yield assemble(share(groups, self.settings.data.in_batch), self.encoder)

    def _batches(self) -> Iterator[list[Group]]:
        data, seed = self.settings.data, self.settings.train.seed
        groups = stream([Path(name) for name in data.train], seed, data.shuffle)
        for number in count():
            rng = np.random.default_rng((seed, 1, number))
            chosen = islice(groups, self.settings.train.groups)
            yield [sample(group, data.positives, data.negatives, rng) for group in chosen]


def feed(settings: Settings, encoder: Encoder, first: int, step: int) -> Iterator[Batch]:
    """Batches number first, first + step, ... of the training stream."""
    workers = settings.data.workers
    loader = DataLoader(
        Feed(settings, encoder, first, step),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=False,
    )
    return iter(loader)


def validation(settings: Settings) -> Iterator[Group]:
    """All groups to validate on, in order, whole."""
    return ordered([Path(name) for name in settings.data.valid])


def seed_dropout(settings: Settings, number: int) -> None:
    """Make the chance inside the model depend on the batch's number alone."""
    torch.manual_seed(
        int(np.random.SeedSequence((settings.train.seed, 2, number)).generate_state(1)[0])
    )
