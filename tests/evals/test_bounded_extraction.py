"""Texts that Python's parser can't stand, or takes long for: each costs its own verdict, and nothing else."""

import os
import sys
from collections.abc import Callable

import pytest

from evals import bounded_extraction
from evals.bounded_extraction import extract_programs
from evals.program_extraction import extract_program

PLAIN = "def f(x):\n    return x + 1\n"
HARD = {
    "a long number": f"def f(x):\n    return {'7' * 5000}\n",
    "a long hexadecimal number": f"def f(x):\n    return 0x{'f' * 5000}\n",
    "an f-string with an exotic blank": "def f(x):\n    return f'{x}{\"a\u2003b\"}'\n",
    "an f-string in three quotes": "def f(x):\n    return f'''{x:4}\n\u00a0{\"\u2028\"}'''\n",
    "decorators around one": "import functools\n\n@functools.lru_cache(None)\n@functools.wraps(len)\n"
    "def f(x):\n    return f'{x}\u2003{\"a\u2003b\"}'\n",
    "a sum of 600": f"def f(x):\n    return {'+'.join('x' * 600)}\n",
    "a sum of 50,000": f"def f(x):\n    return {'+'.join('x' * 50_000)}\n",
    "thousands of elifs": "def f(x):\n    if x == -1:\n        return 0\n"
    + "".join(f"    elif x == {i}:\n        return {i}\n" for i in range(2_500)),
    "unbalanced lines": "def f(x):\n    return (\n" + "(((((\n" * 15_000,
    "unbalanced lines after a program": PLAIN + "x = [(\n" * 15_000,
    "unbalanced definitions": "def f(x): return (\n" * 5_000,
    "prose": "some words that are prose\n" * 4_000,
    "prose in definitions": "def f(x):\n some words that are prose\n" * 2_500,
    "many definitions": PLAIN * 3_500,
    "many strings": "'''\n" + "def f(x): return 1\n'''\n" * 4_000,
    "parentheses": f"def f(x):\n    return {'(' * 50_000}x{')' * 50_000}\n",
    "minus signs": f"def f(x):\n    return {'-' * 90_000}x\n",
    "negations": f"def f(x):\n    return {'not ' * 24_000}x\n",
    "fences": "```\n" * 24_000 + PLAIN,
    "fences with methods": "```\n def f(x):\n  return 1\n" * 3_500,
    "deep blocks": "def f(x):\n" + "".join(" " * i + "if x:\n" for i in range(1, 440)),
    "reasoning marks": "<think>" * 14_000 + PLAIN,
    "terminal codes": "\x1b]" * 50_000 + PLAIN,
    "line continuations": "def f(x):\n return x\\\n" * 4_500,
    "assignments": "f = 1\n" * 16_000,
    "a chain of assignments": "f = " * 24_000 + "1\n",
    "attributes": f"def f(x):\n return x{'.a' * 49_000}\n",
    "calls": f"def f(x):\n return x{'()' * 49_000}\n",
    "lambdas": f"f = {'lambda:' * 14_000}1",
    "a chain of functions": "".join(f"def g{i}(x):\n return g{i + 1}(x)\n" for i in range(3_300)) + PLAIN,
    "one line": PLAIN + "#" * 100_000,
    "null bytes": PLAIN + "\0" * 100_000,
    "half surrogate pairs": PLAIN + "\ud800" * 100_000,
}


def mortal(completion: str, entry_point: str, problem: str) -> str:
    """Ends its process, and takes more memory than there is, where it is told to."""
    if completion == "die":
        os._exit(1)
    return " " * (8 << 30) if completion == "swell" else extract_program(completion, entry_point, problem)


def around(*texts: str) -> list[str]:
    """The programs of texts with a plain one before and after each of them."""
    asked = [(each, "f", "") for text in texts for each in (PLAIN, text)]
    return [found.program or found.why for found in extract_programs([*asked, (PLAIN, "f", "")])]


def test_hard_texts_leave_their_neighbours_alone() -> None:
    found = around(*HARD.values())
    assert set(found[::2]) == {PLAIN.rstrip()}
    assert not [name for name, each in zip(HARD, found[1::2], strict=True) if "within" in each]


@pytest.mark.parametrize("name", [*HARD][:6])
def test_what_has_no_form_of_pythons_own_is_taken_as_it_was_written(name: str) -> None:
    """And calculates what the text does."""
    (found,) = extract_programs([(HARD[name], "f", "")])
    written, extracted = ({"__name__": ""} for _ in range(2))
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        exec(HARD[name], written)
        exec(found.program, extracted)
        call: Callable[..., object] = extracted["f"]  # type: ignore[assignment]
        assert call(3) == written["f"](3)  # type: ignore[operator]
    finally:
        sys.set_int_max_str_digits(limit)


def test_a_process_that_ends_or_swells_costs_one_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_extraction, "_extract", mortal)
    found = around("die", "swell", "die")
    assert found == [*[PLAIN.rstrip(), "the completion is more than Python's parser can take"] * 3, PLAIN.rstrip()]


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_extraction, "SECONDS", 0.001)
    assert around(HARD["thousands of elifs"])[1] == "no program was found in the completion within 0.001 s"
