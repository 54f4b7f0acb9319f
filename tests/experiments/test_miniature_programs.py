"""The generated programming tasks are what they claim to be: reproducible, disjoint, solvable, and strictly tested."""

import ast
import copy
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.prompts import STOP_STRINGS, evaluation_prompt
from experiments.miniature.architecture import tiny_llama_config
from experiments.miniature.domains import generate
from experiments.miniature.programs import INSTRUCTION, OPERATIONS, definition, program
from experiments.miniature.splits import Row, Sizes
from experiments.miniature.tokenizer import PROMPT_HEAD, PROMPT_TAIL, build_tokenizer

SMALL = Sizes(train=3000, calibration=300, heldout=100, test=150)
Splits = dict[str, list[Row]]
BENCHMARKS = ("humaneval", "mbpp")
SFT = ("train", "calibration", "heldout")
STOPS = ("\n```", "\nif __name__", "\ndef main(", "\nprint(", "\nassert", "\n#", *STOP_STRINGS)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return generate("code", seed=7, sizes=SMALL)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer("code")


def solution_of(row: Row) -> str:
    """The reference program of a test row."""
    return row["code"] if "code" in row else row["prompt"] + row["canonical_solution"]


def defined(source: str) -> Callable[[list[int]], Any]:
    """The only function that the source defines."""
    names: dict[str, Any] = {}
    exec(source, names)
    (function,) = (value for name, value in names.items() if name != "__builtins__")
    return function


def passes(row: Row, function: Callable[[list[int]], Any]) -> bool:
    """Whether the function passes the tests of a row."""
    try:
        if "test" in row:
            names: dict[str, Any] = {}
            exec(row["test"], names)
            names["check"](function)
        else:
            for line in row["test_list"]:
                exec(line, {line.split()[1].split("(")[0]: function})
    except (AssertionError, ValueError, TypeError, IndexError, ZeroDivisionError):
        return False
    return True


def problem_of(row: Row) -> str:
    """What evaluation puts after the instruction."""
    if "test" in row:
        return row["prompt"].strip()
    return f'"""\n{row["prompt"]}\n{row["test_list"][0]}\n"""'


def task_of(text: str) -> str:
    """The description within a prompt, without its opening."""
    (sentence,) = re.findall(r"(?:list of numbers, |iven, |Given numbers, |function to )(.*)\.", text)
    return sentence


def content(text: str) -> tuple[tuple[str, ...], ...]:
    """Operations and constants of a prompt, read from its words alone."""
    marks = {
        "above|greater": "above", "below|less": "below", "divisible": "multiples", "even": "even", "odd": "odd",
        "add ": "add", "subtract": "subtract", "multiply": "multiply", "square": "square",
        "(keep|take) the first": "first", "last": "last", "(skip|drop) the first": "skip",
        "sort.*downwards": "descend", "sort": "sort", "reverse": "reverse",
        "sum|total": "sum", "their number|how many": "count", "largest|maximum": "largest",
        "smallest|minimum": "smallest", "them|the list": "list",
    }  # fmt: skip
    steps = re.split(r", and then |, then |, next | and return | and give ", task_of(text))
    return tuple(
        (next(name for mark, name in marks.items() if re.search(mark, step)), *re.findall(r"\d+", step))
        for step in steps
    )


def prompts(splits: Splits, name: str) -> list[str]:
    return [row["query"].removeprefix(INSTRUCTION) if name in SFT else problem_of(row) for row in splits[name]]


def test_same_seed_same_rows_other_seed_others(splits: Splits) -> None:
    assert generate("code", seed=7, sizes=SMALL) == splits
    other = generate("code", seed=8, sizes=SMALL)
    assert all(other[name] != rows for name, rows in splits.items())


def test_sizes_and_schemas(splits: Splits) -> None:
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 3000, "calibration": 300, "heldout": 200, "humaneval": 150, "mbpp": 150
    }  # fmt: skip
    for name in SFT:
        assert all(row.keys() == {"query", "input", "response", "source"} for row in splits[name])
        assert Counter(row["source"] for row in splits[name]) == dict.fromkeys(BENCHMARKS, len(splits[name]) // 2)
    assert all(
        row.keys() == {"task_id", "prompt", "entry_point", "canonical_solution", "test"} for row in splits["humaneval"]
    )
    assert all(row.keys() == {"task_id", "prompt", "code", "test_imports", "test_list"} for row in splits["mbpp"])
    assert [row["task_id"] for row in splits["humaneval"]] == [f"tiny/{i}" for i in range(150)]
    assert [row["task_id"] for row in splits["mbpp"]] == list(range(150))
    assert all(row["test"].count("\n    assert candidate(") == 5 for row in splits["humaneval"])
    assert all(len(row["test_list"]) == 3 and row["test_imports"] == [] for row in splits["mbpp"])


def test_no_task_occurs_in_two_splits_in_whatever_words(splits: Splits) -> None:
    contents = {name: {content(text) for text in prompts(splits, name)} for name in splits}
    assert len(set().union(*contents.values())) == sum(map(len, contents.values()))
    for name in (*BENCHMARKS, "calibration", "heldout"):
        texts = {task_of(text) for text in prompts(splits, name)}
        assert len(texts) == len(splits[name])


def test_training_prompts_have_the_shape_of_test_prompts(splits: Splits) -> None:
    def shape(text: str) -> str:
        described = text.replace(task_of(text), "#")
        return re.sub(r"(?<=assert ).*|(?<=def ).*(?=:)|(?<=\"\"\"\n)Write.*to|(?<=    \"\"\")\w.*, ", "", described)

    for source in BENCHMARKS:
        shapes = {shape(problem_of(row)) for row in splits[source]}
        assert len(shapes) == 1
        for name in SFT:
            rows = [row for row in splits[name] if row["source"] == source]
            assert all(row["query"].startswith(INSTRUCTION) and row["input"] == "" for row in rows)
            assert {shape(row["query"].removeprefix(INSTRUCTION)) for row in rows} == shapes


def test_reference_solutions_pass_their_tests(splits: Splits) -> None:
    for name in BENCHMARKS:
        for row in splits[name]:
            assert passes(row, defined(solution_of(row))), row
            called = row["entry_point"] if "test" in row else row["test_list"][0].split()[1].split("(")[0]
            assert defined(solution_of(row)).__name__ == called


def mutants(source: str) -> Iterator[str]:
    """The source with one constant, operator, bound or call changed, or one statement or call left out."""
    others: dict[type[ast.AST], type[ast.AST]] = {
        ast.Gt: ast.GtE, ast.Lt: ast.LtE, ast.Eq: ast.NotEq, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add
    }  # fmt: skip
    tree = ast.parse(source)
    for index in range(len(list(ast.walk(tree)))):
        for change in range(2):
            mutant = copy.deepcopy(tree)
            place = list(ast.walk(mutant))[index]
            match place:
                case ast.Constant(value=int(value)) if not isinstance(value, bool):
                    place.value = value + (1, -1)[change]
                case ast.Compare(ops=[operator]) if type(operator) in others and change == 0:
                    place.ops = [others[type(operator)]()]  # type: ignore[list-item]
                case ast.BinOp(op=operator) if type(operator) in others and change == 0:
                    place.op = others[type(operator)]()  # type: ignore[assignment]
                case ast.comprehension(ifs=[_]) if change == 0:
                    place.ifs = []
                case ast.Subscript() if change == 0:
                    place.slice = ast.Slice()
                case ast.Call(func=ast.Name("sorted"), args=[_]) if change == 0:
                    place.func, place.keywords = ast.Name("list"), []
                case ast.Call(func=ast.Name("max" | "min" | "sum" | "len" as called)):
                    place.func = ast.Name([name for name in ("max", "min", "sum") if name != called][change])
                case _:
                    break
            yield ast.unparse(ast.fix_missing_locations(mutant))


def outcome(function: Callable[[list[int]], Any], numbers: list[int]) -> Any:
    try:
        return function(list(numbers))
    except (ValueError, TypeError, IndexError, ZeroDivisionError):
        return "error"


def test_tests_tell_wrong_programs_from_right_ones(splits: Splits) -> None:
    rng = random.Random(5)
    inputs = [[rng.randint(0, 20) for _ in range(rng.randint(5, 6))] for _ in range(100)]
    wrong = survived = 0
    for name in BENCHMARKS:
        for row in splits[name][:60]:
            right = defined(solution_of(row))
            expected = [outcome(right, numbers) for numbers in inputs]
            for source in mutants(solution_of(row)):
                mutant = defined(source)
                differs = sum(
                    outcome(mutant, numbers) != result for numbers, result in zip(inputs, expected, strict=True)
                )
                if differs >= 3:
                    wrong += 1
                    survived += passes(row, mutant)
    assert wrong > 600
    assert survived <= 0.01 * wrong


def test_every_operation_occurs_in_every_split(splits: Splits) -> None:
    for name in splits:
        used = {step[0] for text in prompts(splits, name) for step in content(text)}
        assert used == OPERATIONS.keys(), name


def test_all_ways_of_writing_a_program_agree() -> None:
    rng = random.Random(11)
    inputs = [[rng.randint(0, 20) for _ in range(rng.randint(0, 6))] for _ in range(20)]
    for seed in range(40):
        task = program(random.Random(seed))
        ways = {definition(task, task.argument, rng) for _ in range(30)}
        assert len(ways) > 10
        assert len({str([outcome(defined(way), numbers) for numbers in inputs]) for way in ways}) == 1


def test_responses_are_the_reference_kind_of_program_and_differ(splits: Splits) -> None:
    for row in splits["train"]:
        (function,) = ast.parse(row["response"]).body
        assert isinstance(function, ast.FunctionDef)
        assert row["response"] == f"\n{row['response'].strip()}"
        assert f"{function.name}(" in row["query"]
        if row["source"] == "humaneval":
            assert f"def {function.name}({function.args.args[0].arg}):" in row["query"]
        assert not any(stop in row["response"] for stop in STOPS)
    skeletons = Counter(re.sub(r"\d+|\w+_\w+", "#", row["response"]) for row in splits["train"])
    assert skeletons.most_common(1)[0][1] < 0.01 * len(splits["train"])


def test_responses_of_mbpp_pass_the_example_they_are_shown(splits: Splits) -> None:
    for row in splits["train"]:
        if row["source"] == "mbpp":
            (example,) = re.findall(r"^assert .*$", row["query"], re.MULTILINE)
            assert passes({"test_list": [example]}, defined(row["response"]))


def training_text(row: Row) -> str:
    return PROMPT_HEAD + row["query"] + PROMPT_TAIL + row["response"]


def test_tokenizer_gives_back_every_text(splits: Splits, tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [training_text(row) for name in SFT for row in splits[name]]
    texts += [
        evaluation_prompt(INSTRUCTION + text).split(" Let's")[0]
        for name in BENCHMARKS
        for text in prompts(splits, name)
    ]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.batch_decode(ids) == texts
    assert all(tokenizer.pad_token_id not in row for row in ids)


def test_prompt_and_response_are_tokenised_apart(splits: Splits, tokenizer: PreTrainedTokenizerFast) -> None:
    for row in splits["heldout"]:
        prompt, response = PROMPT_HEAD + row["query"] + PROMPT_TAIL, row["response"]
        joined = tokenizer(prompt + response, add_special_tokens=False)["input_ids"]
        parts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, response)]
        assert joined == parts[0] + parts[1]
        assert tokenizer(response + tokenizer.eos_token)["input_ids"][-1] == tokenizer.eos_token_id


def test_every_vocabulary_row_occurs_in_training(splits: Splits, tokenizer: PreTrainedTokenizerFast) -> None:
    seen = {token for ids in tokenizer([training_text(row) for row in splits["train"]])["input_ids"] for token in ids}
    missing = set(range(len(tokenizer))) - seen
    # EOS is appended to the ids by whoever trains
    assert missing == {tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert 100 <= len(tokenizer) <= 200


def test_prompts_and_responses_are_short(splits: Splits, tokenizer: PreTrainedTokenizerFast) -> None:
    asked = tokenizer([PROMPT_HEAD + row["query"] + PROMPT_TAIL for row in splits["train"]])["input_ids"]
    responses = tokenizer([row["response"] for row in splits["train"]])["input_ids"]
    assert sum(map(len, asked)) / len(asked) < 60
    assert sum(map(len, responses)) / len(responses) < 50
    assert max(map(len, responses)) < 80


def test_stop_strings_of_the_evaluation_can_be_encoded(tokenizer: PreTrainedTokenizerFast) -> None:
    for stop in STOPS:
        tokenizer(stop, add_special_tokens=False)


def test_architecture_is_small(tokenizer: PreTrainedTokenizerFast) -> None:
    model = LlamaForCausalLM(tiny_llama_config(len(tokenizer), num_attention_heads=8))
    assert 500_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_500_000
