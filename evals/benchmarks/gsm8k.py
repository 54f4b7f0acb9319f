"""GSM8K: answer extraction and comparison with every quirk of MetaMath's eval_gsm8k.py.

Source: meta-math/MetaMath@fe667b1. The quirks are kept because the printed accuracies were measured with them.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from evals.benchmarks.interface import AnswerBenchmark, PublishedSet
from evals.prompts import ANSWER_MARK
from evals.verdict import Verdict

_NUMBER = re.compile(r"[\-+]?\d*[\.,/]?\d+")  # at most one separator: "1,234,567" is read as "1,234"
_GOLD_MARK = "#### "


def gold_answer(row: Mapping[str, Any]) -> int:
    """The integer after "#### " in `row["answer"]`, thousands commas dropped.

    Raises ValueError if there is none, or one beyond the numbers that answers are compared as.
    """
    pieces = str(row["answer"]).split(_GOLD_MARK)
    try:
        gold = int(pieces[1].replace(",", ""))
        float(gold)
    except (IndexError, ValueError):
        raise ValueError(f'"answer" has no integer after "{_GOLD_MARK}"') from None
    except OverflowError:
        raise ValueError(f'"answer" has too large an integer after "{_GOLD_MARK}"') from None
    return gold


def extract_answer(completion: str) -> int | None:
    """First number after the last "The answer is: ", rounded half to even; None if there is none.

    A fraction a/b is divided before rounding, a/0 is read as a. What made the original script crash
    (overflowing numbers, denominators such as "00") counts as no answer.
    """
    _, mark, tail = completion.rpartition(ANSWER_MARK)
    match = _NUMBER.search(tail) if mark else None
    if match is None:
        return None
    number = match.group().replace(",", "")
    try:
        if "/" not in number:
            return round(float(number))
        numerator, denominator = number.split("/")
        if denominator == "0":
            return round(float(numerator))
        fraction = Fraction(int(numerator), int(denominator))
        return round(fraction.numerator / fraction.denominator)
    except (ValueError, OverflowError, ZeroDivisionError):
        return None


def score(completion: str, gold_row: Mapping[str, Any]) -> Verdict:
    """Score a completion against a GSM8K row {"question", "answer"}. Raises ValueError if the gold is unreadable."""
    gold = gold_answer(gold_row)
    extracted = extract_answer(completion)
    return Verdict(
        correct=extracted is not None and float(extracted) == float(gold),
        extracted=None if extracted is None else str(extracted),
        gold=str(gold),
    )


def worked_solution(row: Mapping[str, Any]) -> str:
    """What is trained on: without "<<...>>" calculator marks, the "#### X" line, and the thousands commas of X."""
    solution = str(row["answer"]).split(_GOLD_MARK)[0]
    # without thousands commas: the scorer reads "1,450,000" as 1,450
    return re.sub(r"<<[^<>]*>>", "", solution) + f"{ANSWER_MARK}{gold_answer(row)}"


BENCHMARK = AnswerBenchmark(
    name="gsm8k",
    label="GSM8K",
    published=PublishedSet("openai/gsm8k", ("main",), training_rows=7_473),
    fields=("question", "answer"),
    max_gen_toks=512,
    typical_tokens=200,
    test_size=1319,
    version=1,
    question_field="question",
    score=score,
    gold=gold_answer,
    solution=worked_solution,
)
