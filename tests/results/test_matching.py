import numpy as np
import pytest

from results.numbers.matching import Match, matched_size, size_bounds_at_accuracy, sizes_at_accuracy, values_at_size


def test_footnote_2() -> None:
    curve = {"a": [(10.0, 60.0), (4.0, 50.0), (2.0, 50.0), (1.0, 10.0)]}
    assert matched_size(curve, 50.0) == Match("a", 2.0), "an exact tie takes the point's size, the smallest of several"
    assert matched_size(curve, 55.0) == Match("a", 7.0)
    assert matched_size(curve, 20.0) == Match("a", 1.25)
    assert matched_size(curve, 60.1) is None and matched_size(curve, 9.9) is None, "nothing is extrapolated"
    assert matched_size(curve | {"b": [(10.0, 60.0), (3.0, 55.0)]}, 55.0) == Match("b", 3.0)
    # not monotone: 40 is crossed three times, the smallest crossing counts
    assert matched_size({"a": [(4.0, 80.0), (3.0, 20.0), (2.0, 60.0), (1.0, 0.0)]}, 30.0) == Match("a", 1.5)


def test_resamples_are_matched_one_by_one() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.permutation(np.arange(1.0, 7.0))
    accuracies, target = rng.integers(0, 8, (6, 200)) / 1.0, rng.integers(0, 8, 200) / 1.0
    together = sizes_at_accuracy(sizes, accuracies, target)
    for column, size in enumerate(together):
        alone = matched_size({"a": list(zip(sizes, accuracies[:, column], strict=True))}, target[column])
        assert np.isnan(size) if alone is None else size == alone.size
    low, high = size_bounds_at_accuracy(sizes, accuracies, target)
    matched = ~np.isnan(together)
    assert 0 < matched.sum() < 200
    assert (low[matched] == together[matched]).all() and (high[matched] == together[matched]).all()
    above = target > accuracies.max(axis=0)
    assert above.any() and (low[above] == 6).all() and np.isinf(high[above]).all()
    below = target < accuracies.min(axis=0)
    assert below.any() and (low[below] == 0).all() and (high[below] == 1).all()


def test_accuracy_at_a_size() -> None:
    sizes, accuracies = np.array([10.0, 1.0, 4.0]), np.array([[60.0, 6.0], [0.0, 0.0], [30.0, 3.0]])
    assert values_at_size(sizes, accuracies, 7.0) == pytest.approx([45.0, 4.5])
    assert values_at_size(sizes, accuracies, 2.0) == pytest.approx([10.0, 1.0])
    assert list(values_at_size(sizes, accuracies, 4.0)) == [30.0, 3.0]
    for outside in (0.9, 10.1):
        with pytest.raises(ValueError, match="outside"):
            values_at_size(sizes, accuracies, outside)
