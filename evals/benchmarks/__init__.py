"""Which benchmarks there are, and what each asks, stops at and counts as right: one file each, found by itself."""

import hashlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from textwrap import shorten

from evals.benchmarks.interface import AnswerBenchmark, Benchmark, CodeBenchmark, Judging, SftRow
from evals.json_lines import DataFileError, Row, placed_rows

__all__ = ["BENCHMARKS", "AnswerBenchmark", "Benchmark", "CodeBenchmark", "Judging", "SftRow", "get_benchmark"]


def found() -> list[Benchmark]:
    """The `BENCHMARK` of every file in this folder that has one: word problems before programs, then by name."""
    modules = [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    benchmarks = [module.BENCHMARK for module in modules if hasattr(module, "BENCHMARK")]
    return sorted(benchmarks, key=lambda benchmark: (benchmark.executes, benchmark.name))


BENCHMARKS = {benchmark.name: benchmark for benchmark in found()}


def unpinned_sources(names: Iterable[str]) -> str:
    """A hash of the files of those benchmarks that pin no version; empty where all do."""
    own = [BENCHMARKS[name] for name in names if name in BENCHMARKS and BENCHMARKS[name].version is None]
    files = [Path(__file__).with_name(f"{benchmark.name}.py").read_bytes() for benchmark in own]
    return hashlib.sha256(b"\0".join(files)).hexdigest()[:16] if files else ""


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name. Raises KeyError, naming those there are."""
    try:
        return BENCHMARKS[name]
    except KeyError:
        raise KeyError(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}") from None


@dataclass(frozen=True)
class Problem:
    """A row of a data file, with the words that name its place, its published identifier and the plain one.

    `unusable` says why no completion could be judged by it, and is empty where one can.
    """

    where: str
    task_id: str
    plain_id: str
    row: Row
    unusable: str


def read_problems(benchmark: str, path: Path) -> list[Problem]:
    """Problems of a local file in the benchmark's published format, in file order.

    Raises DataFileError for a missing or empty file, a malformed line, a missing field, an identifier that stands
    twice or is none.
    """
    chosen = get_benchmark(benchmark)
    problems: dict[str, Problem] = {}
    for index, (where, row) in enumerate(placed_rows(path, chosen.fields)):
        task_id = chosen.task_id(index, row)
        try:
            plain_id = chosen.plain_id(row.get("task_id", task_id))
        except ValueError as error:
            raise DataFileError(f"{where}: {error}") from None
        if plain_id in problems:
            raise DataFileError(f"{where}: problem {task_id} stands twice, there and in {problems[plain_id].where}")
        problems[plain_id] = Problem(where, task_id, plain_id, row, _unusable(chosen, row))
    return [*problems.values()]


def load_rows(benchmark: str, path: Path) -> list[Row]:
    """The rows of `read_problems`. Raises DataFileError also for one that no completion could be judged by."""
    problems = read_problems(benchmark, path)
    for problem in problems:
        if problem.unusable:
            raise DataFileError(f"{problem.where}: {problem.unusable}")
    return [problem.row for problem in problems]


def _unusable(chosen: Benchmark, row: Row) -> str:
    try:
        chosen.check_row(row)
    except (ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, RecursionError, MemoryError) as error:
        # a row is anybody's, and what reads it may not have thought of every type that JSON has
        said = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        return shorten(said, 300)
    return ""
