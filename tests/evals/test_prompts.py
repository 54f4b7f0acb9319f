from evals.prompts import evaluation_prompt, training_prompt

HEAD = "Below is an instruction that describes a task"


def test_training_prompt_of_one_line() -> None:
    assert training_prompt({"query": "2+2?"}) == (
        HEAD + ". Write a response that appropriately completes the request.\n\n### Instruction:\n2+2?\n\n### Response:"
    )
    assert training_prompt({"query": "2+2?\n"}) == training_prompt({"query": "2+2?"})


def test_training_prompt_of_several_lines() -> None:
    assert training_prompt({"query": "Solve\nx=1\n\ny=2"}) == (
        HEAD + ", paired with an input that provides further context. Write a response that appropriately completes "
        "the request.\n\n### Instruction:\nSolve\n\n### Input:\nx=1\n\ny=2\n\n### Response:"
    )


def test_evaluation_prompt_never_has_an_input() -> None:
    assert evaluation_prompt("Solve\nx={1}") == (
        HEAD + ". Write a response that appropriately completes the request.\n\n### Instruction:\nSolve\nx={1}\n\n"
        "### Response: Let's think step by step."
    )
