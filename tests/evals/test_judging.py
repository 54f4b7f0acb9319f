"""Kept completions are judged without a model, and a bad line is named."""

import json
from pathlib import Path

import pytest

from evals.benchmarks import Judging
from evals.json_lines import DataFileError, Row, read_json_lines
from evals.judging import judge_generations, write_verdicts

ROWS = [{"question": f"{i}?", "answer": f"work\n#### {i}"} for i in range(3)]
MBPP = [
    {"task_id": n, "prompt": "p", "code": f"def f{n}(): return {n}", "test_list": [f"assert f{n}() == {n}"]}
    for n in (2, 3)
]


def lines(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def kept(path: Path, *pairs: tuple[object, str]) -> Path:
    return lines(path, [{"task_id": task_id, "completion": completion} for task_id, completion in pairs])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"task_id": "gsm8k/99", "completion": ""}, "has no problem 'gsm8k/99'"),
        ({"task_id": "gsm8k/0", "completion": ""}, "stands twice"),
        ({"task_id": "0", "completion": ""}, "stands twice"),
        ({"task_id": "gsm8k/1"}, '"completion" is missing'),
        ({"completion": ""}, '"task_id" is missing'),
    ],
)
def test_the_bad_line_is_named(tmp_path: Path, line: Row, complaint: str) -> None:
    data = lines(tmp_path / "test.jsonl", ROWS)
    generations = lines(tmp_path / "kept.jsonl", [{"task_id": "gsm8k/0", "completion": "The answer is: 0"}, line])
    with pytest.raises(DataFileError) as error:
        judge_generations("gsm8k", generations, data, Judging())
    assert "line 2: " in str(error.value) and complaint in str(error.value)


def test_verdicts_follow_the_generations_and_are_written_one_a_line(tmp_path: Path) -> None:
    data = lines(tmp_path / "test.jsonl", ROWS)
    pairs = (("gsm8k/2", "The answer is: 2"), ("gsm8k/0", "The answer is: 1"), ("gsm8k/1", "1"))
    judged = judge_generations("gsm8k", kept(tmp_path / "kept.jsonl", *pairs), data, Judging())
    assert [(each.task_id, each.verdict.correct) for each in judged] == [
        ("gsm8k/2", True), ("gsm8k/0", False), ("gsm8k/1", False),
    ]  # fmt: skip
    write_verdicts(tmp_path / "verdicts.jsonl", judged)
    assert read_json_lines(tmp_path / "verdicts.jsonl")[0] == {
        "task_id": "gsm8k/2", "correct": True, "extracted": "2", "gold": "2", "detail": "",
    }  # fmt: skip


@pytest.mark.parametrize("name", [2, "2", "Mbpp/2", "mbpp/2"])
def test_mbpp_problems_answer_to_both_their_names(tmp_path: Path, name: object) -> None:
    data = lines(tmp_path / "mbpp.jsonl", MBPP)
    generations = kept(tmp_path / "kept.jsonl", (name, "def f2(): return 2"), (3, "def f3(): return 2"))
    judged = judge_generations("mbpp", generations, data, Judging())
    assert [(each.task_id, each.verdict.correct) for each in judged] == [("2", True), ("3", False)]


def test_unusable_tests_name_their_problem(tmp_path: Path) -> None:
    data = lines(tmp_path / "mbpp.jsonl", [MBPP[0], MBPP[1] | {"test_imports": ["import no_such_module"]}])
    generations = kept(tmp_path / "kept.jsonl", (2, "def f2(): return 2"), (3, "def f3(): return 3"))
    with pytest.raises(DataFileError, match="problem 3: its tests can't be used: ModuleNotFoundError"):
        judge_generations("mbpp", generations, data, Judging())


ADD = {"task_id": "x/0", "prompt": "def add(a, b):\n    'The sum.'\n", "entry_point": "add"}


@pytest.mark.parametrize(
    ("test", "complaint"),
    [
        ("import no_such\ndef check(candidate):\n    assert candidate(1, 2) == 3\n", "No module named 'no_such'"),
        ("def check(candidate):\n    assert absent(candidate(1, 2), 3)\n", "name 'absent' is not defined"),
        ("def check(candidate):\n    assert candidate(1, 2) == absent(3)\n", "name 'absent' is not defined"),
        ("def check(candidate):\n    x = candidate(1, 2)\n    import no_such\n", "No module named 'no_such'"),
        ("def check(candidate):\n    assert candidate(1, 2) == 4\n", "a wrong answer"),
        ("def check(candidate):\n    assert candidate(1, 2).real == 3 < 1 / 0\n", "ZeroDivisionError"),
        ("assert 1 == 2\ndef check(candidate):\n    assert candidate(1, 2) == 3\n", "AssertionError"),
    ],
)
@pytest.mark.parametrize("completion", ["    return a + b\n", "    return a - b\n"])
def test_tests_that_fail_by_themselves_are_not_charged_to_the_program(
    tmp_path: Path, test: str, complaint: str, completion: str
) -> None:
    good = {**ADD, "task_id": "x/1", "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n"}
    data = lines(tmp_path / "data.jsonl", [good, ADD | {"test": test, "canonical_solution": "    return a + b\n"}])
    generations = kept(tmp_path / "kept.jsonl", ("x/1", "nothing"), ("x/0", completion))
    with pytest.raises(DataFileError) as error:
        judge_generations("humaneval", generations, data, Judging())
    assert "problem x/0: its tests can't be used: " in str(error.value) and complaint in str(error.value)


@pytest.mark.parametrize(
    ("completion", "detail"),
    [
        ("    return absent\n", "NameError"),
        ("    import no_such\n    return 3\n", "ModuleNotFoundError"),
        ("    return a - b\n", "a wrong answer"),
        ("    import os\n    os._exit(0)\n    return 3\n", "the program ended"),
    ],
)
@pytest.mark.parametrize("reference", ["    return a + b\n", "", None])
def test_a_programs_own_errors_are_charged_to_it(
    tmp_path: Path, completion: str, detail: str, reference: str | None
) -> None:
    row = {**ADD, "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n", "canonical_solution": reference}
    data = lines(tmp_path / "data.jsonl", [row])
    (judged,) = judge_generations("humaneval", kept(tmp_path / "kept.jsonl", ("x/0", completion)), data, Judging())
    assert (judged.verdict.correct, judged.verdict.detail) == (False, detail)
