import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evals import generate
from evals.benchmarks import BENCHMARKS, DataFileError
from evals.generate import TASKS_FOLDER, evaluate_model
from evals.prompts import evaluation_prompt
from evals.rescoring import rescore


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
    for stop in BENCHMARKS["gsm8k"].stop_strings:
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
    summary = evaluate_model(model, tokenizer, "gsm8k", gsm8k_file, out, batch_size=batch_size, max_gen_toks=30)
    assert model.training and model.generation_config is own
    model.eval()
    kept, problems = read(out), read(gsm8k_file)
    assert summary.n == len(kept) == len(problems)
    assert list(tmp_path.glob("*.partial")) == []
    for i, (generation, problem) in enumerate(zip(kept, problems, strict=True)):
        prompt = evaluation_prompt(str(problem["question"]))
        assert generation["task_id"] == f"gsm8k/{i}"
        assert generation["prompt"] == prompt
        assert generation["completion"] == greedy(model, tokenizer, prompt, 30)
        assert generation["gold"] == str(i % 3)
    assert [generation["correct"] for generation in kept] == summary.correct
    assert rescore(out, gsm8k_file, "gsm8k") == summary


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
    summary = evaluate_model(model, tokenizer, "gsm8k", gsm8k_file, out, batch_size=12, max_gen_toks=100)
    assert steps == generate._STOP_INTERVAL
    assert summary.correct == [i % 3 == 1 for i in range(12)]
    assert summary.accuracy == pytest.approx(100 / 3)
    assert {str(generation["completion"]) for generation in read(out)} == {"The answer is: 1 "}


def _joining_colons(decode):  # type: ignore[no-untyped-def]
    def joined(*args, **kwargs):  # type: ignore[no-untyped-def]
        text = decode(*args, **kwargs)
        return text.replace(" :", ":") if isinstance(text, str) else [part.replace(" :", ":") for part in text]

    return joined


def test_limit_takes_the_first_problems(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, gsm8k_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "generations.jsonl"
    summary = evaluate_model(model, tokenizer, "gsm8k", gsm8k_file, out, batch_size=4, max_gen_toks=8, limit=3)
    assert summary.n == 3
    assert [generation["task_id"] for generation in read(out)] == ["gsm8k/0", "gsm8k/1", "gsm8k/2"]
    assert rescore(out, gsm8k_file, "gsm8k") == summary


def test_math_runs_too(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    file, out = tmp_path / "math.jsonl", tmp_path / "generations.jsonl"
    file.write_text(json.dumps({"problem": "{{x}} ${1}$", "solution": r"$\boxed{\frac{1}{2}}$", "level": "Level 5"}))
    summary = evaluate_model(model, tokenizer, "math", file, out, batch_size=4, max_gen_toks=8)
    (kept,) = read(out)
    assert kept["prompt"] == evaluation_prompt("{{x}} ${1}$")
    assert kept["gold"] == r"\frac{1}{2}"
    assert rescore(out, file, "math") == summary


def test_bad_calls_leave_no_output(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, gsm8k_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "generations.jsonl"
    with pytest.raises(ValueError, match="no room for a prompt"):
        evaluate_model(model, tokenizer, "gsm8k", gsm8k_file, out, batch_size=4, max_gen_toks=256)
    with pytest.raises(DataFileError, match="cannot be read"):
        evaluate_model(model, tokenizer, "gsm8k", tmp_path / "none.jsonl", out, batch_size=4, max_gen_toks=8)
    assert not out.exists()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"task_id": "gsm8k/99", "completion": ""}, "has no problem 'gsm8k/99'"),
        ({"task_id": "gsm8k/0", "completion": ""}, "stands twice"),
        ({"task_id": "gsm8k/1"}, '"completion" is missing'),
    ],
)
def test_rescoring_names_the_bad_line(gsm8k_file: Path, tmp_path: Path, line: dict[str, str], complaint: str) -> None:
    kept = tmp_path / "kept.jsonl"
    kept.write_text(json.dumps({"task_id": "gsm8k/0", "completion": "The answer is: 0"}) + "\n" + json.dumps(line))
    with pytest.raises(DataFileError) as error:
        rescore(kept, gsm8k_file, "gsm8k")
    assert "line 2: " in str(error.value) and complaint in str(error.value)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_task_files_agree_with_the_registry(name: str) -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    task = yaml.load((TASKS_FOLDER / f"{name}.yaml").read_text(), Loader)
    benchmark = BENCHMARKS[name]
    assert task["task"] == benchmark.task_name
    assert task["generation_kwargs"] == {
        "do_sample": False,
        "max_gen_toks": benchmark.max_gen_toks,
        "until": list(benchmark.stop_strings),
    }
    assert task["metadata"]["version"] and task["num_fewshot"] == 0
