"""Which benchmarks there are, and what each asks, stops at and counts as right: one file each, found by itself."""

import hashlib
import pkgutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from evals.benchmarks.interface import AnswerBenchmark, Benchmark, CodeBenchmark, Judging, SftRow
from evals.json_lines import DataFileError, Row, read_json_lines

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


def load_rows(benchmark: str, path: Path) -> list[Row]:
    """Rows of a local file in the benchmark's published format, in file order.

    Raises DataFileError for a missing or empty file, a malformed line, a missing field, an unreadable gold answer.
    """
    chosen = get_benchmark(benchmark)
    rows = read_json_lines(path, chosen.fields)
    for number, row in enumerate(rows, start=1):
        try:
            chosen.check_row(row)
        except ValueError as error:
            raise DataFileError(f"{path}, line {number}: {error}") from None
    return rows
