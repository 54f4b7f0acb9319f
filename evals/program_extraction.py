"""The program in a completion, by EvalPlus's rules (evalplus/evalplus@26d6d00), with Python's own parser.

Only parsing happens here: nothing of the completion is run.
"""

import ast
import re
import warnings
from collections.abc import Iterable

_FENCE = re.compile(r"^[ \t]*```[\w+-]*[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def extract_program(text: str, entry_point: str) -> str:
    """Imports, and the definitions that the entry point needs, of the longest run of lines that is valid Python.

    Functions without a return statement are left out, and of two definitions of a name the first one counts, as in
    EvalPlus: the signature that a prompt ends with gives way to a completion that repeats it. Without a definition of
    the entry point the program is empty.
    """
    try:
        tree = _longest_valid(text, entry_point)
        return ast.unparse(ast.Module(_needed(tree, entry_point), type_ignores=[])) if tree else ""
    except (RecursionError, MemoryError):
        return ""


def unfenced(completion: str) -> str:
    """The first block between Markdown fences, or the completion itself if there is none."""
    match = _FENCE.search(completion)
    return match[1] if match else completion


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings that nobody here has written
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _longest_valid(text: str, entry_point: str) -> ast.Module | None:
    """The tree of the longest span of lines that parses and holds a definition of the entry point."""
    lines = text.split("\n")
    opening = re.compile(rf"(async\s+)?(def|class)\s+{re.escape(entry_point)}\b|{re.escape(entry_point)}\s*[:=]")
    places = [i for i, line in enumerate(lines) if opening.match(line)]
    for length in range(len(lines), 0, -1):
        for start in range(len(lines) - length + 1):
            if any(start <= place < start + length for place in places):
                tree = _parsed("\n".join(lines[start : start + length]))
                if tree:
                    return tree
    return None


def _needed(tree: ast.Module, entry_point: str) -> list[ast.stmt]:
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    definitions: dict[str, Definition] = {}
    for node in tree.body:
        for name in _names(node):
            definitions.setdefault(name, node)  # type: ignore[arg-type]
    wanted, found = [entry_point], set[str]()
    while wanted:
        name = wanted.pop()
        if name in definitions and name not in found:
            found.add(name)
            wanted += [node.id for node in ast.walk(definitions[name]) if isinstance(node, ast.Name)]
    if entry_point not in found:
        return []
    kept = {id(definitions[name]) for name in found}
    return [*imports, *(node for node in tree.body if id(node) in kept)]


def _names(node: ast.stmt) -> Iterable[str]:
    """The names that a top-level statement defines."""
    if isinstance(node, ast.FunctionDef) and any(isinstance(inner, ast.Return) for inner in ast.walk(node)):
        return [node.name]
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)]
    return []
