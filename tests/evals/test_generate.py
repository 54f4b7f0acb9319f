import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, decoders, models
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evals import generate
from evals.benchmarks import BENCHMARKS, Judging
from evals.code_prompts import CHAT_ANSWER, Style, code_prompt
from evals.generate import _LoadedModel, generate_completions
from evals.json_lines import DataFileError
from evals.judging import judge_generations
from evals.lm_eval_task import TASKS_FOLDER, task_file
from evals.prompts import evaluation_prompt

PROBLEMS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "q", "answer": "#### 2"},
    "math": {"problem": "p", "solution": r"$\boxed{2}$"},
    "humaneval": {
        "task_id": "HumanEval/0",
        "prompt": "def f():\n",
        "entry_point": "f",
        "test": "def check(f):\n    f()",
    },
    "mbpp": {"task_id": 2, "prompt": "p", "code": "def f(): pass", "test_list": ["assert f() is None"]},
}


@pytest.fixture
def gsm8k_file(tmp_path: Path) -> Path:
    """Twelve problems whose prompts differ in length."""
    file = tmp_path / "test.jsonl"
    rows = [{"question": f"{i} {'2 ' * (i % 5)}?\n3", "answer": f"work\n#### {i % 3}"} for i in range(12)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, tokens: int) -> str:
    """One row, one full forward pass a token, cut at eos and at the first stop string."""
    ids = tokenizer(prompt).input_ids
    start = len(ids)
    for _ in range(tokens):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    text = tokenizer.decode(ids[start:], skip_special_tokens=True)
    for stop in BENCHMARKS["gsm8k"].stop_strings("alpaca"):
        text = text.split(stop)[0]
    return text


@pytest.mark.parametrize("batch_size", [12, 5])
def test_generations_are_greedy_kept_and_rescored(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, gsm8k_file: Path, tmp_path: Path, batch_size: int
) -> None:
    # what a chat model's own configuration would do to greedy decoding must not happen
    own = GenerationConfig(do_sample=True, temperature=5.0, repetition_penalty=9.0, eos_token_id=5)
    model.generation_config = own
    model.train()
    out = tmp_path / "generations.jsonl"
    number = generate_completions(model, tokenizer, "gsm8k", gsm8k_file, out, batch_size=batch_size, max_gen_toks=30)
    assert model.training and model.generation_config is own
    model.eval()
    kept, problems = read(out), read(gsm8k_file)
    assert number == len(kept) == len(problems)
    for i, (generation, problem) in enumerate(zip(kept, problems, strict=True)):
        prompt = evaluation_prompt(str(problem["question"]))
        assert generation["task_id"] == f"gsm8k/{i}"
        assert generation["prompt"] == prompt
        assert generation["completion"] == greedy(model, tokenizer, prompt, 30)
    judged = judge_generations("gsm8k", out, gsm8k_file, Judging())
    assert [(each.task_id, each.verdict.gold) for each in judged] == [(f"gsm8k/{i}", str(i % 3)) for i in range(12)]


def test_right_answers_are_counted_and_rows_stop_at_stop_strings(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    gsm8k_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that says "The answer is : 1 Question 0 0 0 ..." for ever."""
    words = ["The", "answer", "is", ":", "1", "Question"]
    script = [tokenizer.convert_tokens_to_ids(word) for word in words]
    steps = 0

    def scripted(input_ids: torch.Tensor, **kwargs: object) -> object:
        nonlocal steps
        token = script[steps] if steps < len(script) else tokenizer.convert_tokens_to_ids("0")
        steps += 1
        output = LlamaForCausalLM.forward(model, input_ids=input_ids, **kwargs)
        output.logits[:] = 0.0
        output.logits[..., token] = 1.0
        return output

    monkeypatch.setattr(model, "forward", scripted)
    monkeypatch.setattr(tokenizer, "decode", _joining_colons(tokenizer.decode))
    monkeypatch.setattr(tokenizer, "batch_decode", _joining_colons(tokenizer.batch_decode))
    out = tmp_path / "generations.jsonl"
    generate_completions(model, tokenizer, "gsm8k", gsm8k_file, out, batch_size=12, max_gen_toks=100)
    assert steps == generate._STOP_INTERVAL
    judged = judge_generations("gsm8k", out, gsm8k_file, Judging())
    assert [each.verdict.correct for each in judged] == [i % 3 == 1 for i in range(12)]
    assert {str(generation["completion"]) for generation in read(out)} == {"The answer is: 1 "}


def _joining_colons(decode):  # type: ignore[no-untyped-def]
    def joined(*args, **kwargs):  # type: ignore[no-untyped-def]
        text = decode(*args, **kwargs)
        return text.replace(" :", ":") if isinstance(text, str) else [part.replace(" :", ":") for part in text]

    return joined


@pytest.mark.parametrize("llamas", [True, False])
def test_the_first_line_of_an_indented_program_keeps_its_indentation(model: LlamaForCausalLM, llamas: bool) -> None:
    """With the decoder that transformers gives Llama's tokenizer, and with one that adds and drops nothing."""
    pieces = ["<s>", "</s>", "1", "\u2581\u2581\u2581", "\u2581return", "\u2581", "\n", "x"]
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="1"))
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence([*steps, *([decoders.Strip(content=" ", left=1)] if llamas else [])])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    lm = _LoadedModel(pretrained=model, tokenizer=tokenizer, batch_size=1)
    assert lm.tok_decode([3, 4, 5, 7, 6]) == "    return x\n"
    # a word that begins an answer stands as the decoder has it
    assert lm.tok_decode([4, 5, 7]) == ("return x" if llamas else " return x")
    assert lm.tok_decode([7, 6]) == "x\n" and lm.tok_decode(1, skip_special_tokens=False) == "</s>"


def test_limit_takes_the_first_problems(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, gsm8k_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "generations.jsonl"
    number = generate_completions(model, tokenizer, "gsm8k", gsm8k_file, out, batch_size=4, max_gen_toks=8, limit=3)
    assert number == 3
    assert [generation["task_id"] for generation in read(out)] == ["gsm8k/0", "gsm8k/1", "gsm8k/2"]
    assert len(judge_generations("gsm8k", out, gsm8k_file, Judging())) == 3


def test_math_runs_too(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    file, out = tmp_path / "math.jsonl", tmp_path / "generations.jsonl"
    file.write_text(json.dumps({"problem": "{{x}} ${1}$", "solution": r"$\boxed{\frac{1}{2}}$", "level": "Level 5"}))
    generate_completions(model, tokenizer, "math", file, out, batch_size=4, max_gen_toks=8)
    (kept,) = read(out)
    assert kept["prompt"] == evaluation_prompt("{{x}} ${1}$")
    (judged,) = judge_generations("math", out, file, Judging())
    assert judged.verdict.gold == r"\frac{1}{2}"


def test_bad_calls_leave_no_output(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, gsm8k_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "generations.jsonl"
    with pytest.raises(ValueError, match="no room for a prompt"):
        generate_completions(model, tokenizer, "gsm8k", gsm8k_file, out, batch_size=4, max_gen_toks=256)
    with pytest.raises(DataFileError, match="cannot be read"):
        generate_completions(model, tokenizer, "gsm8k", tmp_path / "none.jsonl", out, batch_size=4, max_gen_toks=8)
    assert not out.exists()


@pytest.mark.parametrize("style", get_args(Style))
@pytest.mark.parametrize("name", BENCHMARKS)
def test_lm_eval_finds_the_tasks_and_they_agree_with_the_registry(name: str, style: Style, tmp_path: Path) -> None:
    benchmark = BENCHMARKS[name]
    assert (TASKS_FOLDER / f"{name}.yaml").read_text() == task_file(benchmark), "run python -m evals.lm_eval_task"
    (tmp_path / "test.jsonl").write_text(json.dumps(PROBLEMS[name]) + "\n")
    metadata = {"data_file": str(tmp_path / "test.jsonl"), "style": style}
    manager = TaskManager(include_path=TASKS_FOLDER, include_defaults=False, metadata=metadata)
    task = manager.load([benchmark.task_name])["tasks"][benchmark.task_name]
    assert task.config.task == benchmark.task_name
    assert task.config.generation_kwargs == {
        "do_sample": False,
        "max_gen_toks": benchmark.max_gen_toks,
        "until": list(benchmark.stop_strings(style)),
    }
    assert task.config.gen_prefix == benchmark.answer_opening(style)
    assert task.config.metadata["version"] and task.config.num_fewshot == 0
    (document,) = task.test_docs()
    assert task.doc_to_text(document) == benchmark.prompt(PROBLEMS[name], style)
    assert task.process_results(document, ["nothing"]) == {"pass_at_1": 0.0}


@pytest.mark.parametrize("style", ["alpaca", "raw", "chat"])
def test_programs_are_asked_for_in_each_style(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, style: Style
) -> None:
    file, out = tmp_path / "humaneval.jsonl", tmp_path / "generations.jsonl"
    row = {"task_id": "HumanEval/7", "prompt": 'def f():\n    """{{x}}"""\n', "entry_point": "f"}
    file.write_text(json.dumps(row | {"test": "def check(candidate):\n    assert candidate() == 1\n"}))
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    generate_completions(model, tokenizer, "humaneval", file, out, batch_size=1, max_gen_toks=8, style=style)
    tokenizer.chat_template = None
    (kept,) = read(out)
    assert kept["task_id"] == "HumanEval/7"
    problem = row["prompt"].strip()
    expected = {
        "alpaca": code_prompt(problem, "alpaca"),
        "raw": problem + "\n",
        "chat": f"<user>{code_prompt(problem, 'chat')}<assistant>{CHAT_ANSWER}",
    }[style]
    assert kept["prompt"] == expected
    (judged,) = judge_generations("humaneval", out, file, Judging())
    assert not judged.verdict.correct


def test_a_chat_prompt_needs_a_chat_template(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, gsm8k_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no chat template"):
        generate_completions(
            model, tokenizer, "humaneval", gsm8k_file, tmp_path / "out", batch_size=1, max_gen_toks=8, style="chat"
        )
