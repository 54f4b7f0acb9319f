"""Scores from kept generations, without a model."""

from pathlib import Path

from evals.benchmarks import DataFileError, get_benchmark, load_rows, read_json_lines
from evals.generations import EvaluationSummary


def rescore(generations: Path, data_file: Path, benchmark: str) -> EvaluationSummary:
    """Score kept completions again with the scorer that the evaluation itself uses.

    `generations` is JSONL with at least "task_id" and "completion"; `data_file` is the benchmark file they answer.
    Verdicts are in the order of `generations`. Raises DataFileError for a bad line, a task id that the data file does
    not have, and a task id that stands twice.
    """
    chosen = get_benchmark(benchmark)
    gold_rows = {chosen.task_id(i): row for i, row in enumerate(load_rows(benchmark, data_file))}
    seen: set[str] = set()
    correct: list[bool] = []
    for number, kept in enumerate(read_json_lines(generations, ("task_id", "completion")), start=1):
        task_id = kept["task_id"]
        if task_id not in gold_rows:
            raise DataFileError(f"{generations}, line {number}: {data_file} has no problem {task_id!r}")
        if task_id in seen:
            raise DataFileError(f"{generations}, line {number}: problem {task_id!r} stands twice")
        seen.add(task_id)
        correct.append(chosen.score(kept["completion"], gold_rows[task_id]).correct)
    return EvaluationSummary(n=len(correct), correct=correct)
