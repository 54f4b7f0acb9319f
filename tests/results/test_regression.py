"""Paired tests between two runs: exact, by problem, blind to nothing of the stated size and quiet without a change."""

from collections.abc import Callable, Iterable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from results.measured.cells import BenchmarkResult, Cell
from results.numbers.statistics import mcnemar_exact, wilson_interval
from results.regression.comparison import (
    ALPHA,
    MINIMUM_DROP,
    PAPER_TOLERANCE,
    Pairs,
    beside_paper,
    compare,
    holm,
    match,
    paired_by_method,
    recovery_p_value,
    worse_p_value,
)
from results.regression.power import IntArray, as_seed, detectable_drop, planted_drop, seed_spread, seeds_of

MakeCells = Callable[..., list[Cell]]
METHODS = ("dense", "svd", "afm", "impact")


def integers(values: Iterable[int]) -> IntArray:
    return np.array([*values], dtype=np.int64)


def signs(clusters: int) -> IntArray:
    """Every exchange of clusters between two runs, (2^clusters, clusters)."""
    return np.array([*product((-1, 1), repeat=clusters)], dtype=np.int64)


def drawn(template: list[Cell], draw: int) -> list[Cell]:
    """A run of models that never change: a problem's difficulty stays, its luck in this run is shared by all models."""
    rng = np.random.default_rng(draw)
    hard = np.random.default_rng(99)
    hardness = {name: hard.normal(scale=2, size=result.n) for name, result in template[0].benchmarks.items()}
    luck = {name: rng.normal(scale=0.5, size=len(values)) for name, values in hardness.items()}
    cells = []
    for cell in template:
        results = {}
        for name, result in cell.benchmarks.items():
            share = np.clip(np.mean(result.correct), 0.02, 0.98)
            chances = expit(2 * logit(share) + hardness[name] + luck[name])
            results[name] = BenchmarkResult(n=result.n, correct=(rng.random(result.n) < chances).tolist())
        cells.append(cell.model_copy(update={"benchmarks": results}))
    return cells


def planted(cells: list[Cell], method: str, lost: int, seed: int) -> list[Cell]:
    return planted_drop({6: cells}, method, lost, np.random.default_rng(seed))[6]


@pytest.fixture
def template(table6_cells: MakeCells) -> list[Cell]:
    """Some methods of the invented run on 300 problems a benchmark."""
    return [cell for cell in table6_cells(n=300) if cell.method in METHODS]


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=60))
def test_with_one_mark_a_problem_it_is_mcnemars_test(differences: list[int]) -> None:
    d = integers(differences)
    two_sided = min(1.0, 2 * min(worse_p_value(d), worse_p_value(-d)))
    assert two_sided == pytest.approx(mcnemar_exact(d < 0, d > 0))


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_it_counts_every_exchange_of_whole_clusters(differences: list[int]) -> None:
    d = integers(differences)
    assert worse_p_value(d) == pytest.approx(np.mean(signs(len(d)) @ np.abs(d) <= d.sum()))


def test_rows_that_repeat_a_problem_add_no_evidence() -> None:
    d = integers([-1] * 30 + [1] * 12 + [0] * 100)
    assert worse_p_value(5 * d) == pytest.approx(worse_p_value(d))
    assert worse_p_value(np.repeat(d, 5)) < worse_p_value(d) / 1000


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4), min_size=1, max_size=7))
def test_the_linear_form_has_the_sign_of_the_recoverys_change(clusters: list[tuple[int, int, int, int]]) -> None:
    before, after, dense_before, dense_after = np.array(clusters).T
    form = (after - before) * (dense_before + dense_after).sum() - (dense_after - dense_before) * (before + after).sum()
    for exchange in signs(len(clusters)):
        kept = exchange > 0
        old, new = np.where(kept, before, after).sum(), np.where(kept, after, before).sum()
        old_dense = np.where(kept, dense_before, dense_after).sum()
        new_dense = np.where(kept, dense_after, dense_before).sum()
        assert np.sign(exchange @ form) == np.sign(int(new * old_dense - old * new_dense))


def test_recovery_of_an_unmoved_dense_model_is_the_accuracy_again() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    dense = rng.integers(0, 2, 300)
    for old, new in ((before, after), (after, before)):
        exact = worse_p_value(new - old)
        sampled = recovery_p_value(Pairs(old, new, dense, dense, marks=900, flipped=0))
        assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 4999) + 4e-4)


def test_a_method_that_falls_with_its_dense_model_keeps_its_recovery(template: list[Cell]) -> None:
    cells = drawn(template, 0)
    worse = {method: 0.8 for method in METHODS}
    fallen = cells
    for method, share in worse.items():
        solved = sum(sum(r.correct) for c in cells if c.method == method for r in c.benchmarks.values())
        fallen = planted(fallen, method, round((1 - share) * solved), seed=1)
    found = compare({6: cells}, {6: fallen})
    failed = {line.split(" fell")[0] for line in found.failures}
    assert failed == {f"{method}: accuracy" for method in METHODS}


def test_holm_steps_down() -> None:
    """The three hypotheses of Holm's procedure by hand: 3 x .01, then 2 x .02, and the last is no smaller than that."""
    assert holm({"a": 0.03, "b": 0.01, "c": 0.02}) == pytest.approx({"b": 0.03, "c": 0.04, "a": 0.04})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_ten_unchanged_seeds_are_quiet(template: list[Cell]) -> None:
    reference = drawn(template, 0)
    for seed in range(1, 11):
        found = compare({6: reference}, {6: drawn(template, seed)})
        assert all(change.flipped > 0.05 * change.marks for change in found.changes)
        assert found.failures == []


def test_p_values_of_unchanged_runs_are_no_smaller_than_chance(template: list[Cell]) -> None:
    """Marks of one problem turn together here, and taking them for independent would find a change in many runs."""
    one = [cell for cell in template if cell.method == "impact"]
    p_values = []
    for draw in range(400):
        reference, run = {6: drawn(one, 2 * draw)}, {6: drawn(one, 2 * draw + 1)}
        (pairs,) = paired_by_method(match(reference, run)[0], reference, run).values()
        p_values.append(worse_p_value(pairs.after - pairs.before))
    # four standard deviations of a share of 400
    for level in (0.01, 0.05, 0.25):
        assert np.mean(np.array(p_values) <= level) < level + 4 * np.sqrt(level * (1 - level) / 400)


@pytest.mark.parametrize("method", ("dense", "impact"))
def test_a_drop_of_the_detectable_size_is_found(
    template: list[Cell], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 200 unchanged runs with that many marks lost in one method; a fresh reference each, for it has luck too."""
    # half of the time, for what is not looked at here
    monkeypatch.setattr("results.regression.comparison.recovery_p_value", lambda pairs: 1.0)

    def change(reference: list[Cell], run: list[Cell]) -> tuple[float | None, int, list[str]]:
        found = compare({6: reference}, {6: run})
        (own,) = [change for change in found.changes if change.method == method]
        return own.detectable, own.marks, found.failures

    detectable, marks, _ = change(drawn(template, 1001), drawn(template, 1000))
    assert detectable is not None and MINIMUM_DROP < detectable < 20
    lost = round(detectable / 100 * marks)
    caught, others = 0, 0
    for draw in range(200):
        run = planted(drawn(template, 2 * draw + 1), method, lost, seed=draw)
        _, _, failures = change(drawn(template, 2 * draw), run)
        caught += any(line.startswith(f"{method}: accuracy") for line in failures)
        others += any(not line.startswith(f"{method}:") and " accuracy " in line for line in failures)
    assert caught >= 190
    assert others <= 6


def test_more_problems_find_smaller_drops() -> None:
    drops = [
        detectable_drop(np.full(n, 3), 5 * n, churn=0.4 * n, variance=0.0, minimum=0.0, level=ALPHA / 7)
        for n in (100, 400, 1600)
    ]
    assert None not in drops and drops == sorted(drops, reverse=True)


def test_what_solves_almost_nothing_cannot_fall_far_enough() -> None:
    assert detectable_drop(integers([1] * 20 + [0] * 480), 1000, 10.0, 0.0, MINIMUM_DROP, ALPHA / 7) is None


def test_below_the_minimum_nothing_fails_however_sure(template: list[Cell]) -> None:
    cells = drawn(template, 0)
    marks = sum(result.n for cell in cells if cell.method == "impact" for result in cell.benchmarks.values())
    allowed = int(MINIMUM_DROP / 100 * marks)
    for lost, fails in ((allowed, False), (allowed + 1, True)):
        found = compare({6: cells}, {6: planted(cells, "impact", lost, seed=0)})
        (impact,) = [change for change in found.changes if change.method == "impact"]
        assert impact.accuracy.p_value < ALPHA and impact.flipped == lost
        assert any(line.startswith("impact: accuracy") for line in found.failures) is fails


def test_the_second_run_is_better_and_nothing_fails(template: list[Cell]) -> None:
    cells = drawn(template, 0)
    assert compare({6: planted(cells, "impact", 600, seed=0)}, {6: cells}).failures == []


def test_seeds_of_the_reference_widen_what_is_allowed(table6_cells: MakeCells) -> None:
    """In the invented run a seed is better than the one before by a point everywhere."""
    cells = [cell for cell in table6_cells(n=1000, seeds=(0, 1, 2)) if cell.method == "impact"]
    one = [cell for cell in cells if cell.seed == 0]
    p = np.mean([result.correct for cell in cells for result in cell.benchmarks.values()])
    assert seed_spread({6: cells}) == pytest.approx((0.01 / np.sqrt(p * (1 - p)), 2), rel=0.05)
    # a table with one seed says nothing of the spread, and does not hide it either
    assert seed_spread({6: cells, 7: one}) == seed_spread({6: cells})
    assert seed_spread({6: one}) == (0, 1)
    allowed = {len(c): compare({6: c}, {6: one}).changes[0].accuracy.minimum for c in (one, cells)}
    assert allowed[len(one)] == MINIMUM_DROP < allowed[len(cells)]


def test_methods_that_move_as_one_have_one_methods_degrees_of_freedom(template: list[Cell]) -> None:
    def several(luck: Callable[[str, int], int]) -> list[Cell]:
        return [
            cell.model_copy(update={"seed": seed, "method": method})
            for method in ("impact", "svd", "afm", "asvd", "fwsvd")
            for seed in range(8)
            for cell in drawn([c for c in template if c.method == "impact"], luck(method, seed))
        ]

    together, alone = (
        seed_spread({6: several(luck)}) for luck in (lambda _, seed: seed, lambda method, seed: seed + 8 * len(method))
    )
    assert together[1] == pytest.approx(7)
    assert 2 * together[1] < alone[1] < 5 * 7
    assert together[0] == pytest.approx(alone[0], rel=0.5)


def test_a_seed_stands_as_a_run_of_its_own(table6_cells: MakeCells) -> None:
    several = [cell for cell in table6_cells(seeds=(0, 1, 2)) if cell.method != "dense" or cell.seed == 0]
    third = as_seed({6: several}, 2, 0)
    assert seeds_of(third) == [0]
    alone = {(c.method, c.row): c.benchmarks for c in several if c.seed == 2 or c.method == "dense"}
    assert {(c.method, c.row): c.benchmarks for c in third[6]} == alone


def test_two_tables_on_the_same_problems_share_their_clusters(template: list[Cell]) -> None:
    first, second = drawn(template, 0), drawn(template, 1)
    one = compare({6: first}, {6: second}).changes[-1]
    two = compare({6: first, 7: first}, {6: second, 7: second}).changes[-1]
    assert (two.problems, two.marks) == (one.problems, 2 * one.marks)
    assert two.accuracy.p_value == pytest.approx(one.accuracy.p_value)


def test_what_is_missing_or_measured_otherwise_fails(template: list[Cell]) -> None:
    without = [cell for cell in template if (cell.method, cell.row) not in {("impact", 2), ("svd", 1)}]
    (line,) = compare({6: template}, {6: without}).failures
    assert line == "Table 6: not measured, and in the reference: svd row 1; impact row 2"
    changed = [c.model_copy(update={"eta": 0.5}) if c.method == "impact" else c for c in template]
    (line,) = compare({6: template}, {6: changed}).failures
    assert "other settings" in line and "impact rows 1, 2, 3, 4, 5" in line
    assert "Table 7" in compare({6: template, 7: template}, {6: template}).failures[0]


def test_absolute_scores_and_sizes_only_warn(template: list[Cell]) -> None:
    cells = drawn(template, 0)
    (most,) = [cell for cell in cells if (cell.method, cell.row) == ("impact", 1)]
    worse = planted([most], "impact", 50, seed=0)[0].model_copy(update={"parameters": 1234})
    found = compare({6: cells}, {6: [worse if cell is most else cell for cell in cells]})
    assert found.failures == []
    size, score = found.warnings
    assert "impact row 1: 1,234 parameters" in size
    assert score.startswith("impact: ") and "Table 6 row 1 on " in score


def test_the_paper_is_beside_where_intervals_and_tolerance_reach_it(table6_cells: MakeCells) -> None:
    """The invented run is the printed one, moved for one point."""
    assert beside_paper(6, table6_cells(), "invented") == ""
    n, printed = 500, 65.3
    half = 100 * (wilson_interval(round(n * printed / 100), n).high) - printed
    moved = table6_cells(shift={("impact", 1): half + PAPER_TOLERANCE + 2})
    line = beside_paper(6, moved, "invented")
    assert ": 2 of " in line and "impact row 1 on " in line
    assert beside_paper(6, table6_cells(shift={("impact", 1): half}), "invented") == ""


def test_what_the_paper_does_not_print_has_nothing_to_stand_beside(table6_cells: MakeCells) -> None:
    cells = table6_cells(shift={("impact", row): 20.0 for row in range(1, 6)})
    assert beside_paper("eta_by_k", cells, "invented") == beside_paper(15, cells, "invented") == ""
    # a benchmark that is not printed, beside printed ones and alone
    more = [
        cell.model_copy(update={"benchmarks": {**cell.benchmarks, "svamp": cell.benchmarks["math"]}}) for cell in cells
    ]
    assert beside_paper(6, more, "invented") == beside_paper(6, cells, "invented") != ""
    alone = [cell.model_copy(update={"benchmarks": {"svamp": cell.benchmarks["svamp"]}}) for cell in more]
    assert beside_paper(6, alone, "invented") == ""


def test_a_table_without_a_number_is_held_by_its_name(template: list[Cell]) -> None:
    cells = drawn(template, 0)
    worse = planted(cells, "impact", 600, seed=0)
    named = compare({"eta_by_k": cells, 6: cells}, {"eta_by_k": worse, 6: cells})
    assert named.changes == compare({7: cells, 6: cells}, {7: worse, 6: cells}).changes
    assert "Table eta_by_k is in the reference" in compare({"eta_by_k": cells, 6: cells}, {6: cells}).failures[0]


def test_of_a_method_that_solves_little_half_is_missed(template: list[Cell]) -> None:
    """All of it may be less than the points that another method may lose."""
    weak = [cell for cell in template if cell.method == "dense" or (cell.method, cell.row) == ("svd", 5)]
    cells = drawn(weak, 0)
    solved = sum(sum(result.correct) for cell in cells if cell.method == "svd" for result in cell.benchmarks.values())
    marks = sum(result.n for cell in cells if cell.method == "svd" for result in cell.benchmarks.values())
    assert 50 * solved / marks < MINIMUM_DROP
    for lost, fails in ((solved // 2, False), (solved // 2 + 1, True)):
        failures = compare({6: cells}, {6: planted(cells, "svd", lost, seed=0)}).failures
        assert any(line.startswith("svd: accuracy") for line in failures) is fails
