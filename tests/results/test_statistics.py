from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from results.numbers.statistics import (
    mcnemar_exact,
    paired_bootstrap,
    resample_counts,
    resampled_accuracies,
    wilson_interval,
)


def test_wilson_solves_its_defining_equation() -> None:
    """Each end p is where |accuracy - p| equals z standard errors *at p*."""
    z = norm.ppf(0.975)
    for correct, n in [(0, 12), (3, 12), (842, 1319), (500, 500)]:
        interval = wilson_interval(correct, n)
        for p in (interval.low, interval.high):
            assert (correct / n - p) ** 2 == pytest.approx(z**2 * p * (1 - p) / n, abs=1e-9)


def test_wilson_is_monotone_between_whole_counts() -> None:
    ends = [wilson_interval(c, 40) for c in (7, 7.25, 7.5, 8)]
    assert all(a.low < b.low and a.high < b.high for a, b in pairwise(ends))


@pytest.mark.parametrize(("correct", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_impossible_counts(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="correct"):
        wilson_interval(correct, n)


def test_mcnemar_counts_only_discordant_pairs() -> None:
    first = [True] * 6 + [False] + [True] * 50 + [False] * 20
    second = [False] * 6 + [True] + [True] * 50 + [False] * 20
    # by hand: 6 and 1 are solved by one alone, 2 * P(at most 1 of 7) = 2 * (1 + 7) / 128
    assert mcnemar_exact(first, second) == mcnemar_exact(second, first) == pytest.approx(0.125)
    assert mcnemar_exact(first, first) == 1.0


def test_paired_bootstrap_agrees_with_theory_and_uses_the_pairing() -> None:
    rng = np.random.default_rng(5)
    second = rng.random(1000) < 0.6
    first = second.copy()
    first[:40] = True
    difference = first.astype(float) - second
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    interval = paired_bootstrap(first, second, seed=1)
    assert interval.low == pytest.approx(difference.mean() - half, abs=0.003)
    assert interval.high == pytest.approx(difference.mean() + half, abs=0.003)
    unpaired = paired_bootstrap(first, rng.permutation(second), seed=1)
    assert unpaired.high - unpaired.low > 3 * (interval.high - interval.low)
    assert paired_bootstrap(first, second, seed=1) == interval


def test_resamples_draw_n_problems() -> None:
    counts = resample_counts(37, 50, seed=0)
    assert (counts.sum(axis=1) == 37).all()
    assert resampled_accuracies(np.ones((2, 37)), counts) == pytest.approx(np.ones((2, 50)))


def test_unpaired_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same problems"):
        mcnemar_exact([True], [True, False])
