"""Table 5's jobs: what is planned, and that each way of profiling does what it says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from evals.speed.random_weights import SHAPES
from experiments.errors import UserError
from experiments.jobs.job import Job
from experiments.jobs.stage import Task
from experiments.settings import known, load_preset
from experiments.stages.profiling_cost import random_rows
from experiments.stages.speed import model_shape
from experiments.tables.profiling import plan_profiling_cost
from experiments.tables.profiling_points import PAPER_SHAPE, measured_point, papers_work_of, work_of
from results.tables.profiling import build_profiling_table

SMOKE = plan_profiling_cost(load_preset("smoke"))


def measured(job: Job, out: Path) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    """The stage's measurements, and the progress that it reported."""
    told: list[tuple[float, float]] = []
    task = Task([job.config], {}, {}, [out], 1, lambda done, total: told.append((done, total)), dict, str, out, 0)
    return job.stage.run(task), told


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    folder = tmp_path_factory.mktemp("profiling")
    return {key: measured(job, folder) for key, job in SMOKE.jobs_of.items()}


@pytest.mark.parametrize("name", known("presets"))
def test_every_preset_measures_the_printed_methods(name: str) -> None:
    plan = plan_profiling_cost(load_preset(name))
    assert {method for method, _ in plan.jobs_of} == {"impact", "afm", "asvd"}
    assert {("impact", "ours"), ("impact", "naive"), ("afm", "ours"), ("asvd", "ours")} <= plan.jobs_of.keys()
    assert len({job.key for job in plan.jobs}) == len(plan.jobs)
    assert all(job.stage.wide and not job.inputs for job in plan.jobs)


def test_only_the_papers_preset_needs_no_extrapolation() -> None:
    for name in known("presets"):
        for (method, _), job in plan_profiling_cost(load_preset(name)).jobs_of.items():
            same = work_of(job.config) == papers_work_of(job.config)  # type: ignore[arg-type]
            # ASVD's printed search evaluates more rows than is worth anybody's time
            assert same == (name == "paper" and method != "asvd")
    assert model_shape(load_preset("paper").profiling_cost.load.shape) == SHAPES[PAPER_SHAPE]


def test_a_way_that_a_method_does_not_have_is_refused() -> None:
    preset = load_preset("smoke")

    def asking(implementations: dict[str, tuple[str, ...]]) -> None:
        cost = preset.profiling_cost.model_copy(update={"implementations": implementations})
        plan_profiling_cost(preset.model_copy(update={"profiling_cost": cost}))

    for method, implementation in (("impact", "estimated"), ("asvd", "streamed")):
        with pytest.raises(UserError, match=f"no way to profile {method} '{implementation}'"):
            asking({method: (implementation,)})
    with pytest.raises(UserError, match="did you mean 'impact'"):
        asking({"impct": ("ours",)})


def test_every_way_is_timed_by_phase(finished: dict[tuple[str, str], Any]) -> None:
    for (method, _), (run, told) in finished.items():
        phases = {"calibration", "decomposition", "search"} if method == "asvd" else {"calibration"}
        assert set(run["seconds"]) == phases
        assert all(spent > 0 for spent in run["seconds"].values())
        assert run["peak_memory"] >= run["memory_before"] > 0
        assert run["threads"] == torch.get_num_threads()
        assert told and all(0 <= done <= total for done, total in told)


def test_a_search_evaluates_every_candidate_of_every_linear(finished: dict[tuple[str, str], Any]) -> None:
    shape = model_shape(load_preset("smoke").profiling_cost.load.shape)
    pairs = len(list(shape.linears())) * 9
    for implementation in ("ours", "naive"):
        _, told = finished["asvd", implementation]
        assert told[-1] == (pairs, pairs)


def test_rows_are_full_and_their_first_quarter_is_no_target() -> None:
    load = load_preset("smoke").profiling_cost.load
    batches = random_rows(load)
    assert sum(len(batch.input_ids) for batch in batches) == load.rows
    assert all(len(batch.input_ids) <= load.batch_size for batch in batches)
    for batch in batches:
        assert batch.attention_mask.all() and batch.input_ids.shape[1] == load.tokens
        assert (batch.labels >= 0).sum(dim=1).tolist() == [load.tokens * 3 // 4] * len(batch.labels)


def test_the_naive_one_runs_backward_for_impact_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AFM needs no gradient, so that its naive pass must not pay for one."""
    backward: list[bool] = []
    own = nn.Linear.forward

    def forward(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        backward.append(x.requires_grad)
        return own(self, x)

    monkeypatch.setattr(nn.Linear, "forward", forward)
    measured(SMOKE.jobs_of["afm", "naive"], tmp_path)
    assert not any(backward)
    measured(SMOKE.jobs_of["impact", "naive"], tmp_path)
    assert any(backward)


def test_points_make_a_table(finished: dict[tuple[str, str], Any]) -> None:
    points = [measured_point(job, finished[key][0]) for key, job in SMOKE.jobs_of.items()]
    table = build_profiling_table(points)
    assert len(table) == len(SMOKE.jobs)
    assert (table["extrapolated_time_h"] > 0).all()
    seconds = {key: sum(run["seconds"].values()) for key, (run, _) in finished.items()}
    for (method, implementation), time in zip(
        zip(table["method"], table["implementation"], strict=True), table["time_s"], strict=True
    ):
        assert time == pytest.approx(seconds[method, implementation])
