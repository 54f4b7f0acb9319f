"""Tables 1 to 3: what is planned, what is shared with the accuracy tables, and one run to its end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.settings import load_preset
from experiments.tables.accuracy import plan_table
from experiments.tables.declared import load_quantized_table, load_table
from experiments.tables.gauge import plan_gauge
from experiments.tables.quantized import plan_quantization
from experiments.tables.target import Selection
from results.numbers.printed import printed_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", (1, 2))
def test_the_rows_are_the_printed_ones(number: int) -> None:
    plan = plan_quantization(load_quantized_table(f"table{number}"), load_preset("paper"), Selection())
    printed = printed_table(number)
    assert {(cell.method, cell.row) for cell in plan.cells} == set(zip(printed.method, printed.row, strict=True))
    of_table = printed_table(number + 5).set_index(["method", "row"]).model_size_b
    for method, row, size in zip(printed.method, printed.row, printed.model_size_gb, strict=True):
        if method in plan.declared.rows:
            assert of_table[method, plan.declared.rows[method][row]] == size


def test_low_rank_models_are_those_of_the_accuracy_table() -> None:
    """Once Table 6's runs exist, only pruning, quantizing and measuring are left."""
    preset = load_preset("tiny")
    made = {job.key for job in plan_table(load_table("table6"), preset, Selection()).jobs}
    plan = plan_quantization(load_quantized_table("table1"), preset, Selection())
    new = {job.stage.name for job in plan.jobs if job.key not in made and "flap" not in job.label}
    # FLAP's statistic
    assert new == {"profile", "quantize", "perplexity", "evaluate", "judge"}


def test_qlora_starts_where_the_preset_says() -> None:
    for name, stage in (("tiny", "finetune"), ("paper", "base")):
        plan = plan_quantization(load_quantized_table("table3"), load_preset(name), Selection())
        starts = {cell.jobs["quantize"].inputs["model"].stage.name for cell in plan.cells if cell.method == "qlora"}
        assert starts == {stage}


def test_table_3_holds_both_models_and_figure_6_only_its_own() -> None:
    preset = load_preset("tiny")
    both = plan_quantization(load_quantized_table("table3"), preset, Selection())
    assert [(cell.table.model, cell.method) for cell in both.cells] == [
        *(("7b", "quantized"), ("7b", "qlora"), ("13b", "quantized"), ("13b", "qlora")),
    ]
    beside = plan_quantization(load_quantized_table("table1"), preset, Selection()).beside
    assert beside is not None
    assert {cell.table.model for cell in beside.cells} == {"7b"}
    assert {job.key for job in beside.jobs} <= {job.key for job in both.jobs}


@pytest.mark.parametrize(
    ("selection", "message"),
    (
        (Selection(methods=("flop",)), "did you mean 'flap'"),
        (Selection(models=("70b",)), "unknown model of table 1 '70b'"),
        (Selection(rows=(5,)), "has no row 5 in table 1"),
    ),
)
def test_what_is_not_in_the_table_is_refused(selection: Selection, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_quantization(load_quantized_table("table1"), load_preset("tiny"), selection)


def test_tables_1_and_3_end_to_end(tmp_path: Path) -> None:
    places = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    figure6 = ["figure6", "--methods", "impact,flap", "--rows", "3"]

    def call(*order: str) -> str:
        started = [sys.executable, "-m", "experiments", *order, "--preset", "smoke", *places]
        ended = subprocess.run(started, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert "to run" in call(*figure6)
    cells = json.loads((tmp_path / "results" / "table1.json").read_text())["quantized_cells"]
    assert [(cell["method"], cell["row"], cell["bits"]) for cell in cells] == [
        *(("dense", 0, 8), ("impact", 3, 8), ("flap", 3, 8)),
    ]
    dense, impact, flap = cells
    assert dense["nominal_bytes"] == dense["parameters"] == dense["dense_parameters"]
    assert impact["nominal_bytes"] == impact["parameters"] < dense["parameters"]
    assert flap["nominal_bytes"] == round(0.6 * dense["parameters"]) < flap["parameters"]
    call("table3", "--models", "7b")
    plain, tuned = json.loads((tmp_path / "results" / "table3.json").read_text())["quantized_cells"]
    assert plain["nominal_bytes"] == round(plain["parameters"] / 2)
    assert tuned["parameters"] > plain["parameters"] and tuned["file_bytes"] > plain["file_bytes"]
    assert plain["memory_bytes"] < dense["memory_bytes"] < 4 * dense["parameters"]
    assert set(plain["unquantized"]) == {"gsm8k", "math"} and tuned["unquantized"] == {}
    for name in ("figure6a.png", "figure6b.pdf", "table1.md", "table3.csv"):
        assert (tmp_path / "results" / name).exists()
    assert "to run" not in call(*figure6)


def test_the_gauge_table_quantizes_each_model_in_four_ways() -> None:
    plan = plan_gauge(load_preset("tiny"), Selection())
    made: dict[str, set[tuple[str, str]]] = {}
    for job in plan.jobs:
        if job.stage.name == "quantize":
            made.setdefault(job.inputs["model"].key, set()).add((job.config.scheme, job.config.gauge))  # type: ignore[attr-defined]
    ways = {(scheme, gauge) for scheme in ("llm.int8", "int8 weight-only") for gauge in ("as trained", "balanced")}
    assert len(made) == 4 and all(found == ways for found in made.values())
