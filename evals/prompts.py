"""Prompt templates of MetaMath (the Alpaca templates), character for character as its training and evaluation scripts.

Source: meta-math/MetaMath@fe667b1, train_math.py, eval_gsm8k.py, eval_math.py.
"""

from collections.abc import Mapping
from typing import Any

_NO_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)

STOP_STRINGS: tuple[str, ...] = (
    "Question:", "Question", "USER:", "USER", "ASSISTANT:", "ASSISTANT",
    "Instruction:", "Instruction", "Response:", "Response",
)  # fmt: skip
"""Generation ends before the first of these; the stop string itself is cut off."""

ANSWER_MARK = "The answer is: "
"""What precedes a final answer in MetaMath's responses; scoring reads the text after its last occurrence."""


def instruction_prompt(instruction: str, context: str = "") -> str:
    """The Alpaca template, with or without input.

    Ends in "### Response:" without a space; the response is appended directly.
    """
    if context == "":
        return _NO_INPUT.format(instruction=instruction)
    return _WITH_INPUT.format(instruction=instruction, input=context)


def training_prompt(row: Mapping[str, Any]) -> str:
    """Prompt of a training row: {"query", "input"} as the template wants them.

    Without "input", as in MetaMath's rows, the query's first line is the instruction, the remaining lines the input.
    A "prompt" stands as it is.
    """
    if "prompt" in row:
        return str(row["prompt"])
    if "input" in row:
        return instruction_prompt(row["query"], row["input"])
    instruction, _, rest = row["query"].partition("\n")
    return instruction_prompt(instruction, rest)


def evaluation_prompt(question: str) -> str:
    """Zero-shot prompt of a test problem: always the no-input template, whatever lines the question has."""
    return instruction_prompt(question) + " Let's think step by step."
