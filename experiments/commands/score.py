"""`score`: pass@1 of completions that anybody generated, judged by the pipeline's own code."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evals.benchmarks import BENCHMARKS, Judging
from evals.execution.isolation import IsolationError
from evals.json_lines import DataFileError, read_json_lines
from evals.judging import Judged, judge_generations, write_verdicts
from experiments.errors import UserError
from experiments.settings import choose
from experiments.stages.judge import WITHOUT_ISOLATION
from results.files import written_whole
from results.numbers.statistics import wilson_interval

NAMED = 5
"""How many of the problems that were left out are named; the verdicts name all."""


def score(
    benchmark: str,
    generations: Path,
    data: Path,
    isolated: bool,
    cores: int,
    console: Console,
    leave_out_unusable: bool = False,
) -> None:
    """Writes one verdict a line beside the generations, and then prints pass@1 with its interval.

    leave_out_unusable: problems whose tests or gold answer can't be used don't count, and are named; without it one
    of them is refused. Raises UserError for an unknown benchmark, a bad line in either file, where programs can't be
    isolated, and where nothing is left to count.
    """
    choose(benchmark, BENCHMARKS, "benchmark")
    with _progress(console) as progress:
        how = Judging(isolated=isolated, cores=cores, progress=progress, leave_out_unusable=leave_out_unusable)
        try:
            judged = judge_generations(benchmark, generations, data, how)
            problems = len(read_json_lines(data))
        except DataFileError as error:
            raise UserError(str(error)) from error
        except IsolationError as error:
            raise UserError(f"{error}; {WITHOUT_ISOLATION}") from error
    verdicts = generations.with_name(f"{generations.stem}.verdicts.jsonl")
    counted = [each.verdict.correct for each in judged if each.verdict.correct is not None]
    left_out = [each for each in judged if each.verdict.correct is None]
    right, n = sum(counted), len(counted)
    if not n:
        raise UserError(f"{data}: not one of the {_named(left_out)} can be used: {left_out[0].verdict.detail}")
    with written_whole(verdicts) as temporary:
        write_verdicts(temporary, judged)
    interval = wilson_interval(right, n)
    console.print(
        f"{benchmark}: pass@1 {100 * right / n:.1f} % ({right} of {n}; 95 % Wilson interval "
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %)"
        + (f", without {_named(left_out)} that can't be used" if left_out else ""),
        markup=False,
    )
    if (unanswered := problems - len(judged)) > 0:
        console.print(
            f"{unanswered} of the {problems} problems of {data} have no completion, and do not count", markup=False
        )
    if not isolated:
        console.print("programs ran without isolation: a hostile one could have forged its verdict")
    console.print(f"verdicts: {verdicts}", markup=False)


def _named(left_out: Sequence[Judged]) -> str:
    first = ", ".join(each.task_id for each in left_out[:NAMED])
    more = ", ..." if len(left_out) > NAMED else ""
    return f"{len(left_out)} problem{'s' if len(left_out) > 1 else ''} ({first}{more})"


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("judging", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
