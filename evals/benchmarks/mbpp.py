"""MBPP: its programming problems in the formats they are published in, and their tests."""

import ast
import builtins
from collections.abc import Mapping
from typing import Any

from evals.benchmarks.interface import CodeBenchmark, CodeProblem, PublishedSet
from evals.execution.programs import Checks
from evals.row_fields import function_of, number_of, text_of, texts_of

RULES = {
    **dict.fromkeys(("similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly"), "set"),
    **dict.fromkeys(("larg_nnum", "intersection_array", "find_dissimilar", "Diff"), "set"),
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), "not none"),
}
"""MBPP tasks whose answers EvalPlus compares as sets, or of which it asks only whether there is a match."""


def mbpp_problem(row: Mapping[str, Any]) -> CodeProblem:
    """A row of MBPP (Austin et al. 2021) with its `test_list`, or of EvalPlus's MBPP with its base inputs.

    Raises ValueError for a row without tests, for one whose tests name no function, and for fields of another type.
    """
    if row.get("test_list") is not None:
        return _sanitized(row)
    if "canonical_solution" in row and "assertion" in row:
        return _evalplus(row)
    raise ValueError('there is neither "test_list" (MBPP) nor "canonical_solution" and "assertion" (EvalPlus)')


def _sanitized(row: Mapping[str, Any]) -> CodeProblem:
    tests, code = texts_of(row, "test_list"), text_of(row, "code", "")
    if not tests:
        raise ValueError('"test_list" is empty')
    imports = "\n".join([*texts_of(row, "test_imports"), text_of(row, "test_setup_code", "")])
    entry_point = _tested_function("\n".join(tests), code)
    description = (text_of(row, "prompt", "") or text_of(row, "text", "")).strip()
    checks = Checks(imports, entry_point, "\n".join(tests))
    return CodeProblem(_mbpp_text(description, tests[0]), checks, code)


def _mbpp_text(description: str, first_test: str) -> str:
    return f'"""\n{description}\n{first_test}\n"""\n'


def _tested_function(tests: str, reference: str) -> str:
    """The function that the tests call: one that the reference defines, or else the first that Python lacks."""
    try:
        called = [
            node.func.id
            for node in ast.walk(ast.parse(tests))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        defined = {node.name for node in ast.parse(reference).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    except SyntaxError as error:
        raise ValueError(f"tests or reference are no valid Python: {error.msg}") from None
    for name in called:
        if name in defined or (not defined and not hasattr(builtins, name)):
            return name
    raise ValueError("the tests call no function of the program")


def _evalplus(row: Mapping[str, Any]) -> CodeProblem:
    """Expected answers are the reference's own, as in EvalPlus; the inputs are those of the published assertions.

    They are written there as Python literals; "base_input" has lost the difference between tuples and lists.
    """
    entry_point, reference = function_of(row, "entry_point"), text_of(row, "canonical_solution")
    calls = [
        ast.unparse(node)
        for statement in ast.parse(text_of(row, "assertion")).body
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry_point
    ]
    if not calls:
        raise ValueError(f'"assertion" never calls {entry_point}')
    rule = RULES.get(entry_point, "value")
    # Computed before the candidate takes the entry point's name, which a recursive reference calls.
    setup = [reference, "from inside.answers import agree", "_expected = ["]
    setup += [f"    {call}," for call in calls] + ["]"]
    tolerance = number_of(row, "atol")
    tests = [f"assert agree({call}, _expected[{i}], {rule!r}, {tolerance!r})" for i, call in enumerate(calls)]
    checks = Checks("\n".join(setup), entry_point, "\n".join(tests))
    return CodeProblem(text_of(row, "prompt").strip() + "\n", checks, reference)


BENCHMARK = CodeBenchmark(
    name="mbpp",
    label="MBPP",
    # The 378 tasks, with MBPP's own tests; its field "test" holds EvalPlus's further ones, which are not used.
    published=PublishedSet(
        "evalplus/mbppplus", files={"test": ("mbpp378.jsonl", "MbppPlus.jsonl", "sanitized-mbpp.json")}
    ),
    fields=(),
    max_gen_toks=768,
    typical_tokens=150,
    test_size=378,
    version=2,
    problem=mbpp_problem,
    raw_stops=('\n"""', "\nassert"),
)
