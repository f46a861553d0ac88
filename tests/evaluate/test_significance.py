"""The paired randomisation test against all permutations, another implementation and its own claims."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import permutation_test

from sightrank.evaluate.significance import compare


def test_few_queries_are_tested_by_every_permutation() -> None:
    ours, theirs = [0.9, 0.4, 0.5, 0.7, 0.3], [0.5, 0.5, 0.5, 0.1, 0.0]
    differences = np.subtract(ours, theirs)
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=5)]
    result = compare(ours, theirs)
    assert result.p == np.mean([value >= abs(differences.sum()) - 1e-12 for value in sums])
    assert (result.wins, result.losses, result.ties) == (3, 1, 1)
    assert result.difference == pytest.approx(0.24)
    assert result.exact
    assert result.permutations == 2**4  # the tied query has no sign


def test_many_queries_agree_with_scipy() -> None:
    random = np.random.default_rng(5)
    ours = random.random(60)
    theirs = ours - random.normal(0.03, 0.12, 60)
    result = compare(ours.tolist(), theirs.tolist(), permutations=20_000, seed=1)
    reference = permutation_test(
        (ours, theirs),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=np.random.default_rng(2),
    )
    assert not result.exact
    assert result.permutations == 20_000
    # Two draws of 20,000: three standard deviations of a share near 0.1 are 0.009.
    assert result.p == pytest.approx(reference.pvalue, abs=0.009)


def test_the_sign_of_the_difference_does_not_matter_and_the_seed_decides_all() -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.random(40).tolist(), random.random(40).tolist()
    there, back = compare(ours, theirs, seed=3), compare(theirs, ours, seed=3)
    assert there.p == back.p
    assert there.difference == -back.difference
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert compare(ours, theirs, seed=3) == there
    assert compare(ours, theirs, seed=4).p != there.p


def test_equal_systems_differ_by_nothing() -> None:
    result = compare([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert (result.p, result.wins, result.losses, result.ties) == (1.0, 0, 0, 3)
    assert compare([], []).p == 1


def test_p_is_never_zero_where_permutations_are_drawn() -> None:
    assert compare([1.0] * 50, [0.0] * 50, permutations=99).p == pytest.approx(0.01)


def test_chance_alone_is_called_significant_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    values = [
        compare(random.normal(size=30).tolist(), [0.0] * 30, permutations=199, seed=number).p
        for number in range(400)
    ]
    # 20 of 400 on average, with a standard deviation of 4.4.
    assert 5 <= sum(p <= 0.05 for p in values) <= 36
