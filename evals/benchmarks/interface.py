"""What a benchmark is: its published files, prompts, generation limits, how completions are judged, its SFT rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NotRequired, TypedDict

from evals.bounded_extraction import Extracted, extract_programs
from evals.code_prompts import CHAT_ANSWER, Style, code_prompt, code_stops
from evals.execution.programs import Checks, Outcome, UnusableTestsError, run_programs
from evals.prompts import STOP_STRINGS, evaluation_prompt
from evals.verdict import Verdict


@dataclass(frozen=True)
class PublishedSet:
    """A hub repository with the configurations that make up the set, and its published file names by split.

    A local folder may hold a split as NAME/SPLIT.jsonl or by one of these names in NAME/. training_rows: how many
    there are, 0 where nothing is trained on them.
    """

    repository: str
    parts: tuple[str, ...] = ("default",)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    training_rows: int = 0


class SftRow(TypedDict):
    """A training row in MetaMath's format; with `input`, `query` is the whole instruction, in the Alpaca format."""

    query: str
    input: NotRequired[str]
    response: str


@dataclass(frozen=True)
class Judging:
    """How completions are judged: programs run isolated unless the user gave that up, on `cores`.

    `progress` is called with the number of completions judged and in all. leave_out_unusable: a problem that can't be
    used gets a verdict that is none, instead of ending it all.
    """

    isolated: bool = True
    cores: int | None = None
    leave_out_unusable: bool = False
    progress: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True)
class Benchmark(ABC):
    """What the harness knows about a benchmark.

    `label` is what figures call it, `fields` those of a published row that must be texts, `max_gen_toks` the original
    evaluation's limit in tokens, `typical_tokens` a guess at an answer's mean, for estimates, and `test_size` the
    number of problems of the published test set. `version` is raised whenever the same completions would get other
    verdicts, and counts for the stage that judges alone; without one the hash of the benchmark's file stands in the
    recipes.
    """

    name: str
    label: str
    published: PublishedSet
    fields: tuple[str, ...]
    max_gen_toks: int
    typical_tokens: int
    test_size: int
    version: int | None = field(default=None, kw_only=True)

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

    def plain_id(self, task_id: object) -> str:
        """An identifier without the benchmark's name, whatever its case: MBPP's number 2 is EvalPlus's "Mbpp/2".

        Raises ValueError for what is neither a whole number nor a text that can be printed.
        """
        text = str(task_id)
        if isinstance(task_id, bool) or not isinstance(task_id, int | str) or not text.isprintable():
            raise ValueError('field "task_id" is no text and no whole number')
        prefix, slash, rest = text.partition("/")
        return rest if slash and prefix.lower() == self.name else text

    @abstractmethod
    def check_row(self, row: Mapping[str, Any]) -> object:
        """Raises ValueError for a row that no completion could be judged by."""

    @abstractmethod
    def prompt(self, row: Mapping[str, Any], style: Style) -> str:
        """What the model continues; of style "chat" the user's message."""

    @abstractmethod
    def stop_strings(self, style: Style) -> tuple[str, ...]:
        """Generation ends before the first of these; the stop string itself is cut off."""

    def answer_opening(self, style: Style) -> str | None:
        """What a chat model's answer is made to begin with; None where the prompt is no chat."""
        return None

    @abstractmethod
    def judge(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], how: Judging) -> list[Verdict]:
        """Verdicts of completions of the rows beside them.

        Raises IsolationError where programs can't be isolated as asked, and UnusableTestsError unless such problems
        are left out.
        """


@dataclass(frozen=True)
class AnswerBenchmark(Benchmark):
    """Problems answered in words, judged by the final answer, with MetaMath's prompt whatever the style.

    `gold` raises ValueError for a row without an answer; `solution` is the worked one that is trained on, ending in
    "The answer is: X" on a line of its own.
    """

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
        """Training rows of published rows: `solution`, which is None where nothing could score on a row, left out."""
        responses = ((row, self.solution(row)) for row in rows)
        return [
            {"query": str(row[self.question_field]), "response": response}
            for row, response in responses
            if response is not None
        ]


@dataclass(frozen=True)
class CodeProblem:
    """What a model is shown, ending in a newline, and how its program is tested.

    `reference`: a completion that passes, by which the tests are tried; empty where the row has none.
    """

    text: str
    tests: Checks
    reference: str = ""


@dataclass(frozen=True)
class CodeBenchmark(Benchmark):
    """Problems answered by a program, judged by running it; a completion that holds none is not run.

    `problem` reads a published row and raises ValueError for one that can't be judged; `raw_stops` end a program that
    is written below the bare problem.
    """

    problem: Callable[[Mapping[str, Any]], CodeProblem]
    raw_stops: tuple[str, ...]

    @property
    def executes(self) -> bool:
        return True

    def check_row(self, row: Mapping[str, Any]) -> object:
        return self.problem(row)

    def prompt(self, row: Mapping[str, Any], style: Style) -> str:
        return code_prompt(self.problem(row).text, style)

    def stop_strings(self, style: Style) -> tuple[str, ...]:
        return code_stops(style, self.raw_stops)

    def answer_opening(self, style: Style) -> str | None:
        return CHAT_ANSWER if style == "chat" else None

    def programs(
        self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], cores: int | None = None
    ) -> list[Extracted]:
        """What to run: a completion may go on with the problem's text or stand alone, in a fence or not."""
        problems = [self.problem(row) for row in rows]
        return extract_programs(
            [(text, it.tests.entry_point, it.text) for text, it in zip(completions, problems, strict=True)], cores
        )

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], how: Judging) -> list[Verdict]:
        extracted = self.programs(completions, rows, how.cores)
        outcomes = self._run({place: each.program for place, each in enumerate(extracted)}, rows, how)
        refuted = [place for place, outcome in outcomes.items() if outcome.refuted]
        # whether a problem is left out may not depend on whether its completion passes
        tried = range(len(rows)) if how.leave_out_unusable else refuted
        own = [self.problem(rows[place]).reference for place in tried]
        references = self.programs(own, [rows[place] for place in tried], how.cores)
        sources = {place: each.program for place, each in zip(tried, references, strict=True)}
        unusable = {place: outcome.detail for place, outcome in outcomes.items() if outcome.unusable}
        for place, outcome in self._run(sources, rows, replace(how, progress=lambda done, total: None)).items():
            if outcome.refuted:
                unusable[place] = f"they fail the row's own solution, too: {outcome.detail}"
            elif outcome.unusable:
                unusable[place] = outcome.detail
        refused = {place: UnusableTestsError(place, detail) for place, detail in unusable.items()}
        if refused and not how.leave_out_unusable:
            raise refused[min(refused)]
        judged = ((each, outcomes.get(place, Outcome(False, each.why))) for place, each in enumerate(extracted))
        verdicts = [Verdict(outcome.passed, each.program or None, "", outcome.detail) for each, outcome in judged]
        for place, error in refused.items():
            verdicts[place] = replace(verdicts[place], correct=None, detail=str(error))
        return verdicts

    def _run(self, sources: Mapping[int, str], rows: Sequence[Mapping[str, Any]], how: Judging) -> dict[int, Outcome]:
        """Outcomes of the programs by the places of their rows. Raises UnusableTestsError with such a place."""
        places = [place for place, source in sources.items() if source]
        if not places:
            return {}
        programs = [(sources[place], self.problem(rows[place]).tests) for place in places]
        try:
            ran = run_programs(
                programs,
                isolated=how.isolated,
                cores=how.cores,
                progress=how.progress,
                refuse_unusable=not how.leave_out_unusable,
            )
        except UnusableTestsError as error:
            raise UnusableTestsError(places[error.index], error.detail) from None
        return dict(zip(places, ran, strict=True))
