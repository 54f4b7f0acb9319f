"""Prompt templates of MetaMath (the Alpaca templates), character for character as its training and evaluation scripts.

Source: meta-math/MetaMath@fe667b1, train_math.py, eval_gsm8k.py, eval_math.py.
"""

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


def training_prompt(query: str) -> str:
    """Prompt of a training row: the query's first line is the instruction, its remaining lines are the input.

    Ends in "### Response:" without a space; the response is appended directly.
    """
    instruction, _, rest = query.partition("\n")
    if rest == "":
        return _NO_INPUT.format(instruction=instruction)
    return _WITH_INPUT.format(instruction=instruction, input=rest)


def evaluation_prompt(question: str) -> str:
    """Zero-shot prompt of a test problem: always the no-input template, whatever lines the question has."""
    return _NO_INPUT.format(instruction=question) + " Let's think step by step."
