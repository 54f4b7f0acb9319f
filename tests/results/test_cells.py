import pytest
from pydantic import ValidationError

from results.measured.cells import BenchmarkResult, Cell, grouped_by_point


def cell(**changes: object) -> Cell:
    fields: dict[str, object] = {
        "method": "impact",
        "row": 3,
        "keep_pct": 50.0,
        "rank_rule": "nuclear",
        "eta": 0.25,
        "seed": 0,
        "parameters": 400_000,
        "dense_parameters": 1_000_000,
        "ppl_before_sft": {"gsm8k": 30.0},
        "ppl_after_sft": {"gsm8k": 3.0},
        "benchmarks": {"gsm8k": {"n": 2, "correct": [True, False]}},
        "runs": {"evaluate": "abc"},
    }
    return Cell.model_validate(fields | changes)


def test_a_cell_survives_json() -> None:
    infinite = cell(ppl_before_sft={"gsm8k": float("inf")})
    assert Cell.model_validate_json(infinite.model_dump_json()) == infinite


@pytest.mark.parametrize(
    "changes",
    [
        {"metod": "svd"},
        {"method": "dense"},
        {"row": 0},
        {"parameters": 0},
        {"ppl_after_sft": {"gsm8k": 0.0}},
        {"benchmarks": {"gsm8k": {"n": 3, "correct": [True]}}},
    ],
)
def test_a_wrong_cell_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        cell(**changes)


def test_grouping_orders_seeds() -> None:
    groups = grouped_by_point([cell(seed=2), cell(seed=1), cell(method="svd")])
    assert [c.seed for c in groups["impact", 3]] == [1, 2]
    assert len(groups["svd", 3]) == 1


def test_a_row_measured_with_two_eta_is_two_points() -> None:
    groups = grouped_by_point([cell(), cell(eta=0.5), cell(seed=1, eta=0.5), cell(row=4)])
    assert [(point, len(group)) for point, group in groups.items()] == [
        (("impact eta 0.25", 3), 1),
        (("impact eta 0.5", 3), 2),
        (("impact", 4), 1),
    ]


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({}, "two cells with seed"),
        ({"seed": 1, "keep_pct": 60.0}, "keep_pct"),
        ({"method": "svd", "benchmarks": {"gsm8k": BenchmarkResult(n=1, correct=[True])}}, "same problems"),
    ],
)
def test_cells_that_do_not_belong_together_are_refused(other: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        grouped_by_point([cell(), cell(**other)])
