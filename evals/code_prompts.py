"""How a programming problem is put to a model: the open choice of the paper, as named styles."""

from typing import Literal

from evals.prompts import STOP_STRINGS, instruction_prompt

Style = Literal["alpaca", "raw", "chat"]

ALPACA_REQUEST = "Create a Python script for this problem:\n"
"""Before the problem in bigcode-evaluation-harness's `instruct_wizard` prompts (@8fc5bae)."""
CHAT_REQUEST = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
    "```\n{problem}\n```\n"
)
CHAT_ANSWER = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
    "```python\n"
)
"""EvalPlus's request to a chat model, and the opening of the answer that it continues (@26d6d00)."""

_COMMON_STOPS = ("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(")


def code_prompt(problem: str, style: Style) -> str:
    """The text that the model continues; of style "chat" the user's message, which the tokenizer's template wraps."""
    if style == "raw":
        return problem
    if style == "chat":
        return CHAT_REQUEST.format(problem=problem.strip())
    return instruction_prompt(ALPACA_REQUEST + problem.strip())


def code_stops(style: Style, raw: tuple[str, ...]) -> tuple[str, ...]:
    """Where generation ends: EvalPlus's stop strings of that style; for "alpaca", where its template would recur.

    raw: the benchmark's own of that style.
    """
    if style == "raw":
        return _COMMON_STOPS + raw
    if style == "chat":
        return (*_COMMON_STOPS, "\n```\n")
    return (*_COMMON_STOPS, *(stop for stop in STOP_STRINGS if stop.endswith(":")))
