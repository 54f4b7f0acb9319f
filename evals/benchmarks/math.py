r"""MATH: answer extraction and equivalence with every quirk of MetaMath's eval_math.py.

Sources: meta-math/MetaMath@fe667b1; the normalisation is that of Hendrycks et al. 2021 (math_equivalence), whose rules
are purely textual: no algebra, so "\frac{2}{4}" and "\frac{1}{2}" differ.
"""

import re
from collections.abc import Mapping
from typing import Any

from evals.benchmarks.interface import AnswerBenchmark, PublishedSet
from evals.prompts import ANSWER_MARK
from evals.verdict import Verdict

_BOXED = "\\boxed"
_UNIT = "\\text{ "  # a \text that opens with a space holds a unit, and stands on the right
_DROPPED = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")


def boxed_answer(solution: str) -> str | None:
    r"""Content of the last \boxed{...} of a solution.

    None if there is no box, if its braces do not balance, or if it is written without braces ("\boxed 2"): the
    original reads no answer there and never counts such a problem as solved.
    """
    start = solution.rfind(_BOXED)
    opening = start + len(_BOXED)
    if start < 0 or solution[opening : opening + 1] != "{":
        return None
    depth = 0
    for position in range(opening, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[position], 0)
        if depth == 0:
            return solution[opening + 1 : position]
    return None


def check_row(row: Mapping[str, Any]) -> None:
    r"""Raises ValueError for a MATH row whose "solution" holds no \boxed at all."""
    if _BOXED not in str(row["solution"]):
        raise ValueError(f'"solution" has no {_BOXED} answer')


def extract_answer(completion: str) -> str | None:
    """Text after the last "The answer is: ", cut at the first full stop that ends a line; None without that mark."""
    _, mark, tail = completion.rpartition(ANSWER_MARK)
    if not mark:
        return None
    return tail.split(".\n")[0].strip().removesuffix(".").strip()


def _brace_roots(text: str) -> str:
    r"""\sqrt3 -> \sqrt{3}. Raises ValueError for a root without an argument."""
    if re.search(r"\\sqrt(?=\\sqrt|$)", text):
        raise ValueError("root without an argument")
    return re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", text, flags=re.DOTALL)


def _brace_fractions(text: str) -> str:
    r"""\frac12 -> \frac{1}{2}, \frac1{72} -> \frac{1}{72}. Raises ValueError for a fraction without arguments."""
    head, *pieces = text.split("\\frac")
    braced = head
    for piece in pieces:
        if not piece:
            raise ValueError("fraction without arguments")
        if piece[0] == "{":
            braced += "\\frac" + piece
        elif len(piece) == 1:
            return text  # the whole text stays as it was, fractions already handled included
        else:
            denominator = piece[1] if piece[1] == "{" else "{" + piece[1] + "}"
            braced += "\\frac{" + piece[0] + "}" + denominator + piece[2:]
    return braced


def _slash_to_fraction(text: str) -> str:
    r"""a/b -> \frac{a}{b} for integers in plain form. Raises ValueError if a side of the only slash is no integer."""
    if text.count("/") != 1:
        return text
    numerator, denominator = map(int, text.split("/"))
    plain = text == f"{numerator}/{denominator}"  # no leading zero, no plus sign
    return f"\\frac{{{numerator}}}{{{denominator}}}" if plain else text


def normalise(text: str) -> str:
    """Textual normal form of a LaTeX answer. Raises ValueError where the original's code would fail."""
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for dropped in _DROPPED:
        text = text.replace(dropped, "")
    if text.count(_UNIT) > 1:
        raise ValueError("more than one unit")
    text = text.split(_UNIT)[0].replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = _brace_fractions(_brace_roots(text).replace(" ", ""))
    if text == "0.5":
        return "\\frac{1}{2}"
    return _slash_to_fraction(text)


def is_equivalent(first: str, second: str) -> bool:
    """Whether two answers have one normal form; compared as they stand if either has none."""
    try:
        return normalise(first) == normalise(second)
    except ValueError:
        return first == second


def score(completion: str, gold_row: Mapping[str, Any]) -> Verdict:
    """Score a completion against a MATH row {"problem", "solution"}; a gold without a readable box is never matched."""
    gold = boxed_answer(str(gold_row["solution"]))
    extracted = extract_answer(completion)
    return Verdict(
        correct=extracted is not None and gold is not None and is_equivalent(extracted, gold),
        extracted=extracted,
        gold="" if gold is None else gold,
    )


def worked_solution(row: Mapping[str, Any]) -> str | None:
    """What is trained on; None for an answer in no braced box (2 of the 7,500 rows): nothing could score on it."""
    solution = str(row["solution"])
    gold = boxed_answer(solution)
    return None if gold is None else f"{solution}\n{ANSWER_MARK}{gold}"


_SUBJECTS = (
    *("algebra", "counting_and_probability", "geometry", "intermediate_algebra"),
    *("number_theory", "prealgebra", "precalculus"),
)
BENCHMARK = AnswerBenchmark(
    name="math",
    label="MATH",
    published=PublishedSet("EleutherAI/hendrycks_math", _SUBJECTS, training_rows=7_500),
    fields=("problem", "solution"),
    max_gen_toks=2048,
    typical_tokens=400,
    test_size=5000,
    version=2,
    question_field="problem",
    score=score,
    gold=check_row,
    solution=worked_solution,
)
