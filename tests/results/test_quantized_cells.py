import pytest
from pydantic import ValidationError

from results.measured.quantized_cells import QuantizedCell, grouped_by_model


def cell(**changes: object) -> QuantizedCell:
    fields: dict[str, object] = {
        "model": "7b", "method": "impact", "row": 3, "keep": 40.0, "rank_rule": "nuclear", "eta": 0.25, "bits": 8,
        "scheme": "llm.int8", "gauge": "as trained", "seed": 0, "parameters": 400_000, "dense_parameters": 1_000_000,
        "nominal_bytes": 400_000, "file_bytes": 500_000, "memory_bytes": 600_000, "perplexity": {"gsm8k": 3.0},
        "unquantized_perplexity": {},
        "benchmarks": {"gsm8k": {"n": 2, "correct": "10"}}, "unquantized": {"gsm8k": {"n": 2, "correct": "11"}},
        "runs": {"quantize": "abc"},
    }  # fmt: skip
    return QuantizedCell.model_validate(fields | changes)


def test_a_cell_survives_json() -> None:
    infinite = cell(perplexity={"gsm8k": float("inf")})
    assert QuantizedCell.model_validate_json(infinite.model_dump_json()) == infinite


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metod": "afm"}, "metod"),
        ({"model": ""}, "model"),
        ({"bits": 6}, "not of 6"),
        ({"method": "dense"}, "row 0 is for dense alone"),
        ({"row": 0}, "row 0 is for dense alone"),
        ({"nominal_bytes": 0}, "nominal_bytes"),
        ({"perplexity": {"gsm8k": 0.0}}, "perplexity"),
        ({"unquantized": {"gsm8k": {"n": 1, "correct": "1"}}}, "same problems"),
    ],
)
def test_a_wrong_cell_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        cell(**changes)


def test_groups_are_by_model_too() -> None:
    groups = grouped_by_model([cell(seed=2), cell(seed=1), cell(model="13b")])
    assert [c.seed for c in groups["7b", "impact", 3]] == [1, 2]
    assert len(groups["13b", "impact", 3]) == 1


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({}, "7b impact row 3 has two cells with seed 0"),
        ({"seed": 1, "gauge": "balanced"}, "disagree in gauge"),
        ({"seed": 1, "scheme": "int8 weight-only"}, "disagree in scheme"),
        ({"seed": 1, "keep": 50.0}, "disagree in keep"),
        ({"model": "13b", "benchmarks": {"gsm8k": {"n": 1, "correct": "1"}}, "unquantized": {}}, "same problems"),
    ],
)
def test_cells_that_do_not_belong_together_are_refused(other: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        grouped_by_model([cell(), cell(**other)])
