"""Probabilities that mean what they say: fitted to labelled pairs, kept for one model in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sightrank._version import VERSION
from sightrank.analysis.fits import FITS, Fit, Isotonic, Temperature, sigmoid
from sightrank.analysis.reliability import Reliability, reliability
from sightrank.analysis.thresholds import Goal, Labelled, Threshold, choose, measure
from sightrank.errors import InputError, OptionError, OtherModelError

FORMAT = 1
FOLDS = 5
WANTED: tuple[tuple[Goal, float], ...] = (
    ("precision", 0.8),
    ("precision", 0.9),
    ("precision", 0.95),
    ("recall", 0.9),
    ("recall", 0.95),
)


@dataclass(frozen=True)
class Calibration:
    """A fit with the model it belongs to: `load` one, `apply` it to that model's logits."""

    facts: Mapping[str, Any]
    """Model and settings by name, as `Reranker.facts`."""
    method: str
    """The fit that is applied: "temperature" or "isotonic"."""
    fits: Mapping[str, Fit]
    report: Mapping[str, Any]
    """What was measured on held-out queries, as JSON; see `Calibrated.to_dict`."""

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote. Raises InputError for any other file."""
        place = Path(path)
        hint = f"Make one: sightrank calibrate LABELS.jsonl --to {place}"
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(
                    f"its format is {content['format']!r}, this version reads {FORMAT}"
                )
            fits: dict[str, Fit] = {
                "temperature": Temperature(**content["temperature"]),
                "isotonic": _isotonic(content["isotonic"]),
            }
            if content["method"] not in fits:
                raise ValueError(f"its method is {content['method']!r}")
            return cls(dict(content["facts"]), content["method"], fits, dict(content["report"]))
        except OSError as error:
            raise InputError(f"{place} cannot be read: {error.strerror}.", hint) from None
        except (ValueError, KeyError, TypeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{place} is no calibration: {what}.", hint) from None

    def save(self, path: str | Path) -> None:
        """Write it as JSON; the file appears whole or not at all. Raises OptionError."""
        place = Path(path)
        content = {
            "format": FORMAT,
            "sightrank": VERSION,
            "facts": dict(self.facts),
            "method": self.method,
            **{name: asdict(fit) for name, fit in self.fits.items()},
            "report": dict(self.report),
        }
        part = place.with_name(place.name + ".part")
        try:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            part.replace(place)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OptionError(
                f"{place} cannot be written: {error.strerror}.",
                "Name a file in a folder that exists and is yours to change.",
            ) from None

    @overload
    def apply(self, logits: float) -> float: ...
    @overload
    def apply(self, logits: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]: ...
    def apply(
        self, logits: float | Sequence[float] | NDArray[np.float64]
    ) -> float | NDArray[np.float64]:
        """The probability of being relevant, of a logit or of any array of them."""
        array = np.asarray(logits, np.float64)
        found = self.fits[self.method].apply(array)
        return found if array.ndim else float(found)

    def check(self, facts: Mapping[str, Any]) -> None:
        """Raise OtherModelError unless it was fitted for this model and these settings."""
        differing = [
            f"{name} {_short(self.facts.get(name))} there, {_short(value)} here"
            for name, value in _plain(facts).items()
            if name != "model" and self.facts.get(name) != value
        ]
        if differing:
            raise OtherModelError(
                f"The calibration was fitted to {self.facts.get('model')}; asked for is"
                f" {facts.get('model')}: {', '.join(differing)}.",
                "Calibrate this model: its logits mean something else.",
            )


def _isotonic(given: Mapping[str, Any]) -> Isotonic:
    logits, probabilities = np.asarray(given["logits"]), np.asarray(given["probabilities"])
    if logits.shape != probabilities.shape or logits.ndim != 1 or not len(logits):
        raise ValueError("its knots do not pair up")
    if (np.diff(logits) <= 0).any() or (np.diff(probabilities) < 0).any():
        raise ValueError("its knots do not rise")
    knots = tuple(logits.tolist()), tuple(probabilities.tolist())
    return Isotonic(*knots, int(given["num_pairs"]))


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they come back from JSON: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(facts)))
    return plain


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text


@dataclass(frozen=True)
class Calibrated:
    """A calibration and what it does on the half of the queries that it was not fitted to."""

    calibration: Calibration
    fitted: Labelled
    held_out: Labelled
    reliabilities: Mapping[str, Reliability]
    """"before", and by fit."""
    thresholds: tuple[Threshold, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report, as JSON."""
        return {
            "method": self.calibration.method,
            "fitted": _size(self.fitted),
            "held_out": _size(self.held_out),
            **{name: found.to_dict() for name, found in self.reliabilities.items()},
            "thresholds": [each.to_dict() for each in self.thresholds],
        }


def calibrate(
    facts: Mapping[str, Any],
    pairs: Labelled,
    *,
    logit_bias: float,
    method: str | None = None,
    wanted: Sequence[tuple[Goal, float]] = WANTED,
    keys: Sequence[str] | None = None,
) -> Calibrated:
    """Fit on half of the queries, choose thresholds there, and measure both on the other half.

    `method` None takes the fit of the lower log loss in cross-validation on the first half.
    `logit_bias` is the model's own: scores before calibration are sigmoid(logit - bias). `keys`
    name the queries by number: a query is in the same half whatever the others are.
    Raises InputError, OptionError.
    """
    if method is not None and method not in FITS:
        raise OptionError(f"method is {method!r}.", f"Allowed: {', '.join(FITS)}.")
    fitted, held_out = halves(pairs, keys)
    fits = {name: fit(fitted.logits, fitted.relevant) for name, fit in FITS.items()}
    chosen = method or best_method(fitted)
    found = {"before": sigmoid(held_out.logits - logit_bias)}
    found |= {name: fit.apply(held_out.logits) for name, fit in fits.items()}
    inside = fits[chosen].apply(fitted.logits)
    thresholds = tuple(
        measure(goal, share, choose(goal, share, inside, fitted), found[chosen], held_out)
        for goal, share in wanted
    )
    reliabilities = {name: reliability(p, held_out.relevant) for name, p in found.items()}
    calibration = Calibration(_plain(facts), chosen, fits, {})
    result = Calibrated(calibration, fitted, held_out, reliabilities, thresholds)
    complete = Calibration(calibration.facts, chosen, fits, result.to_dict())
    return Calibrated(complete, fitted, held_out, reliabilities, thresholds)


def halves(pairs: Labelled, keys: Sequence[str] | None = None) -> tuple[Labelled, Labelled]:
    """Two halves of the queries, chosen by a digest of their keys. Raises InputError.

    Each must hold relevant pairs and others.
    """
    from hashlib import sha256

    numbers = np.unique(pairs.queries).tolist()
    named = {number: str(number if keys is None else keys[number]) for number in numbers}
    order = sorted(numbers, key=lambda number: sha256(named[number].encode()).digest())
    first = np.isin(pairs.queries, order[: (len(order) + 1) // 2])
    for half in (pairs[first], pairs[~first]):
        if len(np.unique(half.relevant)) < 2:
            raise InputError(
                f"{len(order)} queries and {len(pairs)} pairs are too few: of each half of the"
                " queries some pairs must be relevant and some not.",
                "Label more queries, and for each also documents that are not relevant.",
            )
    return pairs[first], pairs[~first]


def best_method(pairs: Labelled) -> str:
    """The fit whose log loss is lower on queries left out in turn; few queries: the temperature."""
    numbers = np.unique(pairs.queries)
    if len(numbers) < 2 * FOLDS:
        return "temperature"
    losses = dict.fromkeys(FITS, 0.0)
    for fold in range(FOLDS):
        out = np.isin(pairs.queries, numbers[fold::FOLDS])
        inside, outside = pairs[~out], pairs[out]
        if len(np.unique(inside.relevant)) < 2:
            return "temperature"
        for name, fit in FITS.items():
            p = fit(inside.logits, inside.relevant).apply(outside.logits)
            losses[name] += reliability(p, outside.relevant).log_loss * len(outside)
    return min(losses, key=lambda name: losses[name])


def _size(pairs: Labelled) -> dict[str, int]:
    return {
        "queries": len(np.unique(pairs.queries)),
        "pairs": len(pairs),
        "relevant": int(pairs.relevant.sum()),
    }
