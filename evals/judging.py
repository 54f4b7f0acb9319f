"""Judging kept generations against a benchmark's data file, without a model: the pipeline's and the user's way."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.benchmarks import Benchmark, Judging, get_benchmark, load_rows
from evals.execution.programs import UnusableTestsError
from evals.json_lines import DataFileError, Row, read_json_lines, write_json_lines
from evals.verdict import Verdict


@dataclass(frozen=True)
class Judged:
    """A problem's identifier and the verdict on its completion."""

    task_id: str
    verdict: Verdict


def judge_generations(benchmark: str, generations: Path, data_file: Path, how: Judging) -> list[Judged]:
    """Verdicts on the completions of `generations`, in its order.

    `generations` is JSONL with at least "task_id" and "completion"; `data_file` is the benchmark file that they answer.
    Raises DataFileError for a bad line, a task id that the data file does not have, one that stands twice, and tests
    that can't be run; IsolationError where programs can't be isolated as asked.
    """
    chosen = get_benchmark(benchmark)
    rows = load_rows(benchmark, data_file)
    problems = _by_identifier(chosen, rows)
    completions: dict[str, str] = {}
    for number, kept in enumerate(read_json_lines(generations, ("completion",)), start=1):
        where = f"{generations}, line {number}"
        if "task_id" not in kept:
            raise DataFileError(f'{where}: field "task_id" is missing')
        name = _plain(chosen, kept["task_id"])
        if name not in problems:
            raise DataFileError(f"{where}: {data_file} has no problem {kept['task_id']!r}")
        if name in completions:
            raise DataFileError(f"{where}: problem {kept['task_id']!r} stands twice")
        completions[name] = kept["completion"]
    answered = [problems[name] for name in completions]
    try:
        verdicts = chosen.judge(list(completions.values()), [row for _, row in answered], how)
    except UnusableTestsError as error:
        raise DataFileError(f"{data_file}: problem {answered[error.index][0]}: {error}") from None
    return [Judged(task_id, verdict) for (task_id, _), verdict in zip(answered, verdicts, strict=True)]


def _by_identifier(benchmark: Benchmark, rows: Sequence[Row]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Plain identifier -> published identifier and row."""
    named = [(benchmark.task_id(index, row), row) for index, row in enumerate(rows)]
    return {_plain(benchmark, task_id): (task_id, row) for task_id, row in named}


def _plain(benchmark: Benchmark, task_id: object) -> str:
    """MBPP's number 2 is EvalPlus's "Mbpp/2": an identifier without the benchmark's name, whatever its case."""
    text = str(task_id)
    prefix, slash, rest = text.partition("/")
    return rest if slash and prefix.lower() == benchmark.name else text


def write_verdicts(path: Path, judged: Sequence[Judged]) -> None:
    """One JSON line a verdict, the file whole or not at all."""
    write_json_lines(path, ({"task_id": each.task_id} | asdict(each.verdict) for each in judged))
