"""The generated problems are what they claim to be: reproducible, disjoint, correct and worded at random."""

import math
import random
import re
from collections import Counter
from fractions import Fraction

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.miniature.architecture import tiny_llama_config
from experiments.miniature.domains import generate
from experiments.miniature.problems import ANSWER_TAIL, SUBJECTS, THINK, explain, word_problem
from experiments.miniature.splits import Row, Sizes
from experiments.miniature.tokenizer import PROMPT_HEAD, PROMPT_TAIL, build_tokenizer

SMALL = Sizes(train=4000, calibration=400, heldout=100, test=300)
Splits = dict[str, list[Row]]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return generate("mathematics", seed=7, sizes=SMALL)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer("mathematics")


def question_of(row: Row) -> str:
    return row.get("query") or row.get("question") or row["problem"]


def gold_of(row: Row) -> str:
    if "response" in row:
        return row["response"].split(ANSWER_TAIL)[1]
    if "answer" in row:
        return row["answer"].split("\n#### ")[1]
    return row["solution"].split(r"\boxed{")[1].removesuffix("}$.")


def number(text: str) -> Fraction:
    fraction = re.fullmatch(r"(-?)\\frac\{(\d+)\}\{(\d+)\}", text)
    if fraction is None:
        return Fraction(text)
    return Fraction(int(fraction[1] + fraction[2]), int(fraction[3]))


def every_row(splits: Splits) -> list[Row]:
    return [row for rows in splits.values() for row in rows]


def is_word_problem(row: Row) -> bool:
    return row.get("source") == "gsm8k" or "answer" in row


def test_same_seed_same_problems_other_seed_others(splits: Splits) -> None:
    assert generate("mathematics", seed=7, sizes=SMALL) == splits
    other = generate("mathematics", seed=8, sizes=SMALL)
    assert other["train"] != splits["train"]
    assert other["gsm8k"] != splits["gsm8k"]


def test_sizes_and_schemas(splits: Splits) -> None:
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 4000, "calibration": 400, "heldout": 200, "gsm8k": 300, "math": 300
    }  # fmt: skip
    for name in ("train", "calibration", "heldout"):
        assert all(row.keys() == {"query", "response", "source"} for row in splits[name])
        assert {row["source"] for row in splits[name]} == {"gsm8k", "math"}
    assert Counter(row["source"] for row in splits["heldout"]) == {"gsm8k": 100, "math": 100}
    assert all(row.keys() == {"question", "answer"} for row in splits["gsm8k"])
    assert all(row.keys() == {"problem", "solution", "level", "type"} for row in splits["math"])
    assert {row["level"] for row in splits["math"]} == {f"Level {level}" for level in range(1, 6)}
    assert {row["type"] for row in splits["math"]} == {subject for subject, _ in SUBJECTS}


def test_no_question_occurs_in_two_splits_and_none_is_tested_twice(splits: Splits) -> None:
    questions = {name: {question_of(row) for row in rows} for name, rows in splits.items()}
    assert len(set().union(*questions.values())) == sum(map(len, questions.values()))
    for name in ("calibration", "heldout", "gsm8k", "math"):
        assert len(questions[name]) == len(splits[name])


def test_no_split_repeats_a_competition_question_in_other_words(splits: Splits) -> None:
    def content(row: Row) -> tuple[str, ...]:
        return kind_of(question_of(row)), *re.findall(r"\d+", question_of(row))

    tests = {content(row) for row in splits["math"]}
    others = [row for name in ("train", "calibration", "heldout") for row in splits[name] if not is_word_problem(row)]
    assert not [row for row in others if content(row) in tests]


def test_every_equation_of_every_solution_holds(splits: Splits) -> None:
    equation = re.compile(r"(?<![\w=}{/])(-?[\d+*/-]+)=(-?[\d+*/-]+)(?![\dx])")
    checked = 0
    for row in every_row(splits):
        text = row.get("response") or row.get("answer") or row["solution"]
        for left, right in equation.findall(text):
            terms = [
                sum(
                    math.prod(Fraction(f) if "/" not in f else Fraction(*map(int, f.split("/"))) for f in t.split("*"))
                    for t in re.findall(r"-?[\d*/]+", side)
                )
                for side in (left, right)
            ]
            assert terms[0] == terms[1], (left, right, text)
            checked += 1
    assert checked > 2 * len(every_row(splits))


def test_word_problems_end_on_their_last_result(splits: Splits) -> None:
    for row in filter(is_word_problem, every_row(splits)):
        results = re.findall(r"=(\d+)\.", row.get("response") or row["answer"])
        assert results[-1] == gold_of(row)
        assert 2 <= len(results) <= 4


def kind_of(question: str) -> str:
    return next((mark for mark in ("remainder", "digit", r"\frac", "f(x)") if mark in question), "equation")


def solve(question: str) -> Fraction:
    """The answer of a MATH-like question, worked out from its text alone."""
    numbers = [int(text) for text in re.findall(r"\d+", question)]
    match kind_of(question):
        case "remainder":
            return Fraction(numbers[0] * numbers[1] % numbers[2])
        case "digit":
            return Fraction(numbers[0] * numbers[1] % 10)
        case r"\frac":
            return Fraction(*numbers[:2]) + Fraction(*numbers[2:])
        case "f(x)":
            a, _, b, c, x = numbers
            return Fraction(a * x * x + b * x + c)
    a, b, c = numbers
    return Fraction(c - b, a)


def test_competition_answers_follow_from_the_question(splits: Splits) -> None:
    rows = [row for row in every_row(splits) if not is_word_problem(row)]
    assert len(rows) > 1500
    for row in rows:
        assert number(gold_of(row)) == solve(question_of(row)), row


def test_wording_order_and_number_of_steps_vary() -> None:
    problem = word_problem(random.Random(3))
    assert len({explain(problem, random.Random(seed)) for seed in range(200)}) > 50


def test_one_question_has_many_solutions(splits: Splits) -> None:
    skeletons = Counter(re.sub(r"\d+", "#", row["response"]) for row in splits["train"])
    assert skeletons.most_common(1)[0][1] < 0.02 * len(splits["train"])
    assert len(skeletons) > 0.5 * len(splits["train"])
    opened = sum(row["response"].startswith(THINK) for row in splits["train"]) / len(splits["train"])
    assert 0.45 < opened < 0.55


def training_text(row: Row) -> str:
    return PROMPT_HEAD + row["query"] + PROMPT_TAIL + row["response"]


def test_tokenizer_gives_back_every_text(splits: Splits, tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [training_text(row) for name in ("train", "calibration", "heldout") for row in splits[name]]
    texts += [
        PROMPT_HEAD + question_of(row) + PROMPT_TAIL + THINK for name in ("gsm8k", "math") for row in splits[name]
    ]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.batch_decode(ids) == texts
    assert all(tokenizer.pad_token_id not in row for row in ids)


def test_every_vocabulary_row_occurs_in_training(splits: Splits, tokenizer: PreTrainedTokenizerFast) -> None:
    seen = {token for ids in tokenizer([training_text(row) for row in splits["train"]])["input_ids"] for token in ids}
    missing = set(range(len(tokenizer))) - seen
    # EOS is appended to the ids by whoever trains
    assert missing == {tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert 100 <= len(tokenizer) <= 250


def test_fixed_phrases_are_one_token_each(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer(PROMPT_HEAD + PROMPT_TAIL + THINK + ANSWER_TAIL)["input_ids"]
    assert len(ids) == 5
    assert ids[0] == tokenizer.bos_token_id
    assert len(tokenizer("1234", add_special_tokens=False)["input_ids"]) == 4


def test_prompts_and_responses_are_short(splits: Splits, tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = tokenizer([PROMPT_HEAD + row["query"] + PROMPT_TAIL for row in splits["train"]])["input_ids"]
    responses = tokenizer([row["response"] for row in splits["train"]])["input_ids"]
    assert sum(map(len, prompts)) / len(prompts) < 45
    assert sum(map(len, responses)) / len(responses) < 55
    # evaluation generates 96 tokens at most
    assert max(map(len, responses)) < 96


def test_stop_strings_of_the_evaluation_can_be_encoded(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("USER:", add_special_tokens=False)["input_ids"][0] == tokenizer.pad_token_id


def test_architecture_is_small_untied_and_knows_the_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    config = tiny_llama_config(len(tokenizer))
    model = LlamaForCausalLM(config)
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert 500_000 < sum(parameter.numel() for parameter in model.parameters()) < 3_000_000
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    )  # fmt: skip
