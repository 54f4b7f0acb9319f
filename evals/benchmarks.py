"""The benchmarks: their published files, prompts, generation limits, how completions are judged, their SFT rows."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from evals import gsm8k_scoring, math_scoring
from evals.code_problems import CodeProblem, humaneval_problem, mbpp_problem
from evals.code_prompts import Style, code_prompt, code_stops
from evals.execution.programs import Outcome, run_programs
from evals.json_lines import DataFileError, Row, read_json_lines
from evals.program_extraction import extract_program, unfenced
from evals.prompts import ANSWER_MARK, STOP_STRINGS, evaluation_prompt
from evals.verdict import Verdict


class SftRow(TypedDict):
    """A training row in MetaMath's format; with `input`, `query` is the whole instruction, in the Alpaca format."""

    query: str
    input: NotRequired[str]
    response: str


@dataclass(frozen=True)
class Judging:
    """How completions are judged: programs run isolated unless the user gave that up, on `cores`.

    `progress` is called with the number of completions judged and in all.
    """

    isolated: bool = True
    cores: int | None = None
    progress: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True)
class Benchmark(ABC):
    """What the harness knows about a benchmark.

    `fields` of a published row that must be texts, `max_gen_toks` the original evaluation's limit in tokens,
    `test_size` the number of problems of the published test set.
    """

    name: str
    fields: tuple[str, ...]
    max_gen_toks: int
    test_size: int

    @property
    def executes(self) -> bool:
        """Whether judging runs programs that a model wrote."""
        return False

    @property
    def task_name(self) -> str:
        """Name of the lm-eval task in evals/tasks."""
        return f"impact_{self.name}"

    def task_id(self, index: int, row: Mapping[str, Any]) -> str:
        """Identifier of the problem on line `index + 1` of a data file: the published one, or name and index."""
        return str(row.get("task_id", f"{self.name}/{index}"))

    @abstractmethod
    def check_row(self, row: Mapping[str, Any]) -> object:
        """Raises ValueError for a row that no completion could be judged by."""

    @abstractmethod
    def prompt(self, row: Mapping[str, Any], style: Style) -> str:
        """What the model continues; of style "chat" the user's message."""

    @abstractmethod
    def stop_strings(self, style: Style) -> tuple[str, ...]:
        """Generation ends before the first of these; the stop string itself is cut off."""

    @abstractmethod
    def judge(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], how: Judging) -> list[Verdict]:
        """Verdicts of completions of the rows beside them.

        Raises IsolationError where programs can't be isolated as asked, and UnusableTestsError.
        """


@dataclass(frozen=True)
class AnswerBenchmark(Benchmark):
    """Problems answered in words, judged by the final answer, with MetaMath's prompt whatever the style."""

    question_field: str
    score: Callable[[str, Mapping[str, Any]], Verdict]
    gold: Callable[[Mapping[str, Any]], object]
    solution: Callable[[Mapping[str, Any]], str | None]

    def check_row(self, row: Mapping[str, Any]) -> object:
        return self.gold(row)

    def prompt(self, row: Mapping[str, Any], style: Style) -> str:
        return evaluation_prompt(str(row[self.question_field]))

    def stop_strings(self, style: Style) -> tuple[str, ...]:
        return STOP_STRINGS

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], how: Judging) -> list[Verdict]:
        return [self.score(completion, row) for completion, row in zip(completions, rows, strict=True)]

    def sft_rows(self, rows: Iterable[Mapping[str, Any]]) -> list[SftRow]:
        """Training rows of published rows: the worked solution, then "The answer is: X" on a line of its own.

        GSM8K loses its "<<...>>" calculator marks, its "#### X" line, and the thousands commas of X. MATH rows whose
        answer is not in a braced box are left out (2 of the 7,500 published training rows): nothing could score on
        them.
        """
        responses = ((row, self.solution(row)) for row in rows)
        return [
            {"query": str(row[self.question_field]), "response": response}
            for row, response in responses
            if response is not None
        ]


NO_PROGRAM = Outcome(False, "no program in the completion")


@dataclass(frozen=True)
class CodeBenchmark(Benchmark):
    """Problems answered by a program, judged by running it; a completion that holds none is not run."""

    problem: Callable[[Mapping[str, Any]], CodeProblem]

    @property
    def executes(self) -> bool:
        return True

    def check_row(self, row: Mapping[str, Any]) -> object:
        return self.problem(row)

    def prompt(self, row: Mapping[str, Any], style: Style) -> str:
        return code_prompt(self.problem(row).text, style)

    def stop_strings(self, style: Style) -> tuple[str, ...]:
        return code_stops(self.name, style)

    def program(self, completion: str, row: Mapping[str, Any]) -> str:
        """The program to run: the completion may go on with the problem's text or stand alone, in a fence or not."""
        problem = self.problem(row)
        return extract_program(problem.text + unfenced(completion), problem.tests.entry_point)

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], how: Judging) -> list[Verdict]:
        sources = [self.program(completion, row) for completion, row in zip(completions, rows, strict=True)]
        programs = [(source, self.problem(row).tests) for source, row in zip(sources, rows, strict=True) if source]
        outcomes = iter(run_programs(programs, isolated=how.isolated, cores=how.cores, progress=how.progress))
        judged = ((source, next(outcomes) if source else NO_PROGRAM) for source in sources)
        return [Verdict(outcome.passed, source or None, "", outcome.detail) for source, outcome in judged]


def _gsm8k_solution(row: Mapping[str, Any]) -> str:
    solution = str(row["answer"]).split("#### ")[0]
    # without thousands commas: the scorer reads "1,450,000" as 1,450
    return re.sub(r"<<[^<>]*>>", "", solution) + f"{ANSWER_MARK}{gsm8k_scoring.gold_answer(row)}"


def _math_solution(row: Mapping[str, Any]) -> str | None:
    solution = str(row["solution"])
    gold = math_scoring.boxed_answer(solution)
    return None if gold is None else f"{solution}\n{ANSWER_MARK}{gold}"


BENCHMARKS: dict[str, Benchmark] = {
    "gsm8k": AnswerBenchmark(
        name="gsm8k",
        fields=("question", "answer"),
        max_gen_toks=512,
        test_size=1319,
        question_field="question",
        score=gsm8k_scoring.score,
        gold=gsm8k_scoring.gold_answer,
        solution=_gsm8k_solution,
    ),
    "math": AnswerBenchmark(
        name="math",
        fields=("problem", "solution"),
        max_gen_toks=2048,
        test_size=5000,
        question_field="problem",
        score=math_scoring.score,
        gold=math_scoring.check_row,
        solution=_math_solution,
    ),
    "humaneval": CodeBenchmark(
        name="humaneval",
        fields=("task_id", "prompt", "entry_point", "test"),
        max_gen_toks=768,
        test_size=164,
        problem=humaneval_problem,
    ),
    "mbpp": CodeBenchmark(name="mbpp", fields=(), max_gen_toks=768, test_size=378, problem=mbpp_problem),
}


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
