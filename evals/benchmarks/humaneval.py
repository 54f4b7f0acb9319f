"""HumanEval: its programming problems, and their tests."""

from collections.abc import Mapping
from typing import Any

from evals.benchmarks.interface import CodeBenchmark, CodeProblem, PublishedSet
from evals.execution.programs import Checks
from evals.program_extraction import leading_module
from evals.row_fields import function_of, text_of


def humaneval_problem(row: Mapping[str, Any]) -> CodeProblem:
    """A row of HumanEval (Chen et al. 2021): prompt, entry_point, test. Raises ValueError for tests without `check`."""
    prompt, test = text_of(row, "prompt"), text_of(row, "test")
    if "def check(" not in test:
        raise ValueError('"test" defines no function check')
    # Some tests use the other functions of the prompt; the last one may be a bare signature.
    checks = Checks(leading_module(prompt), function_of(row, "entry_point"), f"{test}\ncheck(candidate)\n")
    return CodeProblem(prompt.strip() + "\n", checks, text_of(row, "canonical_solution", ""))


BENCHMARK = CodeBenchmark(
    name="humaneval",
    label="HumanEval",
    published=PublishedSet("openai/openai_humaneval", ("openai_humaneval",), {"test": ("HumanEval.jsonl",)}),
    fields=("task_id", "prompt", "entry_point", "test"),
    max_gen_toks=768,
    typical_tokens=200,
    test_size=164,
    version=2,
    problem=humaneval_problem,
    raw_stops=("\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "),
)
