"""judge: which of the kept completions are right."""

from typing import Any

from evals.benchmarks import Judging
from evals.execution.isolation import IsolationError
from evals.judging import judge_generations, write_verdicts
from experiments.errors import UserError
from experiments.jobs.stage import Task
from experiments.stages.configs import JudgeConfig

VERDICTS = "verdicts.jsonl"
WITHOUT_ISOLATION = "--unsafe-local-execution would run them without any protection"


def run(task: Task) -> dict[str, Any]:
    """Writes one JSON line a verdict; returns n and whether each is right, in order.

    Raises UserError where programs can't be isolated as asked.
    """
    config: JudgeConfig = task.config
    how = Judging(isolated=config.isolation != "none", cores=task.threads, progress=task.progress)
    generations = task.inputs["generations"] / "generations.jsonl"
    try:
        judged = judge_generations(
            config.benchmark, generations, task.inputs["data"] / f"{config.benchmark}.jsonl", how
        )
    except IsolationError as error:
        raise UserError(f"{error}; {WITHOUT_ISOLATION}") from error
    write_verdicts(task.out / VERDICTS, judged)
    return {"n": len(judged), "correct": [each.verdict.correct for each in judged]}
