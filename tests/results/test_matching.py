import numpy as np
import pytest

from results.matching import Match, accuracies_at_size, matched_size, size_bounds_at_accuracy, sizes_at_accuracy
from results.printed import printed_table

# METHODS.md 12: what footnote 2 gives on the printed, rounded accuracies, and the interval of sizes that is reachable
# when every printed number moves within its rounding.
RECOMPUTED = [
    (10, "gsm8k", 1, "afm", 5.787, 5.695, 5.878),
    (10, "gsm8k", 2, "afm", 5.093, 5.002, 5.185),
    (10, "gsm8k", 3, "afm", 3.707, 3.615, 3.798),
    (10, "gsm8k", 4, "afm", 1.689, 1.668, 1.710),
    (10, "gsm8k", 5, "afm", 1.010, 0.999, 1.021),
    (10, "math", 1, "afm", 4.187, 3.899, 4.476),
    (10, "math", 2, "afm", 3.524, 3.423, 3.625),
    (10, "math", 3, "afm", 1.762, 1.710, 1.813),
    (10, "math", 4, "afm", 1.715, 1.664, 1.767),
    (10, "math", 5, "afm", 1.060, 1.044, 1.075),
    (11, "gsm8k", 1, "afm", 8.961, 8.861, 9.062),
    (11, "gsm8k", 2, "afm", 8.101, 8.001, 8.202),
    (11, "gsm8k", 3, "afm", 3.710, 3.681, 3.740),
    (11, "gsm8k", 4, "afm", 2.690, 2.660, 2.719),
    (11, "gsm8k", 5, "afm", 2.166, 2.154, 2.179),
    (11, "math", 1, "afm", 10.412, 10.147, 10.678),
    (11, "math", 2, "afm", 6.942, 6.758, 7.127),
    (11, "math", 3, "afm", 5.509, 5.325, 5.693),
    (11, "math", 4, "afm", 3.595, 3.518, 3.671),
    (11, "math", 5, "afm", 2.238, 2.201, 2.275),
    (12, "humaneval", 1, "afm", 4.160, 4.133, 4.188),
    (12, "humaneval", 2, "afm", 3.090, 3.070, 3.111),
    (12, "humaneval", 3, "afm", 2.507, 2.489, 2.525),
    (12, "humaneval", 4, "fwsvd", 1.652, 1.641, 1.663),
    (12, "mbpp", 1, "asvd", 4.072, 4.058, 4.086),
    (12, "mbpp", 2, "afm", 3.818, 3.784, 3.852),
    (12, "mbpp", 3, "afm", 2.021, 2.012, 2.030),
    (12, "mbpp", 4, "afm", 1.469, 1.460, 1.478),
    (12, "mbpp", 5, "afm", 1.065, 1.056, 1.073),
    (13, "humaneval", 1, "afm", 11.258, 11.217, 11.300),
    (13, "humaneval", 2, "afm", 5.373, 5.357, 5.389),
    (13, "humaneval", 3, "afm", 3.851, 3.828, 3.874),
    (13, "humaneval", 4, "fwsvd", 2.719, 2.691, 2.748),
    (13, "humaneval", 5, "afm", 2.030, 2.013, 2.046),
    (13, "mbpp", 1, "afm", 11.559, 11.449, 11.668),
    (13, "mbpp", 2, "afm", 5.450, 5.426, 5.505),
    (13, "mbpp", 3, "svd", 4.321, 4.308, 4.334),
    (13, "mbpp", 4, "afm", 2.790, 2.775, 2.805),
    (13, "mbpp", 5, "afm", 2.310, 2.297, 2.323),
]


def match_printed(number: int, benchmark: str, row: int) -> Match | None:
    """Footnote 2 on the printed accuracy table behind reduction table ``number``."""
    table = printed_table(number - 4)
    column = f"{benchmark}_acc"
    baselines = {
        method: list(
            table.loc[table["method"].isin([method, "dense"]), ["model_size_b", column]].itertuples(
                index=False, name=None
            )
        )
        for method in ("svd", "fwsvd", "asvd", "afm")
    }
    own = table[(table["method"] == "impact") & (table["row"] == row)]
    return matched_size(baselines, own[column].item())


def printed_match(number: int, benchmark: str, row: int) -> float:
    table = printed_table(number)
    return float(table.loc[table["benchmark"] == benchmark, "baseline_size_b"].iloc[row])


@pytest.mark.parametrize(("number", "benchmark", "row", "method", "size", "low", "high"), RECOMPUTED)
def test_the_rule_gives_tables_10_to_13(
    number: int, benchmark: str, row: int, method: str, size: float, low: float, high: float
) -> None:
    match = match_printed(number, benchmark, row)
    assert match is not None
    assert match.method == method
    assert match.size == pytest.approx(size, abs=0.0011)
    # the printed size is itself rounded to 0.01
    assert low - 0.005 <= printed_match(number, benchmark, row) <= high + 0.005


def test_the_one_printed_match_that_the_rule_does_not_give() -> None:
    """Table 12, HumanEval, 0.84B: 4.9 % is AFM's at 0.92B exactly; the paper's 1.09B is FWSVD's interpolation."""
    assert match_printed(12, "humaneval", 5) == Match("afm", 0.92)
    assert printed_match(12, "humaneval", 5) == 1.09


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
    assert accuracies_at_size(sizes, accuracies, 7.0) == pytest.approx([45.0, 4.5])
    assert accuracies_at_size(sizes, accuracies, 2.0) == pytest.approx([10.0, 1.0])
    assert list(accuracies_at_size(sizes, accuracies, 4.0)) == [30.0, 3.0]
    for outside in (0.9, 10.1):
        with pytest.raises(ValueError, match="outside"):
            accuracies_at_size(sizes, accuracies, outside)
