"""`score`: pass@1 of completions that anybody generated, judged by the pipeline's own code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evals.benchmarks import BENCHMARKS, Judging, load_rows
from evals.execution.isolation import IsolationError
from evals.json_lines import DataFileError
from evals.judging import judge_generations, write_verdicts
from experiments.errors import UserError
from experiments.settings import choose
from experiments.stages.judge import WITHOUT_ISOLATION
from results.numbers.statistics import wilson_interval


def score(benchmark: str, generations: Path, data: Path, isolated: bool, cores: int, console: Console) -> None:
    """Prints pass@1 with its interval, and then writes one verdict a line beside the generations.

    Raises UserError for an unknown benchmark, a bad line in either file, and where programs can't be isolated.
    """
    choose(benchmark, BENCHMARKS, "benchmark")
    with _progress(console) as progress:
        how = Judging(isolated=isolated, cores=cores, progress=progress)
        try:
            judged = judge_generations(benchmark, generations, data, how)
            problems = len(load_rows(benchmark, data))
        except DataFileError as error:
            raise UserError(str(error)) from error
        except IsolationError as error:
            raise UserError(f"{error}; {WITHOUT_ISOLATION}") from error
    verdicts = generations.with_name(f"{generations.stem}.verdicts.jsonl")
    right, n = sum(each.verdict.correct for each in judged), len(judged)
    interval = wilson_interval(right, n)
    console.print(
        f"{benchmark}: pass@1 {100 * right / n:.1f} % ({right} of {n}; 95 % Wilson interval "
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %)",
        markup=False,
    )
    if n < problems:
        console.print(f"{problems - n} of the {problems} problems of {data} have no completion, and do not count")
    if not isolated:
        console.print("programs ran without isolation: a hostile one could have forged its verdict")
    write_verdicts(verdicts, judged)
    console.print(f"verdicts: {verdicts}", markup=False)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("judging", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
