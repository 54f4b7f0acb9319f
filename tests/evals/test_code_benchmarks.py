"""HumanEval and MBPP: prompts, programs, references that pass, and mutants of theirs that fail."""

import ast
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evals.benchmarks import BENCHMARKS, CodeBenchmark, Judging, load_rows
from evals.benchmarks.humaneval import humaneval_problem
from evals.benchmarks.mbpp import mbpp_problem
from evals.code_prompts import code_prompt
from evals.json_lines import DataFileError, Row
from evals.program_extraction import extract_program
from evals.prompts import instruction_prompt

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'import math\n\ndef helper(x):\n    return x * 2\n\n\ndef double(x: int) -> int:\n    """Twice x."""\n',
    "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate(3) == helper(3)\n    assert candidate(0) == 0\n",
}
MBPP = {
    "task_id": 2,
    "prompt": "Write a function to double.",
    "code": "def double(x):\n    return 2 * x",
    "test_imports": ["import math"],
    "test_list": ["assert double(3) == 6", "assert math.isclose(double(0.5), 1)"],
}
SLICES = [
    ("humaneval", "humaneval/HumanEval.jsonl", "canonical_solution", 82),
    ("mbpp", "mbpp/mbpp378.jsonl", "canonical_solution", 189),
    ("mbpp", "mbpp/sanitized_189.jsonl", "code", 189),
]


def benchmark(name: str) -> CodeBenchmark:
    chosen = BENCHMARKS[name]
    assert isinstance(chosen, CodeBenchmark)
    return chosen


@pytest.mark.parametrize(
    "completion, passes",
    [
        ("    return x + x\n", True),
        ("    return x + x\n\nThis doubles x.", True),
        ("def double(x):\n    return helper(x)\n", True),
        ("Sure!\n```python\ndef double(x):\n    return x + x\n```\nThat is all.", True),
        ("```\n    return x + x\n", True),
        ("    return x\n", False),
        ("    print(x + x)\n", False),
        ("", False),
        ("    return x +\n", False),
    ],
)
def test_a_humaneval_completion_goes_on_or_stands_alone(completion: str, passes: bool) -> None:
    (verdict,) = benchmark("humaneval").judge([completion], [HUMANEVAL], Judging())
    assert verdict.correct == passes, verdict


@pytest.mark.parametrize(
    "signature", ["def double(x):", "@cache\ndef double(x):\n    # twice", "def double(\n    x: int,\n):"]
)
def test_a_prompt_may_end_in_a_bare_signature(signature: str) -> None:
    head = "from functools import cache\n\ndef helper(x):\n    return x * 2\n\n"
    row = HUMANEVAL | {"prompt": f"{head}{signature}\n"}
    completions = ["    return helper(x)\n", "```python\ndef double(x):\n    return x + x\n```", "    return x\n", "x"]
    verdicts = benchmark("humaneval").judge(completions, [row] * 4, Judging())
    assert [verdict.correct for verdict in verdicts] == [True, True, False, False]


def test_an_mbpp_completion_is_a_whole_function() -> None:
    good = "def double(x):\n    return x + x"
    verdicts = benchmark("mbpp").judge([good, good.replace("+", "-"), "    return 2 * x"], [MBPP] * 3, Judging())
    assert [verdict.correct for verdict in verdicts] == [True, False, False]
    assert verdicts[0].extracted == good and verdicts[1].detail == "a wrong answer"


def test_prompts_of_each_style() -> None:
    problem = mbpp_problem(MBPP).text
    assert problem == '"""\nWrite a function to double.\nassert double(3) == 6\n"""\n'
    assert humaneval_problem(HUMANEVAL).text == str(HUMANEVAL["prompt"])
    assert code_prompt(problem, "raw") == problem
    assert code_prompt(problem, "alpaca") == instruction_prompt(
        "Create a Python script for this problem:\n" + problem.strip()
    )
    assert code_prompt(problem, "chat").endswith(f"```\n{problem.strip()}\n```\n")
    stops = benchmark("humaneval").stop_strings
    assert "\ndef " in stops("raw") and "\ndef " not in stops("alpaca")
    assert "\nassert" in benchmark("mbpp").stop_strings("raw")


@pytest.mark.parametrize(
    "row, complaint",
    [
        ({"prompt": "p", "code": "def f(): return 1", "test_list": []}, '"test_list" is empty'),
        ({"prompt": "p", "code": "def f(): return 1", "test_list": ["assert len('') == 0"]}, "call no function"),
        ({"prompt": "p", "code": "def f(): return 1", "test_list": ["assert f("]}, "no valid Python"),
        ({"prompt": "p"}, "there is neither"),
    ],
)
def test_mbpp_rows_that_cannot_be_judged_are_named(row: Row, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "mbpp.jsonl"
    file.write_text(json.dumps(MBPP) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataFileError) as error:
        load_rows("mbpp", file)
    assert "line 2: " in str(error.value) and complaint in str(error.value)


def test_only_what_the_entry_point_needs_is_kept() -> None:
    text = (
        "Here it is:\nimport os\nfrom math import pi\nLIMIT = 3\nUNUSED = os.system('true')\n"
        "print('loud')\nclass Box:\n    pass\ndef unused():\n    return 1\ndef helper(x):\n    return x + LIMIT\n"
        "def f(x):\n    return Box, helper(x)\nif __name__ == '__main__':\n    f(1)\nDone: f is (above"
    )
    kept = extract_program(text, "f")
    names = {node.name for node in ast.parse(kept).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert names == {"Box", "helper", "f"}
    assert "LIMIT = 3" in kept and "UNUSED" not in kept and "loud" not in kept and "__main__" not in kept
    assert kept.startswith("import os\nfrom math import pi")


@pytest.mark.parametrize("text", ["", "(" * 100_000, "f = " + "[" * 500, "def f(:", "x" * 10**5, "\x00", "f = 1" * 3])
def test_no_text_breaks_the_extraction(text: str) -> None:
    extract_program(text, "f")
    extract_program(f"def f(x):\n    return {'-' * 20_000}x", "f")


def test_the_first_definition_with_a_return_counts() -> None:
    text = "def f(x):\n    '''doc'''\ndef f(x):\n    return 1\ndef f(x):\n    return 2\n"
    assert extract_program(text, "f") == "def f(x):\n    return 1"


@pytest.mark.parametrize("name, file, reference, number", SLICES)
def test_all_references_pass(real_data: Path, name: str, file: str, reference: str, number: int) -> None:
    rows = load_rows(name, real_data / file)
    verdicts = benchmark(name).judge([row[reference] for row in rows], rows, Judging())
    assert len(rows) == number
    assert [row["task_id"] for row, verdict in zip(rows, verdicts, strict=True) if not verdict.correct] == []


def test_mutated_references_fail(
    real_data: Path,
    failing_mutant: Callable[[str, int, str], str | None],
    record_property: Callable[[str, object], None],
) -> None:
    """One mutant of every reference that a plain interpreter tells from it."""
    cases: list[tuple[str, Row, str]] = []

    def first_failing(name: str, row: Row, program: str, head: int, tests: str) -> tuple[str, Row, str] | None:
        mutant = failing_mutant(program, head, tests)
        return None if mutant is None else (name, row, mutant[head:])

    with ThreadPoolExecutor(2) as pool:
        waiting = []
        for row in load_rows("humaneval", real_data / "humaneval/HumanEval.jsonl"):
            program = row["prompt"] + row["canonical_solution"]
            tests = f"{row['test']}\ncheck({row['entry_point']})"
            waiting.append(pool.submit(first_failing, "humaneval", row, program, len(row["prompt"]), tests))
        for row in load_rows("mbpp", real_data / "mbpp/sanitized_189.jsonl"):
            tests = "\n".join([*row["test_imports"], *row["test_list"]])
            waiting.append(pool.submit(first_failing, "mbpp", row, row["code"], 0, tests))
        cases = [case for future in waiting if (case := future.result()) is not None]
    # a few references have no token whose change their tests notice
    assert len(cases) > 0.9 * len(waiting)
    record_property("mutants", len(cases))
    for name in ("humaneval", "mbpp"):
        chosen = [(row, mutant) for kind, row, mutant in cases if kind == name]
        verdicts = benchmark(name).judge([mutant for _, mutant in chosen], [row for row, _ in chosen], Judging())
        assert [row["task_id"] for (row, _), v in zip(chosen, verdicts, strict=True) if v.correct] == []


def test_evalplus_rows_compare_as_evalplus_does() -> None:
    row = {
        "task_id": "Mbpp/2",
        "prompt": '"""\nshared\nassert set(similar_elements((3, 4), (4, 3))) == set((3, 4))\n"""\n',
        "entry_point": "similar_elements",
        "canonical_solution": "def similar_elements(a, b):\n    return tuple(set(a) & set(b))",
        "assertion": "assert similar_elements((3, 4), (4, 3)) == (4, 3)",
        "atol": 0,
    }
    backwards = "def similar_elements(a, b):\n    return [x for x in b if x in a]"
    (as_set,) = benchmark("mbpp").judge([backwards], [row], Judging())
    assert as_set.correct
    exact = {
        **row,
        "entry_point": "g",
        "canonical_solution": "def g(x):\n    return x / 3",
        "assertion": "assert g(1) == 0.3333",
    }
    close, far = benchmark("mbpp").judge(
        ["def g(x):\n    return x * 0.33333334", "def g(x):\n    return 0.3333"], [exact] * 2, Judging()
    )
    assert close.correct and not far.correct
