"""Ranking losses: pure functions of logits and labels, one value a group.

A group is a query with its documents. `logits`, `labels` and `teacher` have shape (groups, documents);
`mask` of the same shape is True where a group has a document, the rest is padding that no loss looks
at. Every function returns (groups,): so a step's loss is a mean over groups, however they are split
over processes. A pair (i, j) is any two documents with label i > label j; a group without pairs, or
without a relevant document, gives 0 where the loss needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def bce(logits: Tensor, labels: Tensor, mask: Tensor, bias: float) -> Tensor:
    """Binary cross-entropy of sigmoid(logit - bias), the mean over a group's documents.

    Labels are targets in [0, 1]; higher grades count as 1.
    """
    each = F.binary_cross_entropy_with_logits(
        logits - bias, labels.clamp(0, 1).to(logits.dtype), reduction="none"
    )
    return _mean(each, mask)


def ranknet(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean over pairs of log(1 + exp(-(s_i - s_j))) (Burges et al. 2005, eq. 3 with target 1)."""
    return _mean(F.softplus(-_differences(logits)), _pairs(labels, mask))


def margin(logits: Tensor, labels: Tensor, mask: Tensor, margin: float) -> Tensor:
    """Mean over pairs of max(0, margin - (s_i - s_j)) (Herbrich et al. 1999, the hinge on ranks)."""
    return _mean(F.relu(margin - _differences(logits)), _pairs(labels, mask))


def listnet(logits: Tensor, labels: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between the top-one probabilities of labels and scores (Cao et al. 2007, eq. 6).

    The labels' are softmax(labels / temperature): the lower, the more of it lies on the best.
    """
    target = _log_softmax(labels.to(logits.dtype) / temperature, mask).exp()
    return -(target * _log_softmax(logits, mask).masked_fill(~mask, 0)).sum(dim=1)


def infonce(logits: Tensor, labels: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Mean over relevant documents of -log(e^s / (e^s + sum over irrelevant ones of e^s_j)).

    Scores are divided by the temperature (van den Oord et al. 2018, eq. 4; the negatives are the
    group's own).
    """
    scaled = logits / temperature
    relevant = mask & (labels > 0)
    lowest = torch.finfo(scaled.dtype).min  # not -inf: a group may have no negatives
    others = scaled.masked_fill(~mask | relevant, lowest).logsumexp(dim=1, keepdim=True)
    return _mean(F.softplus(others - scaled), relevant)


def margin_mse(logits: Tensor, labels: Tensor, mask: Tensor, teacher: Tensor) -> Tensor:
    """Mean over pairs of ((s_i - s_j) - (t_i - t_j))^2 (Hofstätter et al. 2020, eq. 3)."""
    off = _differences(logits) - _differences(teacher.to(logits.dtype))
    return _mean(off.square(), _pairs(labels, mask))


def kl(logits: Tensor, mask: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of softmax(. / temperature) over a group, times temperature^2.

    The factor keeps gradients of one size at all temperatures (Hinton et al. 2015, section 2.1).
    """
    target = _log_softmax(teacher.to(logits.dtype) / temperature, mask)
    off = (target - _log_softmax(logits / temperature, mask)).masked_fill(~mask, 0)
    return (target.exp() * off).sum(dim=1) * temperature**2


@dataclass(frozen=True)
class Groups:
    """What a loss is computed of, each (groups, documents); `teacher` only where it is needed."""

    logits: Tensor
    labels: Tensor
    mask: Tensor
    teacher: Tensor | None = None


@dataclass(frozen=True)
class Settings:
    """The numbers in the losses."""

    bias: float
    margin: float
    temperature: float


Loss = Callable[[Groups, Settings], Tensor]


def losses() -> dict[str, Loss]:
    """Every loss by its name in a configuration."""
    return {
        "bce": lambda g, s: bce(g.logits, g.labels, g.mask, s.bias),
        "ranknet": lambda g, _: ranknet(g.logits, g.labels, g.mask),
        "margin": lambda g, s: margin(g.logits, g.labels, g.mask, s.margin),
        "listnet": lambda g, s: listnet(g.logits, g.labels, g.mask, s.temperature),
        "infonce": lambda g, s: infonce(g.logits, g.labels, g.mask, s.temperature),
        "margin-mse": lambda g, _: margin_mse(g.logits, g.labels, g.mask, _teacher(g)),
        "kl": lambda g, s: kl(g.logits, g.mask, _teacher(g), s.temperature),
    }


def _teacher(groups: Groups) -> Tensor:
    assert groups.teacher is not None  # checked when the data were
    return groups.teacher


def _differences(scores: Tensor) -> Tensor:
    """(groups, documents) -> (groups, i, j): s_i - s_j."""
    return scores[:, :, None] - scores[:, None, :]


def _pairs(labels: Tensor, mask: Tensor) -> Tensor:
    """(groups, i, j), True where document i should stand before document j."""
    return (_differences(labels) > 0) & mask[:, :, None] & mask[:, None, :]


def _log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).log_softmax(dim=1)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values of each group, 0 where there are none: (groups,)."""
    total = torch.where(chosen, values, 0).flatten(1).sum(dim=1)
    return total / chosen.flatten(1).sum(dim=1).clamp_min(1)
