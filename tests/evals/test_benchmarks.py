import json
from pathlib import Path

import pytest

from evals.benchmarks import BENCHMARKS, AnswerBenchmark, get_benchmark, load_rows
from evals.json_lines import DataFileError
from evals.verdict import Verdict

GSM8K_LINE = json.dumps({"question": "q", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"})


def answers(name: str) -> AnswerBenchmark:
    chosen = BENCHMARKS[name]
    assert isinstance(chosen, AnswerBenchmark)
    return chosen


def test_unknown_benchmark_names_those_there_are() -> None:
    with pytest.raises(KeyError, match="gsm8k, math"):
        get_benchmark("gsm9k")


@pytest.mark.parametrize(
    ("bad_line", "complaint"),
    [
        ('{"question": "q"', "not valid JSON"),
        ("", "not valid JSON"),
        ("3", "not a JSON object"),
        ('{"question": "q"}', 'field "answer" is missing'),
        ('{"question": 3, "answer": "#### 2"}', 'field "question" is not a string'),
        ('{"question": "q", "answer": "2"}', "no integer after"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, bad_line: str, complaint: str) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text(f"{GSM8K_LINE}\n{bad_line}\n{GSM8K_LINE}\n")
    with pytest.raises(DataFileError) as error:
        load_rows("gsm8k", file)
    assert f"{file}, line 2: " in str(error.value)
    assert complaint in str(error.value)


def test_undecodable_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_bytes(GSM8K_LINE.encode() + b"\n\xff\xfe{\n")
    with pytest.raises(DataFileError, match="line 2: not valid JSON"):
        load_rows("gsm8k", file)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"nowhere\.jsonl: cannot be read"):
        load_rows("gsm8k", tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataFileError, match=r"empty\.jsonl: the file is empty"):
        load_rows("gsm8k", tmp_path / "empty.jsonl")


def test_math_row_without_a_box_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps({"problem": "p", "solution": "2"}) + "\n")
    with pytest.raises(DataFileError, match=r"line 1: .*no \\boxed answer"):
        load_rows("math", file)


def test_line_separators_inside_strings_are_no_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    row = {"question": "a\u2028b", "answer": "#### 2"}
    file.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert load_rows("gsm8k", file) == [row]


def test_sft_rows() -> None:
    assert answers("gsm8k").sft_rows([json.loads(GSM8K_LINE)]) == [
        {"query": "q", "response": "1 + 1 = 2\nThe answer is: 2"},
    ]
    solved = {"problem": "p", "solution": r"so $\boxed{\frac{1}{2}}$."}
    unboxed = {"problem": "p", "solution": r"so $\boxed 2$."}
    assert answers("math").sft_rows([solved, unboxed]) == [
        {"query": "p", "response": "so $\\boxed{\\frac{1}{2}}$.\nThe answer is: \\frac{1}{2}"},
    ]


@pytest.mark.parametrize(
    ("benchmark", "file", "rows", "without_gold", "unreachable"),
    [
        ("gsm8k", "gsm8k/test.jsonl", 660, 0, 0),
        ("gsm8k", "gsm8k/train.jsonl", 7473, 0, 0),
        # two write "\boxed 2"; of the others, those whose box ends in a full stop, which the scorer takes off the
        # prediction but not off the gold answer
        ("math", "math/train.jsonl", 7500, 2, 4),
    ],
)
def test_real_gold_answers_score(
    real_data: Path, benchmark: str, file: str, rows: int, without_gold: int, unreachable: int
) -> None:
    chosen = answers(benchmark)
    loaded = load_rows(benchmark, real_data / file)
    converted = 0
    missed: list[Verdict] = []
    of_wrong_answers: list[Verdict] = []
    for row in loaded:
        for sft in chosen.sft_rows([row]):
            converted += 1
            verdict = chosen.score(sft["response"], row)
            if not verdict.correct:
                missed.append(verdict)
            of_wrong_answers.append(
                chosen.score(sft["response"].rpartition("The answer is: ")[0] + "The answer is: 98765", row)
            )
    assert (len(loaded), len(loaded) - converted) == (rows, without_gold)
    assert [verdict for verdict in missed if not verdict.gold.endswith(".")] == []
    assert len(missed) == unreachable
    assert [verdict for verdict in of_wrong_answers if verdict.correct] == []
