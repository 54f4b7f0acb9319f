"""score: a damaged file is one line that names its place; what cannot be used is left out if the user says so."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.json_lines import DEEPEST, LARGEST_ROW, read_json_lines
from experiments.commands.main import main

Row = dict[str, Any]
GOOD: dict[str, Row] = {
    "gsm8k": {"question": "1 + 1?", "answer": "two\n#### 2"},
    "math": {"problem": "1 + 1?", "solution": r"\boxed{2}"},
    "humaneval": {
        "task_id": "HumanEval/7",
        "prompt": "def add(a, b):\n    'The sum.'\n",
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    },
    "mbpp": {"task_id": 7, "text": "The sum.", "code": "def f(a): return a", "test_list": ["assert f(1) == 1"]},
}
EVALPLUS: Row = {
    "task_id": "Mbpp/8",
    "prompt": '"""The same."""',
    "entry_point": "f",
    "canonical_solution": "def f(a): return a",
    "assertion": "assert f(1) == 1",
    "atol": 0,
}
KEPT = {"gsm8k": "gsm8k/0", "math": "math/0", "humaneval": "HumanEval/7", "mbpp": 7}
NESTED = "[" * 5000 + "]" * 5000


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A read that never ends is a failure here, not of the whole suite."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture
def scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Scores the two files, which are written unless something else lies there: exit code and what was said."""

    def score(benchmark: str, data: str | bytes | None, kept: str | bytes | None, *options: str) -> tuple[int, str]:
        for name, content in (("data.jsonl", data), ("kept.jsonl", kept)):
            if content is not None:
                (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        files = (str(tmp_path / "kept.jsonl"), "--data", str(tmp_path / "data.jsonl"))
        code = main(["score", benchmark, *files, *options])
        written = capsys.readouterr()
        return code, written.err if code else written.out

    return score


def refused(answer: tuple[int, str], *expected: str) -> None:
    code, said = answer
    assert code == 2
    assert len(said.splitlines()) == 1 and len(said) < 900
    assert "nobody foresaw" not in said
    for each in expected:
        assert each in said


def line(row: Row) -> str:
    return json.dumps(row) + "\n"


def kept(benchmark: str, **changed: Any) -> str:
    return line({"task_id": KEPT[benchmark], "completion": "The answer is: 2"} | changed)


@pytest.mark.parametrize("benchmark", GOOD)
def test_what_is_whole_is_scored(benchmark: str, scored: Callable[..., tuple[int, str]]) -> None:
    for before, after in (("", ""), ("\ufeff", "\r"), ("\ufeff \n[", "]\n"), (" [", "]")):
        data = before + line(GOOD[benchmark]).strip() + after
        code, said = scored(benchmark, data, before + kept(benchmark).strip() + after)
        assert code == 0 and "(1 of 1;" in said if benchmark in ("gsm8k", "math") else "(0 of 1;" in said


# what a row becomes, or a line beside a good one, and a part of what is said
DAMAGED_DATA: list[tuple[str, Row | str, str]] = [
    ("gsm8k", {"answer": "#### " + "9" * 400}, "too large an integer"),
    ("gsm8k", {"answer": "#### " + "9" * 5000}, "no integer"),
    ("gsm8k", {"answer": "#### 1e999"}, "no integer"),
    ("gsm8k", {"answer": "#### NaN"}, "no integer"),
    ("gsm8k", {"answer": 1e999}, "is not a string"),
    ("gsm8k", {"question": None}, "is not a string"),
    ("gsm8k", {"question": "\ud83d"}, "half a surrogate pair, \\ud83d"),
    ("gsm8k", {"task_id": ["x"]}, '"task_id" is no text'),
    ("gsm8k", {"task_id": None}, '"task_id" is no text'),
    ("gsm8k", {"task_id": "a\nb"}, '"task_id" is no text'),
    ("gsm8k", {"task_id": "\udc00"}, '"task_id" is no text'),
    ("gsm8k", {"task_id": "gsm8k/0"}, "stands twice"),
    ("gsm8k", '{"question": "q", "answer": ' + NESTED + "}", "nested too deeply"),
    ("gsm8k", '{"question": "q", "answer": "#### 1", "x": ' + "[" * DEEPEST + "]" * DEEPEST + "}", "nested deeper"),
    ("gsm8k", '{"question": "q", "answer": "#### 1", "x": ' + "9" * 5000 + "}", "not valid JSON"),
    ("gsm8k", '{"question": "q", "answer": "#### 1\0"}', "not valid JSON"),
    ("gsm8k", '{"question": "' + "q" * LARGEST_ROW + '", "answer": "#### 1"}', "larger than a row"),
    ("gsm8k", "null", "not a JSON object"),
    ("math", {"solution": "2"}, "no \\boxed"),
    ("math", {"solution": {"\\boxed": 2}}, "is not a string"),
    ("math", {"problem": ["p"]}, "is not a string"),
    ("humaneval", {"test": 5}, "is not a string"),
    ("humaneval", {"test": "assert add(1, 2) == 3"}, "no function check"),
    ("humaneval", {"entry_point": "add("}, "no name of a function"),
    ("humaneval", {"canonical_solution": ["return 1"]}, "is not a string"),
    ("humaneval", {"prompt": "\udc00"}, "half a surrogate pair"),
    ("humaneval", {"task_id": "humaneval/7"}, "stands twice"),
    ("humaneval", {"task_id": 7}, "is not a string"),
    ("mbpp", {"test_list": []}, '"test_list" is empty'),
    ("mbpp", {"test_list": 5}, "no list of strings"),
    ("mbpp", {"test_list": "assert f(1) == 1"}, "no list of strings"),
    ("mbpp", {"test_list": [5]}, "no list of strings"),
    ("mbpp", {"test_list": ["assert f("]}, "no valid Python"),
    ("mbpp", {"test_list": ["assert f(1)\0"]}, "null bytes"),
    ("mbpp", {"test_list": ["assert 1 == 1"]}, "call no function"),
    ("mbpp", {"test_list": ["assert f('\ud83d')"]}, "surrogates not allowed"),
    ("mbpp", {"test_list": ["assert f(" + "(" * 500 + ")" * 500 + ")"]}, "no valid Python"),
    ("mbpp", {"test_list": ["assert f(" + "-" * 100_000 + "1)"]}, "Error"),
    ("mbpp", {"test_imports": "import re"}, "no list of strings"),
    ("mbpp", {"test_setup_code": {}}, "is not a string"),
    ("mbpp", {"code": 1e999}, "is not a string"),
    ("mbpp", {"task_id": "MBPP/7"}, "stands twice"),
    ("mbpp", {"task_id": True}, '"task_id" is no text'),
    ("mbpp", EVALPLUS | {"test_list": None, "atol": float("nan")}, "not a finite number"),
    *(
        ("mbpp", line(EVALPLUS | changed), complaint)
        for changed, complaint in (
            ({"atol": float("nan")}, "not a finite number"),
            ({"atol": float("inf")}, "not a finite number"),
            ({"atol": "0"}, "not a number"),
            ({"atol": None}, '"atol" is missing'),
            ({"assertion": "assert f("}, "SyntaxError"),
            ({"assertion": 5}, "is not a string"),
            ({"assertion": "assert g(1)"}, "never calls f"),
            ({"assertion": "assert f(" + "-" * 100_000 + "1)"}, "Error"),
            ({"entry_point": None}, '"entry_point" is missing'),
            ({"prompt": 3}, "is not a string"),
            ({"canonical_solution": 3}, "is not a string"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("benchmark", "second", "complaint"), DAMAGED_DATA)
def test_a_damaged_row_of_the_data_is_named(
    benchmark: str, second: Row | str, complaint: str, scored: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    good = GOOD[benchmark]
    if isinstance(second, dict):
        second = json.dumps(good | ({} if "task_id" not in good else {"task_id": "other"}) | second)
    answer = scored(benchmark, line(good) + second.strip() + "\n", kept(benchmark))
    refused(answer, f"{tmp_path / 'data.jsonl'}, line 2: ", complaint)
    assert not (tmp_path / "kept.verdicts.jsonl").exists()
    if answer[1].count("not valid JSON") == 0:  # the same rows as one array
        refused(
            scored(benchmark, f"[{line(good)}, {second}]", None), f"{tmp_path / 'data.jsonl'}, object 2: ", complaint
        )


@pytest.mark.parametrize(
    ("benchmark", "second", "complaint"),
    [
        ("gsm8k", {"completion": 2}, "is not a string"),
        ("gsm8k", {"completion": None}, "is not a string"),
        ("gsm8k", {"task_id": [0]}, '"task_id" is no text'),
        ("gsm8k", {"task_id": float("nan")}, '"task_id" is no text'),
        ("gsm8k", {"task_id": float("inf")}, '"task_id" is no text'),
        ("gsm8k", {"task_id": "gsm8k/\udc00"}, '"task_id" is no text'),
        ("gsm8k", {"task_id": "gsm8k/0"}, "stands twice"),
        ("gsm8k", {"task_id": "gsm8k/9"}, "has no problem"),
        ("gsm8k", '{"task_id": "gsm8k/0", "completion": ' + NESTED + "}", "nested too deeply"),
        ("gsm8k", '{"task_id": "gsm8k/0", "completion": "', "not valid JSON"),
        ("gsm8k", '{"task_id": "gsm8k/0", "completion": "' + "1" * LARGEST_ROW + '"}', "larger than a row"),
        ("mbpp", {"task_id": "Mbpp/7"}, "stands twice"),
        ("humaneval", {"completion": ["    return a"]}, "is not a string"),
        ("math", "\x00\x00", "not valid JSON"),
    ],
)
def test_a_damaged_line_of_the_generations_is_named(
    benchmark: str, second: Row | str, complaint: str, scored: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    if isinstance(second, dict):
        second = kept(benchmark, **second)
    answer = scored(benchmark, line(GOOD[benchmark]), kept(benchmark) + second)
    refused(answer, f"{tmp_path / 'kept.jsonl'}, line 2: ", complaint)


def a_sparse_file(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (Path.mkdir, "cannot be read: Is a directory"),
        (os.mkfifo, "no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
        (lambda path: path.write_bytes(b" \n\n"), "is empty"),
        (lambda path: path.write_bytes(b" [ ]\n"), "holds no rows"),
        (lambda path: path.write_bytes(b"[{]"), "object 1: neither JSON lines nor a JSON array"),
        (
            lambda path: path.write_text("[" + json.dumps(GOOD["gsm8k"] | {"completion": "", "task_id": "gsm8k/0"})),
            "end",
        ),
        (lambda path: path.write_bytes(b"[" * 100_000), "object 1: neither JSON lines nor a JSON array"),
        (lambda path: path.write_bytes(b"\xff\xfe{\0}\0"), "line 1: not valid JSON"),
        (lambda path: path.write_bytes(b"\xef\xbb\xbf"), "line 1: not valid JSON"),
        (a_sparse_file, "larger than 2 GiB"),
    ],
)
@pytest.mark.parametrize("which", ["data.jsonl", "kept.jsonl"])
def test_what_is_no_file_of_rows_is_refused(
    make: Callable[[Path], Any], complaint: str, which: str, scored: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    make(tmp_path / which)
    data, generations = line(GOOD["gsm8k"]), kept("gsm8k")
    answer = scored("gsm8k", data, None) if which == "kept.jsonl" else scored("gsm8k", None, generations)
    refused(answer, str(tmp_path / which), complaint)


@pytest.mark.parametrize(
    ("benchmark", "completion"),
    [
        ("gsm8k", "The answer is: " + "9" * 400),
        ("gsm8k", "The answer is: 1/" + "9" * 5000),
        ("gsm8k", "\ud83d\0 The answer is: -1e999"),
        ("math", "The answer is: " + r"\frac" * 10_000 + "{" * 10_000),
        ("math", "The answer is: \udc00"),
        ("humaneval", "    return " + "(" * 5000),
        ("humaneval", "    return '\udc00\0'\n"),
        ("mbpp", "def f(a): return " + "-" * 100_000 + "1"),
    ],
)
def test_any_completion_has_a_verdict(benchmark: str, completion: str, scored: Callable[..., tuple[int, str]]) -> None:
    code, said = scored(benchmark, line(GOOD[benchmark]), kept(benchmark, completion=completion))
    assert code == 0 and "(0 of 1;" in said


WRONG = "def check(candidate):\n    assert candidate(1, 2) == 4\n"
UNUSABLE = [
    {"test": WRONG},  # the row's own solution fails it
    {"test": "import no_such\n" + str(GOOD["humaneval"]["test"])},
    {"test": "def check(candidate):\n    pass\n"},
    {"test": "raise ValueError('a\\nb')\ndef check(candidate):\n    pass\n"},
    {"test": "assert add(1, 2) == 3"},  # which no completion is run against
]
COMPLETIONS = ["    return a + b\n", "    return 4\n", "nothing"]


@pytest.mark.parametrize("unusable", UNUSABLE)
def test_what_cant_be_used_is_left_out_if_the_user_says_so_whatever_the_completion(
    unusable: Row, scored: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    good, ids = GOOD["humaneval"], ["x/1", "x/2", "x/3"]
    data = line(good) + "".join(line(good | {"task_id": name} | unusable) for name in ids)
    answers = kept("humaneval", completion="    return a + b\n") + "".join(
        kept("humaneval", task_id=name, completion=completion)
        for name, completion in zip(ids, COMPLETIONS, strict=True)
    )
    refused(scored("humaneval", data, answers), f"{tmp_path / 'data.jsonl'}, line ")
    assert not (tmp_path / "kept.verdicts.jsonl").exists()

    code, said = scored("humaneval", data, None, "--leave-out-unusable")
    assert code == 0
    assert "pass@1 100.0 % (1 of 1; " in said.splitlines()[0]
    assert "without 3 problems (x/1, x/2, x/3) that can't be used" in said.splitlines()[0]
    verdicts = read_json_lines(tmp_path / "kept.verdicts.jsonl")
    assert [(verdict["task_id"], verdict["correct"]) for verdict in verdicts] == [
        ("HumanEval/7", True), *((name, None) for name in ids),
    ]  # fmt: skip
    assert all("can't be used: " in verdict["detail"] for verdict in verdicts[1:])


def test_a_gold_answer_that_cant_be_read_is_left_out_and_its_row_must_still_be_one(
    scored: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    rows = [GOOD["gsm8k"], {"question": "?", "answer": "none"}, *({"question": "?", "answer": "#### 3"},) * 2]
    answers = "".join(kept("gsm8k", task_id=f"gsm8k/{i}") for i in range(3))
    data = "".join(map(line, rows))
    code, said = scored("gsm8k", data, answers, "--leave-out-unusable")
    assert code == 0
    assert "(1 of 2; " in said and "without 1 problem (gsm8k/1) that can't be used" in said
    assert "1 of the 4 problems of" in said
    refused(scored("gsm8k", data + "{}\n", None, "--leave-out-unusable"), "line 5: ")
    refused(scored("gsm8k", line(rows[1]), kept("gsm8k"), "--leave-out-unusable"), "not one of the 1 problem (gsm8k/0)")


def test_many_that_are_left_out_are_counted_and_the_first_named(scored: Callable[..., tuple[int, str]]) -> None:
    data = line(GOOD["gsm8k"]) + line({"question": "?", "answer": ""}) * 7
    answers = "".join(kept("gsm8k", task_id=i) for i in (f"gsm8k/{i}" for i in range(8)))
    _, said = scored("gsm8k", data, answers, "--leave-out-unusable")
    assert "7 problems (gsm8k/1, gsm8k/2, gsm8k/3, gsm8k/4, gsm8k/5, ...)" in said
