"""What a job would cost, for benchmarks and stages that the estimator has never heard of."""

from dataclasses import replace

import pytest

from evals.benchmarks import BENCHMARKS
from experiments.jobs.job import Job
from experiments.running.estimate import Estimator
from experiments.settings import HubModel, load_preset
from experiments.stages.registry import EVALUATE
from experiments.tables.accuracy import plan_table
from experiments.tables.declared import load_table
from experiments.tables.target import Selection


@pytest.fixture(scope="module")
def evaluation() -> tuple[Job, Estimator]:
    preset, table = load_preset("paper"), load_table("table6")
    source = preset.models[table.model]
    assert isinstance(source, HubModel)
    plan = plan_table(table, preset, Selection())
    return next(job for job in plan.jobs if job.stage is EVALUATE), Estimator(source.shape)


def test_an_evaluation_costs_what_the_benchmark_says_of_its_answers(
    evaluation: tuple[Job, Estimator], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, estimator = evaluation
    name = job.config.benchmark  # type: ignore[attr-defined]
    before = estimator.cost(job).hours
    twice = replace(BENCHMARKS[name], typical_tokens=2 * BENCHMARKS[name].typical_tokens)
    monkeypatch.setitem(BENCHMARKS, name, twice)
    assert estimator.cost(job).hours == pytest.approx(2 * before)


def test_the_cost_of_an_unknown_stage_is_called_a_guess(evaluation: tuple[Job, Estimator]) -> None:
    job, estimator = evaluation
    assert not estimator.cost(job).guessed
    cost = estimator.cost(replace(job, stage=replace(job.stage, name="distil")))
    assert cost.guessed and cost.hours > 0 and cost.memory_gb > 0
