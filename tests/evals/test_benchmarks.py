import json
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals import benchmarks
from evals.benchmarks import BENCHMARKS, AnswerBenchmark, Judging, get_benchmark, load_rows
from evals.generate import generate_completions
from evals.json_lines import DataFileError
from evals.judging import judge_generations
from evals.lm_eval_task import task_file
from evals.prompts import evaluation_prompt
from evals.published import local_file, published_set
from evals.verdict import Verdict

CAPITALS = """
from evals.benchmarks.interface import AnswerBenchmark, PublishedSet
from evals.verdict import Verdict


def score(completion, row):
    return Verdict(completion.strip() == row["capital"], completion.strip(), row["capital"])


BENCHMARK = AnswerBenchmark(
    name="capitals",
    label="Capitals",
    published=PublishedSet("somebody/capitals", files={"test": ("world.jsonl",)}),
    fields=("country", "capital"),
    max_gen_toks=16,
    typical_tokens=3,
    test_size=2,
    question_field="country",
    score=score,
    gold=lambda row: row["capital"],
    solution=lambda row: f"The answer is: {row['capital']}",
)
"""
GSM8K_LINE = json.dumps({"question": "q", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"})


def answers(name: str) -> AnswerBenchmark:
    chosen = BENCHMARKS[name]
    assert isinstance(chosen, AnswerBenchmark)
    return chosen


def test_unknown_benchmark_names_those_there_are() -> None:
    with pytest.raises(KeyError, match="gsm8k, math"):
        get_benchmark("gsm9k")


def test_the_order_is_that_of_the_tables() -> None:
    assert [*BENCHMARKS] == ["gsm8k", "math", "humaneval", "mbpp"]


def test_a_new_benchmark_is_one_file(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put into the folder it is found, read, prompted, generated for, judged, and known to lm-eval."""
    (tmp_path / "capitals.py").write_text(CAPITALS)
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])
    every = {benchmark.name: benchmark for benchmark in benchmarks.found()}
    assert [*every] == ["capitals", *BENCHMARKS]
    monkeypatch.setitem(BENCHMARKS, "capitals", every["capitals"])
    (tmp_path / "capitals").mkdir()
    file = tmp_path / "capitals" / "world.jsonl"
    rows = [{"country": "France", "capital": "Paris"}, {"country": "Peru", "capital": "Lima"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert local_file(tmp_path, "capitals", "test") == file
    assert published_set("capitals").repository == "somebody/capitals"
    assert load_rows("capitals", file) == rows
    chosen = answers("capitals")
    assert chosen.prompt(rows[0], "alpaca") == evaluation_prompt("France")
    assert chosen.sft_rows(rows)[1] == {"query": "Peru", "response": "The answer is: Lima"}
    assert [verdict.correct for verdict in chosen.judge(["Paris\n", "Cusco"], rows, Judging())] == [True, False]

    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "capitals.yaml").write_text(task_file(chosen))
    manager = TaskManager(include_path=tmp_path / "tasks", include_defaults=False, metadata={"data_file": str(file)})
    task = manager.load(["impact_capitals"])["tasks"]["impact_capitals"]
    document, _ = task.test_docs()
    assert task.process_results(document, ["Paris"]) == {"pass_at_1": 1.0}
    assert task.config.generation_kwargs["max_gen_toks"] == 16

    out = tmp_path / "generations.jsonl"
    assert generate_completions(model, tokenizer, "capitals", file, out, batch_size=2, max_gen_toks=8) == 2
    assert [each.task_id for each in judge_generations("capitals", out, file, Judging())] == [
        "capitals/0",
        "capitals/1",
    ]


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
