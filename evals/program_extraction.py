"""The program in a completion, by EvalPlus's rules (evalplus/evalplus@26d6d00), with Python's own parser.

Only parsing happens here: nothing of the completion is run. Lines that are no Python (prose, Markdown's fences) end a
run of valid ones by themselves, so that a program needs no fence to be found.
"""

import ast
import re
import textwrap
import warnings
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

_FENCE = re.compile(r"[ \t>]*(?:```|~~~)")
_ESCAPE_CODE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_UNREADABLE = re.compile("[\0\ud800-\udfff]")  # the parser refuses a whole text for one of them
_REASONING = re.compile(
    r"[<◁](?P<slash>/?)(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis)[>▷]"
    r"|\[(?P<bracket>/?)THINK\]|<\|(?P<word>begin|end)_of_thought\|>",
    re.IGNORECASE,
)
_WORK = 3_000_000
"""Characters that may be parsed in search of one program: a second or two."""
_WORK_OF_A_PARSE = 500
_LINES_AT_FIRST = 200
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def extract_program(completion: str, entry_point: str, problem: str = "") -> str:
    """Imports, and the definitions that the entry point needs, of the problem's text and the completion.

    The completion goes on with the problem where its first line is indented; otherwise its longest run of lines that
    is valid Python and defines the entry point stands alone, or else a fenced block goes on with the problem.
    Functions without a return statement are left out, and of two definitions of a name the first one counts, as in
    EvalPlus: the signature that a prompt ends with gives way to a completion that repeats it. Without a definition of
    the entry point the program is empty.
    """
    text = _without_reasoning(_plain(completion))
    search = _Search(entry_point)
    for statements in search.programs(text, _plain(problem)):
        return _source(_needed(statements, entry_point))
    return ""


def leading_module(text: str) -> str:
    """The lines up to the first that no valid module can hold: a prompt without the function that it leaves open."""
    lines = text.split("\n")
    return "\n".join(lines[: _Search("").run(lines, 0)[1]])


def _plain(text: str) -> str:
    """Without a terminal's colours and a byte order mark, with Unix line ends."""
    text = _ESCAPE_CODE.sub("", text.removeprefix("\ufeff")).replace("\r\n", "\n").replace("\r", "\n")
    return _UNREADABLE.sub("\ufffd", text)


def _without_reasoning(text: str) -> str:
    """What stands outside marked reasoning; its opening mark may stand in the prompt. All, if that leaves nothing."""
    kept: list[str] = []
    start, opened = 0, False
    for mark in _REASONING.finditer(text):
        if mark["slash"] or mark["bracket"] or (mark["word"] or "").lower() == "end":
            if not opened:
                kept.clear()
            start, opened = mark.end(), False
        elif not opened:
            kept.append(text[start : mark.start()])
            start, opened = mark.start(), True
    outside = "".join([*kept, text[start:]])
    return outside if outside.strip() else _REASONING.sub("\n", text)


class _Search:
    """The search for one program, within a limit on the characters parsed."""

    def __init__(self, entry_point: str) -> None:
        self._entry_point, self._left = entry_point, _WORK
        name = re.escape(entry_point)
        self._opening = re.compile(rf"(?:async\s+)?(?:def|class)\s+{name}\b|{name}\s*[:=]")
        self._indented = re.compile(rf"^[ \t>]+(?:def|class)\s+{name}\b", re.MULTILINE)

    def programs(self, text: str, problem: str) -> Iterator[list[ast.stmt]]:
        """The statements of programs that define the entry point, best first."""
        head = problem.split("\n")
        given = self.run(head, 0)[0] if problem.strip() else []
        others = [node for node in given if self._entry_point not in _names(node)]
        blocks = list(_blocks(text))
        if blocks[0][:1] in (" ", "\t"):
            yield from self._going_on(problem, blocks[0])
        if found := self._standing_alone(text.split("\n")):
            yield others + found
        for block in blocks:
            if self._indented.search(block):
                margin = re.sub(r"^ {0,3}> ?", "", block, flags=re.MULTILINE)
                if found := self._standing_alone(textwrap.dedent(margin).split("\n")):
                    yield others + found
        for block in blocks:
            yield from self._going_on(problem, block)

    def _going_on(self, problem: str, block: str) -> Iterator[list[ast.stmt]]:
        statements, _ = self.run(f"{problem}{block}".split("\n"), 0)
        if self._defined(statements):
            yield statements

    def _standing_alone(self, lines: Sequence[str]) -> list[ast.stmt]:
        """The longest valid run of lines that defines the entry point, a function or class before any other value."""
        places = [i for i, line in enumerate(lines) if self._opening.match(line)]
        best: tuple[tuple[int, int], list[ast.stmt]] = ((0, 0), [])
        covered = set[int]()

        def consider(start: int) -> int:
            """The end of the run from there, or the next line where there is none."""
            nonlocal best
            statements, end = self.run(lines, start)
            if kind := self._defined(statements):
                covered.update(range(start, end))
                best = max(best, ((kind, end - start), statements), key=lambda found: found[0])
            return max(end, start + 1)

        start = 0
        while places and start <= places[-1] and self._left > _WORK // 2:
            opens = lines[start].strip() and not lines[start][0].isspace()
            start = consider(start) if opens else start + 1
        fences = [-1, *(i for i, line in enumerate(lines) if _FENCE.match(line))]
        for place in places:  # in a string that prose has opened, say, or beyond the limit
            if self._left <= 0:
                break
            for start in (fences[bisect(fences, place) - 1] + 1, place):
                if place not in covered:
                    consider(start)
        return best[1]

    def run(self, lines: Sequence[str], start: int) -> tuple[list[ast.stmt], int]:
        """The statements of the longest valid run of lines from there, and its end."""
        # A text is tokenised to its end whatever its first error, so that a long one is read in growing pieces.
        size = _LINES_AT_FIRST
        while True:
            limit = end = min(len(lines), start + size)
            statements: list[ast.stmt] | None = None
            while statements is None and self._left > 0:
                statements, error = self._parsed("\n".join(lines[start:end]))
                if statements is None:
                    end = max(start, min(end - 1, start + error))
                    while end > start and not lines[end - 1].strip():
                        end -= 1
            if limit == len(lines) or end - start < size // 2 or self._left <= 0:
                return statements or [], end
            size *= 4

    def _parsed(self, text: str) -> tuple[list[ast.stmt] | None, int]:
        """The statements, or None and a line, from 0, that no valid run of those from the first one holds."""
        self._left -= len(text) + _WORK_OF_A_PARSE
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in strings that nobody here has written
                statements = ast.parse(text).body
            for node in statements:
                node.text = text  # type: ignore[attr-defined]
            return statements, 0
        except SyntaxError as error:
            return None, max((error.lineno or 1) - 1, 0)
        except (ValueError, RecursionError, MemoryError):
            return None, 0

    def _defined(self, statements: Iterable[ast.stmt]) -> int:
        """2 for a function or class of the entry point's name, 1 for another value, 0 for none."""
        found = [node for node in statements if self._entry_point in _names(node)]
        return max((1 if isinstance(node, ast.Assign | ast.AnnAssign) else 2 for node in found), default=0)


def _blocks(text: str) -> Iterator[str]:
    """What stands before, between and after lines that are Markdown fences, whether these open or close."""
    block: list[str] = []
    for line in text.split("\n"):
        if _FENCE.match(line):
            yield "\n".join(block).lstrip("\n")
            block = []
        else:
            block.append(line)
    yield "\n".join(block).lstrip("\n")


def _needed(statements: Sequence[ast.stmt], entry_point: str) -> list[ast.stmt]:
    imports = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    imports.sort(key=lambda node: not (isinstance(node, ast.ImportFrom) and node.module == "__future__"))
    definitions: dict[str, Definition] = {}
    for node in statements:
        for name in _names(node):
            definitions.setdefault(name, node)  # type: ignore[arg-type]
    wanted, found = [entry_point], set[str]()
    while wanted:
        name = wanted.pop()
        if name in definitions and name not in found:
            found.add(name)
            wanted += [node.id for node in ast.walk(definitions[name]) if isinstance(node, ast.Name)]
    kept = {id(definitions[name]) for name in found}
    return [*imports, *(node for node in statements if id(node) in kept)]


def _source(statements: Sequence[ast.stmt]) -> str:
    """The statements in Python's own form, or as they were written where it has none for them."""
    try:
        return ast.unparse(ast.Module([*statements], type_ignores=[]))
    except (RecursionError, ValueError):  # deeply nested; an f-string with a backslash
        pass
    if len(statements) > 1:
        return "\n".join(_source([node]) for node in statements)
    (node,) = statements
    written = partial(ast.get_source_segment, node.text)  # type: ignore[attr-defined]
    decorators = (f"@{written(each)}\n" for each in getattr(node, "decorator_list", []))
    return "".join(decorators) + (written(node) or "")


def _names(node: ast.stmt) -> Iterable[str]:
    """The names that a top-level statement defines."""
    if isinstance(node, ast.FunctionDef) and any(isinstance(inner, ast.Return) for inner in ast.walk(node)):
        return [node.name]
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)]
    return []
