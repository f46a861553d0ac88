"""From logits to probabilities: a temperature with a bias, and an isotonic curve. numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import InputError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
STEPS, PRECISE = 100, 1e-10


@dataclass(frozen=True)
class Temperature:
    """probability = sigmoid((logit - bias) / temperature)."""

    temperature: float
    bias: float

    def apply(self, logits: Floats) -> Floats:
        """Probabilities of any shape of logits."""
        return sigmoid((logits - self.bias) / self.temperature)


@dataclass(frozen=True)
class Isotonic:
    """A rising curve through (logit, probability) knots: straight between them, level beyond."""

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]
    num_pairs: int
    """Pairs it was fitted to. No probability is nearer to 0 or 1 than 1 / (num_pairs + 2): what has
    been seen to be always so has not been seen to be certain (Laplace's rule of succession)."""

    def apply(self, logits: Floats) -> Floats:
        """Probabilities of any shape of logits."""
        least = 1 / (self.num_pairs + 2)
        curve = np.interp(logits, self.logits, self.probabilities)
        return np.clip(curve, least, 1 - least)


Fit = Temperature | Isotonic


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    share: Floats = np.where(x >= 0, 1, small) / (1 + small)
    return share


def fit_temperature(logits: Floats, relevant: Bools) -> Temperature:
    """Maximum likelihood by Newton's method, with Platt's targets (Platt 1999).

    The targets, (n + 1) / (n + 2) and 1 / (n + 2) in place of 1 and 0, keep the fit finite where
    the two kinds do not overlap. Raises InputError where logits do not rise with relevance.
    """
    positives = int(relevant.sum())
    negatives = len(relevant) - positives
    targets = np.where(relevant, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    middle, spread = logits.mean(), max(logits.std(), 1e-12)
    x = (logits - middle) / spread  # so that the two unknowns are of one size
    slope, offset = _newton(x, targets)
    if not slope > 0:
        raise InputError(
            "Relevant pairs do not have higher logits than the others.",
            "Check the labels; a model that orders them no better than chance cannot be calibrated.",
        )
    temperature = float(spread / slope)
    return Temperature(temperature, float(middle - offset * temperature))


def _newton(x: Floats, targets: Floats) -> tuple[float, float]:
    """Slope and offset of the logistic curve nearest to `targets`, the step halved if it overshoots."""
    design = np.stack((x, np.ones_like(x)), axis=1)  # (pairs, 2)
    weights = np.zeros(2)
    loss = _loss(design @ weights, targets)
    for _ in range(STEPS):
        found = sigmoid(design @ weights)
        gradient = design.T @ (found - targets)
        curvature = (design * (found * (1 - found))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (new := _loss(design @ (weights - size * step), targets)) > loss and size > 1e-8:
            size /= 2
        weights, gained, loss = weights - size * step, loss - new, new
        if gained < PRECISE * len(x):
            break
    return float(weights[0]), float(weights[1])


def _loss(odds: Floats, targets: Floats) -> float:
    return float((np.logaddexp(0, odds) - targets * odds).sum())


def fit_isotonic(logits: Floats, relevant: Bools) -> Isotonic:
    """The rising curve of least squares, by pooling adjacent violators (Ayer et al. 1955)."""
    levels, counts = np.unique(logits, return_counts=True)
    at = np.searchsorted(levels, logits)
    means = np.bincount(at, relevant.astype(np.float64)) / counts
    fitted = pooled(means, counts.astype(np.float64))
    kept = np.ones(len(levels), np.bool_)  # the middle of a level run says nothing
    kept[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return Isotonic(tuple(levels[kept].tolist()), tuple(fitted[kept].tolist()), len(logits))


def pooled(values: Floats, weights: Floats) -> Floats:
    """The rising sequence nearest to `values` in weighted least squares, in linear time."""
    means: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        length = 1
        while means and means[-1] >= value:
            mass = masses.pop()
            value = (means.pop() * mass + value * weight) / (mass + weight)
            weight += mass
            length += lengths.pop()
        means.append(value)
        masses.append(weight)
        lengths.append(length)
    return np.repeat(means, lengths)


FITS: dict[str, Callable[[Floats, Bools], Fit]] = {
    "temperature": fit_temperature,
    "isotonic": fit_isotonic,
}
