"""The benchmarks answered in words: their published files, their generation limits, their scorers, their SFT rows."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from evals import gsm8k_scoring, math_scoring
from evals.prompts import ANSWER_MARK, STOP_STRINGS
from evals.verdict import Verdict

Row = dict[str, Any]


class DataFileError(ValueError):
    """A data file is missing or not in its published format; the message names the file and, if any, the line."""


class SftRow(TypedDict):
    """A training row in MetaMath's format."""

    query: str
    response: str


@dataclass(frozen=True)
class Benchmark:
    """What the harness knows about a benchmark.

    `question_field` and `answer_field` are the two fields of a published row that are used, `max_gen_toks` the
    original evaluation's limit in tokens, `test_size` the number of problems of the published test set,
    `check_row` raises ValueError for a row whose gold answer cannot be read, `sft_response` gives the worked solution
    with MetaMath's tail, or None where a row has no gold answer.
    """

    name: str
    question_field: str
    answer_field: str
    max_gen_toks: int
    test_size: int
    stop_strings: tuple[str, ...]
    score: Callable[[str, Mapping[str, Any]], Verdict]
    check_row: Callable[[Mapping[str, Any]], object]
    sft_response: Callable[[Mapping[str, Any]], str | None]

    @property
    def task_name(self) -> str:
        """Name of the lm-eval task in evals/tasks."""
        return f"metamath_{self.name}"

    def task_id(self, index: int) -> str:
        """Identifier of the problem on line `index + 1` of a data file."""
        return f"{self.name}/{index}"


def _gsm8k_sft_response(row: Mapping[str, Any]) -> str:
    solution = str(row["answer"]).split("#### ")[0]
    # without thousands commas: the scorer reads "1,450,000" as 1,450
    return re.sub(r"<<[^<>]*>>", "", solution) + f"{ANSWER_MARK}{gsm8k_scoring.gold_answer(row)}"


def _math_sft_response(row: Mapping[str, Any]) -> str | None:
    solution = str(row["solution"])
    gold = math_scoring.boxed_answer(solution)
    return None if gold is None else f"{solution}\n{ANSWER_MARK}{gold}"


BENCHMARKS: dict[str, Benchmark] = {
    "gsm8k": Benchmark(
        name="gsm8k",
        question_field="question",
        answer_field="answer",
        max_gen_toks=512,
        test_size=1319,
        stop_strings=STOP_STRINGS,
        score=gsm8k_scoring.score,
        check_row=gsm8k_scoring.gold_answer,
        sft_response=_gsm8k_sft_response,
    ),
    "math": Benchmark(
        name="math",
        question_field="problem",
        answer_field="solution",
        max_gen_toks=2048,
        test_size=5000,
        stop_strings=STOP_STRINGS,
        score=math_scoring.score,
        check_row=math_scoring.check_row,
        sft_response=_math_sft_response,
    ),
}


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name. Raises KeyError, naming those there are."""
    try:
        return BENCHMARKS[name]
    except KeyError:
        raise KeyError(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}") from None


def read_json_lines(path: Path, fields: Iterable[str]) -> list[Row]:
    """Objects of a JSONL file, each checked to hold a string in every one of `fields`.

    Raises DataFileError for a missing, unreadable or empty file and for the first bad line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}") from error
    if not content:
        raise DataFileError(f"{path}: the file is empty")
    rows: list[Row] = []
    # bytes, because str.splitlines also splits at U+2028, which JSON strings may hold
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataFileError(f"{path}, line {number}: not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataFileError(f"{path}, line {number}: not a JSON object")
        for field in fields:
            if field not in row:
                raise DataFileError(f'{path}, line {number}: field "{field}" is missing')
            if not isinstance(row[field], str):
                raise DataFileError(f'{path}, line {number}: field "{field}" is not a string')
        rows.append(row)
    return rows


def load_rows(benchmark: str, path: Path) -> list[Row]:
    """Rows of a local JSONL file in the benchmark's published format, in file order.

    Raises DataFileError for a missing or empty file, a malformed line, a missing field, an unreadable gold answer.
    """
    chosen = get_benchmark(benchmark)
    rows = read_json_lines(path, (chosen.question_field, chosen.answer_field))
    for number, row in enumerate(rows, start=1):
        try:
            chosen.check_row(row)
        except ValueError as error:
            raise DataFileError(f"{path}, line {number}: {error}") from None
    return rows


def sft_rows(benchmark: str, rows: Iterable[Mapping[str, Any]]) -> list[SftRow]:
    """Training rows of a benchmark's published rows: the worked solution, then "The answer is: X" on a line of its own.

    GSM8K loses its "<<...>>" calculator marks, its "#### X" line, and the thousands commas of X. MATH rows whose
    answer is not in a braced box are left out (2 of the 7,500 published training rows): nothing could score on them.
    """
    chosen = get_benchmark(benchmark)
    converted: list[SftRow] = []
    for row in rows:
        response = chosen.sft_response(row)
        if response is not None:
            converted.append({"query": str(row[chosen.question_field]), "response": response})
    return converted
