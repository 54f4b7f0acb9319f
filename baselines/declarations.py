"""What planning must know of a method, without importing it: torch alone takes longer than everything else of a plan.

It is asked of the class itself once, and remembered until a file of `baselines` or `impact` changes.
"""

import ast
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from impact.rank_rule import RuleKind

ROOT = Path(__file__).resolve().parent.parent
MEMORY = Path(__file__).with_name("__pycache__") / "declarations.json"


@dataclass(frozen=True)
class Declaration:
    """A method as it was set up, by its name. settings: the names of all that it has.

    version: the one that it pins, or else a hash of its sources, so that nobody must think of raising it.
    """

    name: str
    rule: RuleKind
    searches: bool
    statistics: Sequence[str]
    settings: Sequence[str]
    version: int | str


def method_names() -> list[str]:
    """Every method's."""
    return _remembered("names", _names)


def declared(name: str, settings: Mapping[str, Any] = MappingProxyType({})) -> Declaration:
    """The method with these settings. Raises KeyError for an unknown one and ValueError for what it does not take."""
    key = json.dumps([name, dict(settings)], sort_keys=True, default=repr)
    return Declaration(**_remembered(key, lambda: asdict(_declare(name, settings))))


def sources_of(file: Path) -> list[Path]:
    """A Python file with all files of this project that it imports, and that those import."""
    found, left = set[Path](), [file.resolve()]
    while left:
        if (path := left.pop()) not in found:
            found.add(path)
            left += (part for name in _imports(path) if (part := ROOT / f"{name.replace('.', '/')}.py").is_file())
    return sorted(found)


def _imports(path: Path) -> Iterable[str]:
    """Dotted names of all that may be modules among what a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        within = ""
        if isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            within = ".".join([*above, *([node.module] if node.module else [])])
            yield within
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"{within}.{alias.name}".strip(".") for alias in node.names)


def _names() -> list[str]:
    from baselines.registry import METHODS

    return [*METHODS]


def _declare(name: str, settings: Mapping[str, Any]) -> Declaration:
    import inspect

    from baselines.registry import build_method

    method = build_method(name, dict(settings))
    version = vars(type(method)).get("version")  # its own: what it inherits says nothing of its file
    return Declaration(
        name=method.name,
        rule=method.rule,
        searches=method.searches,
        statistics=sorted(method.statistics()),
        settings=[f.name for f in fields(method) if f.init],  # type: ignore[arg-type]
        version=version or _digest(sources_of(Path(inspect.getfile(type(method))))),
    )


def _remembered(key: str, find: Callable[[], Any]) -> Any:
    memory = _memory()
    if key not in memory:
        memory[key] = find()
        temporary = MEMORY.with_name(f"{MEMORY.name}.{os.getpid()}")
        with suppress(OSError):  # it is only a shortcut
            MEMORY.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps(_stored() | memory))  # with what other processes learned meanwhile
            temporary.replace(MEMORY)
    return memory[key]


@cache
def _memory() -> dict[str, Any]:
    return _stored()


def _stored() -> dict[str, Any]:
    with suppress(OSError, ValueError):
        stored = json.loads(MEMORY.read_text())
        if isinstance(stored, dict) and stored.get("sources") == _sources():
            return stored
    return {"sources": _sources()}


@cache
def _sources() -> str:
    return _digest(sorted(path for folder in ("baselines", "impact") for path in (ROOT / folder).glob("*.py")))


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
