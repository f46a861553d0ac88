"""What a loss has to find in every group."""

from __future__ import annotations

from sightrank.train.data import Needs
from sightrank.train.records import Group
from sightrank.train.settings import DISTILLING, Settings

BOTH = ("ranknet", "margin", "infonce", "margin-mse")
"""Losses of relevant documents against others."""


def needs(settings: Settings | None) -> Needs:
    """A test of groups for these settings; None: for validation."""
    name = None if settings is None else settings.loss.name
    borrowed = settings is not None and settings.data.in_batch > 0

    def complaint(group: Group) -> str | None:
        if name in DISTILLING and any(each.teacher is None for each in group.candidates):
            return f"the loss {name} needs scores"
        if name not in ("bce", "kl") and not group.num_relevant:
            return "no document is relevant: none has a label above 0"
        if name in BOTH and not borrowed and group.num_relevant == len(group.candidates):
            return f"the loss {name} needs documents that are not relevant"
        return None

    return complaint
