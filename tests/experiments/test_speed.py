"""Table 14: which models are measured, and that nothing is measured twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evals.speed.random_weights import SHAPES, share_for_size
from experiments.errors import UserError
from experiments.settings import load_preset
from experiments.stages.speed import model_shape
from experiments.tables.accuracy import plan_table
from experiments.tables.declared import load_table
from experiments.tables.speed import plan_speed
from experiments.tables.target import Selection
from results.numbers.printed import printed_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["smoke", "tiny", "small", "paper"])
def test_random_weights_have_the_printed_shares(name: str) -> None:
    preset = load_preset(name)
    plan = plan_speed(preset, None)
    shape = model_shape(preset.speed.shape)
    printed = printed_table(14).set_index(["method", "row"]).model_size_b
    for (method, row, _), job in plan.jobs_of.items():
        share = job.config.model_dump()["random"]["share"]
        assert (share or 1) == pytest.approx(printed[method, row] / printed["dense", 0])
        if share:
            share_for_size(shape, round(share * shape.parameters()))  # or no rank would give that size
    assert len(plan.jobs_of) == len(printed) * len(preset.speed.routes)


def test_the_paper_preset_measures_llama_2_7b() -> None:
    assert model_shape(load_preset("paper").speed.shape) == SHAPES["llama2-7b"]


def test_models_of_the_pipeline_are_measured_once_each() -> None:
    """The control is the dense model again, and a seed changes no shape."""
    preset = load_preset("tiny")
    models = plan_table(load_table("table6"), preset, Selection(seeds=2))
    plan = plan_speed(preset, models)
    points = {(method, row) for method, row, _ in plan.jobs_of}
    assert points == {(cell.method, cell.row) for cell in models.cells} - {("dense_sft", 0)}
    stages = {job.stage.name for job in plan.jobs}
    assert "sft" not in stages and "evaluate" not in stages


def test_an_unknown_route_is_refused() -> None:
    preset = load_preset("smoke")
    broken = preset.model_copy(update={"speed": preset.speed.model_copy(update={"routes": ("statik fused",)})})
    with pytest.raises(UserError, match="did you mean 'static fused'"):
        plan_speed(broken, None)


def test_random_weights_end_to_end(tmp_path: Path) -> None:
    places = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    chosen = ["--random-weights", "--preset", "smoke", "--methods", "impact", "--rows", "1"]
    load = ["--batch-size", "3", "--routes", "growing,static fused"]
    order = [sys.executable, "-m", "experiments", "figure8", *chosen, *load, *places]

    def call() -> str:
        return subprocess.run(order, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "jobs" in call()
    record = json.loads((tmp_path / "results" / "table14.json").read_text())
    points = record["points"]
    assert [(p["method"], p["row"]) for p in points] == [("dense", 0)] * 2 + [("impact", 1)] * 2
    assert all(p["random_weights"] and p["conditions"]["batch_size"] == 3 for p in points)
    assert all(p["decode"]["bandwidth_bound_tok_s"] > 0 for p in points)
    assert (tmp_path / "results" / "figure8_hf_static_fused.png").exists()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/*/run.json")}
    assert "to run" not in call()
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/*/run.json")}
