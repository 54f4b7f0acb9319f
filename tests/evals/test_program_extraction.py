"""A program is found whatever a chat model wraps it in, and only what the wrapping holds is judged."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.benchmarks import BENCHMARKS, CodeBenchmark, Judging, load_rows
from evals.program_extraction import extract_program

LONG_BODY = "    x += 1\n" * 90
# What stands around a whole program, the prompt's signature and the body below it.
WRAPPINGS: dict[str, Callable[[str, str], str]] = {
    "bare": lambda code, name: code,
    "fence": lambda code, name: f"```\n{code}\n```",
    "python fence": lambda code, name: f"Sure!\n\n```python\n{code}\n```\n\nThis works.",
    "info string with a space": lambda code, name: f"``` python\n{code}\n```",
    "attributes": lambda code, name: f'```python title="solution.py" linenums="1"\n{code}\n```',
    "braces": lambda code, name: f"```{{.python .numberLines}}\n{code}\n```\n",
    "braces of a notebook": lambda code, name: f"```{{code-cell}} ipython3\n{code}\n```\n",
    "tildes": lambda code, name: f"~~~python\n{code}\n~~~\nDone.",
    "four backticks": lambda code, name: f"````python\n{code}\n````",
    "never closed": lambda code, name: f"Here you are:\n```python\n{code}",
    "closed only": lambda code, name: f"{code}\n```\nDone: it's what you asked for.\n",
    "closed, then an example": lambda code, name: f"{code}\n```\nUsage:\n```python\nprint({name}(1))\n```",
    "plan first": lambda code, name: f"Plan:\n```\n1. read the arguments\n2. loop\n```\nCode:\n```python\n{code}\n```",
    "plan that names it": lambda code, name: f"```text\n{name}: function\n{name} = 1\n```\n```python\n{code}\n```",
    "shell command first": lambda code, name: f"```bash\npip install x\n```\n```python\n{code}\n```",
    "usage first": lambda code, name: f"```python\nfrom m import {name}\nprint({name}(1))\n```\n```python\n{code}\n```",
    "stub first": lambda code, name: f"```python\ndef {name}(*a):\n    ...\n```\nSo:\n```python\n{code}\n```",
    "draft in reasoning": lambda code, name: (
        f"<think>\n```python\ndef {name}(*a):\n    return 0\n```\nNo, wrong.\n</think>\n```python\n{code}\n```"
    ),
    "long draft, opened in the prompt": lambda code, name: (
        f"Try:\ndef {name}(*a):\n    x = 1\n{LONG_BODY}    return x\n</think>\n\n```python\n{code}\n```"
    ),
    "draft in other marks": lambda code, name: f"[THINK]def {name}(*a):\n    return 0[/THINK]\n{code}\n",
    "coloured": lambda code, name: (
        "\x1b[32m```python\x1b[0m\n" + code.replace("def ", "\x1b[1;34mdef\x1b[0m ") + "\n```"
    ),
    "linked": lambda code, name: f"\x1b]8;;http://x\x07it\x1b]8;;\x07\n{code}\n\x1b[?25h",
    "future import": lambda code, name: f"```python\nfrom __future__ import annotations\n{code}\n```",
    "Windows line ends": lambda code, name: f"```python\n{code}\n```\n".replace("\n", "\r\n"),
    "in a list": lambda code, name: "1. So:\n   ```python\n" + "   ".join(["", *code.splitlines(True)]) + "\n   ```\n",
    "quoted": lambda code, name: "> ```python\n> " + code.replace("\n", "\n> ") + "\n> ```\n",
    "tests behind": lambda code, name: (
        f"```python\n{code}\n\n\nif __name__ == '__main__':\n    print({name}())\n```\n```\n(1\n```\nIt's \"\"\"fine."
    ),
}


def humaneval() -> CodeBenchmark:
    chosen = BENCHMARKS["humaneval"]
    assert isinstance(chosen, CodeBenchmark)
    return chosen


@pytest.fixture(scope="module")
def solved(
    real_data: Path, failing_mutant: Callable[[str, int, str], str | None]
) -> list[tuple[dict[str, str], str, str]]:
    """Forty rows with their solutions, and these with a token changed so that a plain interpreter sees it fail."""
    cases = []
    for row in load_rows("humaneval", real_data / "humaneval/HumanEval.jsonl"):
        program, head = row["prompt"] + row["canonical_solution"], len(row["prompt"])
        tests = f"{row['test']}\ncheck({row['entry_point']})"
        if mutant := failing_mutant(program, head, tests):
            cases.append((row, program, mutant))
        if len(cases) == 40:
            break
    return cases


def test_every_wrapping_of_a_right_program_is_right(solved: list[tuple[dict[str, str], str, str]]) -> None:
    """27 wrappings of 40 solutions: all right; of as many with one changed token: none."""
    assert (len(WRAPPINGS), len(solved)) == (27, 40)
    wrapped = [(name, around, *case) for name, around in WRAPPINGS.items() for case in solved]
    rows = [row for _, _, row, _, _ in wrapped]
    right = [around(program.strip(), row["entry_point"]) for _, around, row, program, _ in wrapped]
    wrong = [around(mutant.strip(), row["entry_point"]) for _, around, row, _, mutant in wrapped]
    # one program may be found in many wrappings: each is run once
    found = [[each.program for each in humaneval().programs(texts, rows)] for texts in (right, wrong)]
    for sources, expected in zip(found, (True, False), strict=True):
        runs = {(source, row["task_id"]): row for source, row in zip(sources, rows, strict=True)}
        verdicts = humaneval().judge([source for source, _ in runs], list(runs.values()), Judging())
        passed = {key: verdict.correct for key, verdict in zip(runs, verdicts, strict=True)}
        other = [
            f"{name}: {row['task_id']}"
            for (name, _, row, _, _), source in zip(wrapped, sources, strict=True)
            if passed[source, row["task_id"]] != expected
        ]
        assert other == []


PROBLEM = (
    "from typing import List\nimport math\n\n\ndef helper(x):\n    return x + 1\n\n\ndef f(x):\n    '''One more.'''\n"
)


@pytest.mark.parametrize(
    "completion",
    [
        "    return helper(x)\n```\nDone.\n",
        "# so:\n    return helper(x)\n",
        "Sure:\n```python\n    return helper(x)\n```\n",
        "```bash\nls\n```\n```python\n    return helper(x)\n```\n",
        "\n```python\nfrom __future__ import annotations\ndef f(x):\n    return helper(x)\n```",
        "```\nf: int\n```\n\n\ufeff```py\ndef f(x):\n    return helper(x)  # \ud83d\n```",
        "<think>not `return x`</think>    return helper(x)\n",
        "<think>def f(x):\n    return helper(x)\n</think>",
        "A \"\"\"\nopens:\nimport math\ndef f(x):\n    '''\"\"\"'''\n    return helper(x)\nbut it's (closed",
    ],
)
def test_a_program_goes_on_with_the_problem_or_stands_alone(completion: str) -> None:
    names: dict[str, Callable[[int], int]] = {}
    program = extract_program(completion, "f", PROBLEM)
    exec(compile(program, "program.py", "exec"), names)  # type: ignore[arg-type]
    assert names["f"](2) == 3


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "I can't.",
        "```\nf: int\n```",
        "```python\nf(1)\n```",
        "<think>\ndef f(x):\n    return 3\n</think>\n```python\ndef f(x):\n    return (\n```",
    ],
)
def test_no_program_is_found_where_there_is_none(completion: str) -> None:
    assert extract_program(completion, "f", PROBLEM) == ""


LONG = {
    "prose": "It is (said that\nthe list: of things\n",
    "prose that parses": "Done\n",
    "definitions that break": "def f(x):\n    return (\n",
    "definitions": "def f(x):\n    return x\nno more\n",
    "tries without an end": "try:\n",
    "a body without an end": "    x += 1\n",
    "fences": "```python\nx y\n```\n",
    "brackets": "([{",
    "brackets on lines": "([{\n",
    "triple quotes": "\"\"\"\n'''\n",
    "escape codes": "\x1b[",
    "links": "\x1b]8",
    "reasoning": "<think>",
    "reasoning's ends": "</think>a",
    "no text": "\0\n",
    "indented": " def f(x):\n",
    "quoted": "> > def f(x): (\n",
    "assignments": "f = 1 +\n",
    "spaces": " ",
    "empty lines": "\n",
    "f-strings": 'f"{f"',
    "colons": "lambda: ",
}


@pytest.mark.parametrize("name", LONG)
def test_long_texts_take_a_bounded_time(name: str) -> None:
    """100 kB of anything, before a program, behind it and below `try:`, in five seconds."""
    piece = LONG[name] * (100_000 // len(LONG[name]))
    good = "\n\n```python\ndef f(x):\n    return x\n```\n"
    for text in (piece, piece + good, good + piece, "def f(x):\n    try:\n    " + piece):
        started = time.process_time()
        extract_program(text, "f", PROBLEM)
        assert time.process_time() - started < 5


def test_a_program_behind_long_prose_is_found() -> None:
    prose = "Let us think about (this: the list's items\n" * 2000
    assert extract_program(f"{prose}```python\ndef f(x):\n    return 7\n```\n{prose}", "f").endswith("return 7")
