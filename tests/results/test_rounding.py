import numpy as np
import pandas as pd
import pytest

from results.numbers.matching import matched_size
from results.numbers.paper import BASELINES
from results.numbers.printed import PRINTED_PROBLEMS, printed_benchmarks
from results.numbers.rounding import (
    accuracy_cells,
    counts_printed_so,
    printed_reductions,
    reachable_sizes,
    reduction_follows,
)


@pytest.mark.parametrize("n", [164, 378, 1319, 5000])
def test_every_count_is_among_those_printed_like_it(n: int) -> None:
    counts = np.arange(n + 1)
    few, many = counts_printed_so(np.round(100 * counts / n, 1), n)
    assert ((few <= counts) & (counts <= many)).all()
    # one count a printed accuracy where a problem weighs more than the last digit, several where it weighs less
    assert ((few == many).all()) == (n < 1000)


def test_no_count_prints_as_an_impossible_accuracy() -> None:
    few, many = counts_printed_so([5.5, 5.2], 164)
    assert few[0] == many[0] == 9
    assert few[1] > many[1]


def admissible(
    cells: pd.DataFrame, row: int, rng: np.random.Generator
) -> tuple[dict[str, list[tuple[float, float]]], float]:
    """Baselines' (size, accuracy) and IMPACT's accuracy, each drawn from its cell; known equal counts stay equal."""
    own = cells[(cells["method"] == "impact") & (cells["row"] == row)].iloc[0]
    target = rng.uniform(own["least"], own["greatest"])
    accuracies = rng.uniform(cells["least"], cells["greatest"])
    accuracies[cells["count"] == own["count"]] = target
    drawn = cells.assign(size=cells["size"] + rng.uniform(-0.005, 0.005, len(cells)), accuracy=accuracies)
    points = {
        method: list(
            drawn.loc[drawn["method"].isin([method, "dense"]), ["size", "accuracy"]].itertuples(index=False, name=None)
        )
        for method in BASELINES
    }
    return points, float(target)


@pytest.mark.parametrize("number", [6, 7, 8, 9])
@pytest.mark.parametrize("counted", [False, True])
def test_no_numbers_that_print_so_leave_the_interval(number: int, counted: bool) -> None:
    rng = np.random.default_rng(number)
    for benchmark in printed_benchmarks(number):
        cells = accuracy_cells(number, benchmark, counted=counted)
        for row in range(1, 6):
            interval = reachable_sizes(cells, row, BASELINES)
            for _ in range(25):
                match = matched_size(*admissible(cells, row, rng))
                assert match is not None
                assert interval.low <= match.size <= interval.high


def one_baseline(sizes: list[float], accuracies: list[float], target: float, n: int | None = None) -> pd.DataFrame:
    """Cells of AFM's models and one IMPACT model; counts are known with ``n`` problems only."""
    values = np.array([*accuracies, target])
    return pd.DataFrame(
        {
            "method": ["afm"] * len(sizes) + ["impact"],
            "row": [*range(1, len(sizes) + 1), 1],
            "size": [*sizes, 0.5],
            "accuracy": values,
            "least": values - 0.05,
            "greatest": values + 0.05,
            "count": np.nan if n is None else np.round(values * n / 100),
        }
    )


def test_nothing_is_extrapolated() -> None:
    above = reachable_sizes(one_baseline([4.0, 1.0], [60.0, 30.0], 70.0), 1, ["afm"])
    assert np.isinf(above.low) and np.isinf(above.high)
    below = reachable_sizes(one_baseline([4.0, 1.0], [60.0, 30.0], 20.0), 1, ["afm"])
    assert np.isinf(below.low) and np.isinf(below.high)
    # a touch of the cells may or may not be a match
    perhaps = reachable_sizes(one_baseline([4.0, 1.0], [60.0, 30.0], 60.05), 1, ["afm"])
    assert perhaps.low == pytest.approx(4.0 - 0.005, abs=0.01) and np.isinf(perhaps.high)


def test_a_tie_is_certain_only_where_the_counts_are_known() -> None:
    """The smallest model ties: unknown counts may put it above the target, and then nothing matches before the rise."""
    sizes, accuracies = [4.0, 2.0, 1.0], [60.0, 10.0, 10.0]
    open_tie = reachable_sizes(one_baseline(sizes, accuracies, 10.0), 1, ["afm"])
    assert (open_tie.low, open_tie.high) == (pytest.approx(0.995), np.inf)
    exact_tie = reachable_sizes(one_baseline(sizes, accuracies, 10.0, n=150), 1, ["afm"])
    assert (exact_tie.low, exact_tie.high) == (pytest.approx(0.995), pytest.approx(1.005))


def test_fewer_methods_never_match_smaller() -> None:
    for row in range(5):
        every = printed_reductions(8, "mbpp", BASELINES)[row]
        for method in BASELINES:
            alone = printed_reductions(8, "mbpp", [method])[row]
            assert alone.match is not None and every.match is not None
            assert alone.match.size >= every.match.size
            assert alone.reductions.low <= alone.reduction_pct <= alone.reductions.high


def test_a_reduction_follows_from_sizes_that_print_so() -> None:
    # Table 10, GSM8K: 1 - 0.75/1.02 is 26.5, but 25.7 is printed, as 0.754/1.015 gives
    assert reduction_follows(0.75, 1.02, 25.7)
    assert not reduction_follows(0.75, 1.02, 25.2)
    assert not reduction_follows(0.84, 0.92, 23.1)


def test_problems_are_known_for_every_printed_benchmark() -> None:
    assert set(PRINTED_PROBLEMS) == {name for number in (6, 7, 8, 9) for name in printed_benchmarks(number)}
