from collections.abc import Callable

import pytest

from results.measured.cells import Cell
from results.numbers.paper import BASELINES
from results.statements.run import Run
from results.statements.sentences import STATEMENTS
from results.statements.verdicts import Verdict
from results.statements.verdicts import verdicts as verdicts_below

MakeCells = Callable[..., list[Cell]]
BENCHMARKS = ["gsm8k", "math"]


def judge(cells: list[Cell], number: int, benchmarks: list[str]) -> list[Verdict]:
    return verdicts_below(number, Run({number: cells}), benchmarks)


def verdicts(cells: list[Cell]) -> dict[tuple[str, str | None], Verdict]:
    return {(v.id, v.benchmark): v for v in judge(cells, 6, BENCHMARKS)}


def test_what_the_printed_numbers_say(table6_cells: MakeCells) -> None:
    """The largest reductions are 54.9 and 31.9 % at rounded accuracies; "over 40 %" has the minimum 39.7 % on MATH."""
    found = verdicts(table6_cells())
    assert "54.9 %" in found["largest_reduction", "gsm8k"].printed
    assert "31.9 %" in found["largest_reduction", "math"].printed
    assert "39.7 %" in found["reduction_everywhere", "math"].printed
    assert "20 of 20" in found["outperforms", "gsm8k"].printed
    assert "85.9 to 91.5 %" in found["smaller_at_same_k", None].printed


def test_clear_differences_hold(table6_cells: MakeCells) -> None:
    up = {("impact", row): 25.0 for row in range(1, 6)}
    found = verdicts(table6_cells(shift=up))
    assert found["outperforms", "gsm8k"].verdict == "holds"
    assert found["outperforms", "math"].verdict == "holds"
    # better than the dense model: no baseline matches, the reduction is known from below only
    reduction = found["largest_reduction", "gsm8k"]
    assert reduction.verdict == "holds"
    assert reduction.figures["lower_pct"] == pytest.approx(100 * (1 - 0.75 / 6.74), abs=0.1)
    assert reduction.figures["upper_pct"] == 100
    assert "at least" in reduction.explanation


def test_clear_differences_are_refuted(table6_cells: MakeCells) -> None:
    found = verdicts(table6_cells(shift={("impact", row): -15.0 for row in range(1, 6)}))
    assert found["outperforms", "gsm8k"].verdict == "does not hold"
    assert found["largest_reduction", "gsm8k"].verdict == "does not hold"
    assert found["reduction_everywhere", "gsm8k"].verdict == "does not hold"
    # sizes are untouched
    assert found["smaller_at_same_k", None].verdict == "holds"


def test_one_bad_row_is_enough_against_all_rows(table6_cells: MakeCells) -> None:
    found = verdicts(table6_cells(shift={("impact", 2): -20.0}))
    assert found["outperforms", "gsm8k"].verdict == "does not hold"
    assert "row 2" in found["outperforms", "gsm8k"].explanation


def test_few_problems_cannot_tell(table6_cells: MakeCells) -> None:
    found = verdicts(table6_cells(n=24, nested=False))
    assert found["outperforms", "gsm8k"].verdict == "cannot be told apart"
    assert found["largest_reduction", "gsm8k"].verdict == "cannot be told apart"


def test_equal_methods_are_not_declared_worse(table6_cells: MakeCells) -> None:
    """20 comparisons at 95 % each would often find one below zero; the simultaneous band must not."""
    cells = table6_cells()
    own = {c.row: c for c in cells if c.method == "impact"}
    copies = [
        c.model_copy(update={"parameters": own[c.row].parameters, "benchmarks": own[c.row].benchmarks})
        if c.method in BASELINES
        else c
        for c in cells
    ]
    found = verdicts(copies)
    assert found["outperforms", "gsm8k"].verdict == "cannot be told apart"
    assert found["outperforms", "gsm8k"].figures["smallest_difference_points"] == 0
    assert found["smaller_at_same_k", None].verdict == "does not hold"


def test_a_model_larger_than_the_dense_one_can_only_refute(table6_cells: MakeCells) -> None:
    cells = [
        c.model_copy(update={"parameters": 1_200_000}) if (c.method, c.row) == ("impact", 1) else c
        for c in table6_cells(shift={("impact", row): 25.0 for row in range(1, 6)})
    ]
    assert verdicts(cells)["outperforms", "gsm8k"].verdict == "cannot be told apart"


def test_less_accurate_than_larger_models_settles_nothing(table6_cells: MakeCells) -> None:
    shift = {("impact", row): 25.0 for row in range(1, 5)} | {("impact", 5): -15.0}
    cells = [
        c.model_copy(update={"parameters": 1_000}) if (c.method, c.row) == ("impact", 5) else c
        for c in table6_cells(shift=shift)
    ]
    found = verdicts(cells)["outperforms", "gsm8k"]
    assert found.verdict == "cannot be told apart"
    assert "smallest model, which is larger than row 5" in found.explanation


@pytest.mark.parametrize("lost", [("impact", 3), ("svd", 1), ("dense", 0)])
def test_incomplete_evidence_is_not_measured(table6_cells: MakeCells, lost: tuple[str, int]) -> None:
    found = verdicts([c for c in table6_cells() if (c.method, c.row) != lost])
    for key in (("outperforms", "gsm8k"), ("largest_reduction", "math"), ("reduction_everywhere", "gsm8k")):
        assert found[key].verdict == "not measured"
        assert lost[0] in found[key].explanation
        assert not found[key].figures
    assert (found["smaller_at_same_k", None].verdict == "not measured") == (lost[0] == "impact")


def test_no_cells_no_verdicts() -> None:
    assert {v.verdict for number in (6, 7) for v in judge([], number, BENCHMARKS)} == {"not measured"}


def test_seeds_do_not_narrow_the_intervals(table6_cells: MakeCells) -> None:
    """Further seeds with the same answers are no further problems: not a figure may change."""
    cells = table6_cells()
    repeated = [cell.model_copy(update={"seed": seed}) for cell in cells for seed in (0, 1, 2)]
    one, three = verdicts(cells), verdicts(repeated)
    for key, verdict in one.items():
        assert three[key].figures == pytest.approx(verdict.figures)


def test_the_bootstrap_is_repeatable(table6_cells: MakeCells) -> None:
    cells = table6_cells(n=500)
    assert judge(cells, 6, BENCHMARKS) == judge(cells, 6, BENCHMARKS)


@pytest.mark.parametrize(
    ("number", "benchmarks", "statements"),
    [
        (7, ["gsm8k", "math"], {"outperforms", "largest_reduction", "reduction_above_2.5x"}),
        (8, ["humaneval", "mbpp"], {"outperforms", "largest_reduction"}),
        (9, ["humaneval", "mbpp"], {"outperforms", "largest_reduction"}),
    ],
)
def test_the_other_tables_are_judged(
    table6_cells: MakeCells, number: int, benchmarks: list[str], statements: set[str]
) -> None:
    better = table6_cells(number=number, shift={("impact", row): 30.0 for row in range(1, 6)})
    worse = table6_cells(number=number, shift={("impact", row): -30.0 for row in range(1, 6)})
    for cells, outcome in ((better, "holds"), (worse, "does not hold")):
        found = judge(cells, number, benchmarks)
        assert {(v.id, v.benchmark) for v in found} == {(s, b) for s in statements for b in benchmarks}
        assert {v.verdict for v in found} == {outcome}


def test_a_ratio_limits_which_models_are_spoken_of(table6_cells: MakeCells) -> None:
    """IMPACT's first model is 1.5 times smaller than the dense one: the sentence is about those above 2.5 times."""
    moved = {("impact", 1): -15.0} | {("impact", row): 15.0 for row in range(2, 6)}
    found = {v.id: v for v in judge(table6_cells(n=1000, number=7, shift=moved), 7, ["math"])}
    assert found["reduction_above_2.5x"].verdict == "holds"
    assert found["outperforms"].verdict == "does not hold"


def test_smaller_and_less_accurate_settles_nothing(table6_cells: MakeCells) -> None:
    """Table 8, HumanEval: ASVD has no printed model as small as IMPACT's last, which is less accurate."""
    (found,) = [v for v in judge(table6_cells(number=8), 8, ["humaneval"]) if v.id == "outperforms"]
    assert found.printed_verdict == "cannot be derived"
    assert "asvd (row 5)" in found.printed


@pytest.mark.parametrize(
    ("n", "nested", "lifted", "outcome"),
    [
        (1000, True, "afm", "holds"),
        (24, False, "afm", "cannot be told apart"),
        (1000, True, "asvd", "does not hold"),
    ],
)
def test_the_best_baseline_of_every_row(
    table6_cells: MakeCells, n: int, nested: bool, lifted: str, outcome: str
) -> None:
    cells = table6_cells(n=n, nested=nested, shift={(lifted, row): 1.0 for row in range(1, 6)})
    (strongest,) = [said for said in STATEMENTS if said.name == "table6-strongest_baseline"]
    assert strongest.judge(Run({6: cells}, resamples=500), "math").verdict == outcome
