"""Fits and intervals beside scikit-learn's and scipy's, and on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats
from sklearn.isotonic import IsotonicRegression

from sightrank.analysis.fits import fit_isotonic, fit_temperature, pooled, sigmoid
from sightrank.analysis.intervals import beta_cdf, exact_interval, share_by_query
from sightrank.analysis.reliability import diagram, reliability
from sightrank.errors import InputError

LOGITS = st.lists(
    st.tuples(st.integers(-6, 6).map(lambda n: n / 2), st.booleans()), min_size=2, max_size=60
)


@given(LOGITS)
def test_the_isotonic_curve_is_that_of_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    logits, relevant = np.array([x for x, _ in rows]), np.array([y for _, y in rows])
    theirs = IsotonicRegression(out_of_bounds="clip").fit(logits, relevant)
    at = np.linspace(-4, 4, 81)
    least = 1 / (len(rows) + 2)
    expected = np.clip(theirs.predict(at), least, 1 - least)
    np.testing.assert_allclose(fit_isotonic(logits, relevant).apply(at), expected, atol=1e-9)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.1, 9)), min_size=1, max_size=40))
def test_pooling_heeds_weights_as_scikit_learn_does(rows: list[tuple[float, float]]) -> None:
    values, weights = np.array(rows).T
    at = np.arange(len(rows))
    expected = IsotonicRegression().fit(at, values, weights).predict(at)
    np.testing.assert_allclose(pooled(values, weights), expected, atol=1e-9)


def simulated(count: int, temperature: float, bias: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    logits = random.normal(1, 4, count)
    return logits, random.random(count) < sigmoid((logits - bias) / temperature)


def test_a_known_temperature_and_bias_are_found_again() -> None:
    fit = fit_temperature(*simulated(100_000, 2.5, -1.5))
    assert fit.temperature == pytest.approx(2.5, rel=0.03)
    assert fit.bias == pytest.approx(-1.5, abs=0.06)


def test_no_other_temperature_is_likelier() -> None:
    logits, relevant = simulated(300, 0.7, 2)
    positives, negatives = relevant.sum(), (~relevant).sum()
    targets = np.where(relevant, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(x: np.ndarray) -> float:
        odds = (logits - x[1]) / np.exp(x[0])
        return float((np.logaddexp(0, odds) - targets * odds).sum())

    best = optimize.minimize(loss, np.zeros(2), method="Nelder-Mead", tol=1e-10).x
    fit = fit_temperature(logits, relevant)
    assert [np.log(fit.temperature), fit.bias] == pytest.approx(best.tolist(), abs=1e-3)


def test_separable_pairs_have_a_finite_fit() -> None:
    fit = fit_temperature(np.array([-2.0, -1, 1, 2]), np.array([False, False, True, True]))
    assert 0 < fit.temperature < 10 and abs(fit.bias) < 1e-6


@pytest.mark.parametrize("logits", [[3.0, 2, 1, 0], [1.0, 1, 1, 1]])
def test_a_model_that_ranks_backwards_is_refused(logits: list[float]) -> None:
    with pytest.raises(InputError, match="do not have higher logits"):
        fit_temperature(np.array(logits), np.array([False, False, True, True]))


@given(st.floats(0, 1), st.floats(0.05, 300), st.floats(0.05, 300))
def test_the_beta_function_is_scipys(x: float, a: float, b: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(float(special.betainc(a, b, x)), abs=1e-9)


@pytest.mark.parametrize(("hits", "total"), [(0, 10), (10, 10), (3, 10), (970, 1000), (1, 1)])
def test_the_exact_interval_is_scipys(hits: int, total: int) -> None:
    theirs = stats.binomtest(hits, total).proportion_ci(0.95, "exact")
    assert exact_interval(hits, total) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_pairs_of_one_query_count_as_one_where_they_agree() -> None:
    random = np.random.default_rng(0)
    right = random.random(40) < 0.7
    alone = share_by_query(right, np.arange(40))
    tenfold = share_by_query(np.repeat(right, 10), np.repeat(np.arange(40), 10))
    assert tenfold.total == 400 and tenfold.value == alone.value
    assert (tenfold.low, tenfold.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    spread = share_by_query(random.random(400) < 0.7, np.repeat(np.arange(40), 10))
    assert spread.high - spread.low < 0.7 * (tenfold.high - tenfold.low)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """1,000 samples of 60 queries whose pairs share a chance of their own; the truth is 0.9."""
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        chances = random.beta(4.5, 0.5, 60)
        queries = np.repeat(np.arange(60), random.integers(1, 9, 60))
        share = share_by_query(random.random(len(queries)) < chances[queries], queries)
        covered += share.low <= 0.9 <= share.high
    assert covered >= 930


def test_calibration_error_of_known_pairs() -> None:
    found = reliability(np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, True, True, True]))
    assert found.ece == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)
    assert [each.count for each in found.bins] == [2, 2]


def test_the_diagram_is_xml_with_a_dot_a_bin() -> None:
    from xml.etree import ElementTree

    found = reliability(np.array([0.1, 0.5, 1.0]), np.array([False, True, True]))
    drawn = ElementTree.fromstring(diagram({"a <b>": found}, 'x & "y"'))
    circles = drawn.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3 + 1  # and one in the key
    assert "a <b>: calibration error" in "".join(drawn.itertext())
