"""Losses against values computed by hand, and their gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from sightrank.train.losses import Groups, Settings, losses

SETTINGS = Settings(bias=2.65, margin=1.0, temperature=0.5)
NAMES = sorted(losses())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(values: list[float]) -> list[float]:
    total = sum(map(math.exp, values))
    return [math.exp(value) / total for value in values]


LOGITS, LABELS, TEACHER = [2.0, 0.5, -1.0], [1.0, 0.0, 0.0], [3.0, 1.0, 0.5]


def by_hand() -> dict[str, float]:
    """One relevant document, two others, written out."""
    odds = [logit - 2.65 for logit in LOGITS]
    target, own = softmax([2.0, 0.0, 0.0]), softmax(LOGITS)
    cold_target = softmax([6.0, 2.0, 1.0])
    cold = softmax([4.0, 1.0, -2.0])
    return {
        "bce": -(
            math.log(sigmoid(odds[0]))
            + math.log(1 - sigmoid(odds[1]))
            + math.log(1 - sigmoid(odds[2]))
        )
        / 3,
        "ranknet": (math.log(1 + math.exp(-1.5)) + math.log(1 + math.exp(-3.0))) / 2,
        "margin": 0.0,
        "listnet": -sum(t * math.log(p) for t, p in zip(target, own, strict=True)),
        "infonce": -math.log(cold[0]),
        "margin-mse": ((1.5 - 2.0) ** 2 + (3.0 - 2.5) ** 2) / 2,
        "kl": 0.25 * sum(t * math.log(t / p) for t, p in zip(cold_target, cold, strict=True)),
    }


def groups(logits: Tensor) -> Groups:
    """Three groups: the one above, one with two relevant documents and grades, and a short one."""
    labels = torch.tensor([[1.0, 0, 0], [2, 1, 0], [1, 0, 0]], dtype=logits.dtype)
    mask = torch.tensor([[True, True, True], [True, True, True], [True, True, False]])
    teacher = torch.tensor([TEACHER, [0.0, 1.0, 2.0], [1.0, 0.0, 9.0]], dtype=logits.dtype)
    return Groups(logits, labels, mask, teacher)


@pytest.mark.parametrize("name", NAMES)
def test_value_of_a_group_is_the_one_by_hand(name: str) -> None:
    logits = torch.tensor([LOGITS, [0.1, 0.2, 0.3], [1.0, 2.0, 99.0]], dtype=torch.float64)
    found = losses()[name](groups(logits), SETTINGS)
    assert found.shape == (3,)
    assert found[0].item() == pytest.approx(by_hand()[name], abs=1e-12)


def test_margin_counts_what_falls_short() -> None:
    logits = torch.tensor([LOGITS, [0.1, 0.2, 0.3], [1.0, 2.0, 99.0]], dtype=torch.float64)
    found = losses()["margin"](groups(logits), SETTINGS)
    # pairs of the second group: (0, 1), (0, 2), (1, 2), of the third: (0, 1)
    assert found.tolist() == pytest.approx([0.0, (1.1 + 1.2 + 1.1) / 3, 2.0])


def test_infonce_of_two_relevant_documents_sets_each_against_the_negatives() -> None:
    logits = torch.tensor([LOGITS, [0.1, 0.2, 0.3], [1.0, 2.0, 99.0]], dtype=torch.float64)
    found = losses()["infonce"](groups(logits), SETTINGS)
    first, second = -math.log(softmax([0.2, 0.6])[0]), -math.log(softmax([0.4, 0.6])[0])
    assert found[1].item() == pytest.approx((first + second) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: losses()[name](groups(x), SETTINGS), (logits,))


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name: str) -> None:
    torch.manual_seed(1)
    logits = torch.randn(3, 3, dtype=torch.float64)
    other = logits.clone()
    other[2, 2] = 1e6
    one, two = (losses()[name](groups(each), SETTINGS) for each in (logits, other))
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_a_group_of_relevant_documents_alone_gives_numbers(name: str) -> None:
    logits = torch.tensor([[3.0, -2.0]], requires_grad=True)
    ones = torch.ones(1, 2)
    loss = losses()[name](Groups(logits, ones, ones > 0, ones), SETTINGS)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss).all() and logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    if name in ("ranknet", "margin", "margin-mse", "infonce"):
        assert loss.item() == 0


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_scores_of_any_size_give_numbers(name: str) -> None:
    logits = torch.tensor([[60.0, -60.0, 0.0]] * 3, requires_grad=True)
    loss = losses()[name](groups(logits), SETTINGS)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss).all() and logits.grad is not None
    assert torch.isfinite(logits.grad).all()
