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
