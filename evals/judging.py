"""Judging kept generations against a benchmark's data file, without a model: the pipeline's and the user's way."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evals.benchmarks import Judging, Problem, get_benchmark, read_problems
from evals.execution.programs import UnusableTestsError
from evals.json_lines import DataFileError, placed_rows, write_json_lines
from evals.verdict import Verdict


@dataclass(frozen=True)
class Judged:
    """A problem's identifier and the verdict on its completion."""

    task_id: str
    verdict: Verdict


def judge_generations(benchmark: str, generations: Path, data_file: Path, how: Judging) -> list[Judged]:
    """Verdicts on the completions of `generations`, in its order.

    `generations` is JSONL with at least "task_id" and "completion"; `data_file` is the benchmark file that they answer.
    Raises DataFileError for a bad line, a task id that the data file does not have, one that stands twice, and a
    problem that can't be used unless those are left out; IsolationError where programs can't be isolated as asked.
    """
    chosen = get_benchmark(benchmark)
    problems = {problem.plain_id: problem for problem in read_problems(benchmark, data_file)}
    unusable = [problem for problem in problems.values() if problem.unusable]
    if unusable and not how.leave_out_unusable:
        raise DataFileError(f"{unusable[0].where}: {unusable[0].unusable}")
    completions: dict[str, str] = {}
    for where, kept in placed_rows(generations, ("completion",), generated=True):
        if "task_id" not in kept:
            raise DataFileError(f'{where}: field "task_id" is missing')
        try:
            name = chosen.plain_id(kept["task_id"])
        except ValueError as error:
            raise DataFileError(f"{where}: {error}") from None
        if name not in problems:
            raise DataFileError(f"{where}: {data_file} has no problem {kept['task_id']!r}")
        if name in completions:
            raise DataFileError(f"{where}: problem {kept['task_id']!r} stands twice")
        completions[name] = kept["completion"]
    answered = [problems[name] for name in completions]
    usable = [problem for problem in answered if not problem.unusable]
    given = [completions[problem.plain_id] for problem in usable]
    try:
        verdicts = chosen.judge(given, [problem.row for problem in usable], how)
    except UnusableTestsError as error:
        problem = usable[error.index]
        raise DataFileError(f"{problem.where}: problem {problem.task_id}: {error}") from None
    judged = {problem.plain_id: verdict for problem, verdict in zip(usable, verdicts, strict=True)}
    return [Judged(problem.task_id, judged.get(problem.plain_id) or _left_out(problem)) for problem in answered]


def _left_out(problem: Problem) -> Verdict:
    return Verdict(None, None, "", f"it can't be used: {problem.unusable}")


def write_verdicts(path: Path, judged: Sequence[Judged]) -> None:
    """One JSON line a verdict, as `write_json_lines`."""
    write_json_lines(path, ({"task_id": each.task_id} | asdict(each.verdict) for each in judged))
