"""MBPP: its programming problems in the formats they are published in, and their tests."""

import ast
import builtins
from collections.abc import Mapping
from typing import Any

from evals.benchmarks.interface import CodeBenchmark, CodeProblem, PublishedSet
from evals.execution.programs import Checks

RULES = {
    **dict.fromkeys(("similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly"), "set"),
    **dict.fromkeys(("larg_nnum", "intersection_array", "find_dissimilar", "Diff"), "set"),
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), "not none"),
}
"""MBPP tasks whose answers EvalPlus compares as sets, or of which it asks only whether there is a match."""


def mbpp_problem(row: Mapping[str, Any]) -> CodeProblem:
    """A row of MBPP (Austin et al. 2021) with its `test_list`, or of EvalPlus's MBPP with its base inputs.

    Raises ValueError for a row without tests and for one whose tests name no function.
    """
    if "test_list" in row:
        return _sanitized(row)
    if "canonical_solution" in row and "assertion" in row:
        return _evalplus(row)
    raise ValueError('there is neither "test_list" (MBPP) nor "canonical_solution" and "assertion" (EvalPlus)')


def _sanitized(row: Mapping[str, Any]) -> CodeProblem:
    tests = list(row["test_list"])
    if not tests:
        raise ValueError('"test_list" is empty')
    imports = "\n".join([*row.get("test_imports", ()), str(row.get("test_setup_code", ""))])
    entry_point = _tested_function("\n".join(tests), str(row.get("code", "")))
    description = str(row.get("prompt") or row.get("text", "")).strip()
    checks = Checks(imports, entry_point, "\n".join(tests))
    return CodeProblem(_mbpp_text(description, tests[0]), checks, str(row.get("code") or ""))


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
    entry_point = str(row["entry_point"])
    calls = [
        ast.unparse(node)
        for statement in ast.parse(str(row["assertion"])).body
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry_point
    ]
    if not calls:
        raise ValueError(f'"assertion" never calls {entry_point}')
    rule = RULES.get(entry_point, "value")
    # Computed before the candidate takes the entry point's name, which a recursive reference calls.
    setup = [str(row["canonical_solution"]), "from inside.answers import agree", "_expected = ["]
    setup += [f"    {call}," for call in calls] + ["]"]
    tests = [f"assert agree({call}, _expected[{i}], {rule!r}, {float(row['atol'])!r})" for i, call in enumerate(calls)]
    checks = Checks("\n".join(setup), entry_point, "\n".join(tests))
    return CodeProblem(str(row["prompt"]).strip() + "\n", checks, str(row["canonical_solution"]))


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
