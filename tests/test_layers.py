"""Arrows between packages, and between the folders inside of them, point one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BELOW = {
    "experiments": {"results", "plots", "evals", "baselines", "impact"},
    "plots": {"results", "evals"},
    "results": set[str](),
    "evals": {"baselines", "impact"},
    "baselines": {"impact"},
    "impact": set[str](),
}
# from the top folder down; a file beside the folders stands below them all, but for the way in
FOLDERS = {
    "experiments": ("commands", "tables", "mirror", "running", "stages", "jobs", "miniature"),
    "results": ("page", "regression", "tables", "statements", "numbers", "measured"),
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports, wherever in it; what is for type checkers alone is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", BELOW)
def test_a_package_imports_only_what_is_below_it(package: str) -> None:
    above = {*BELOW} - BELOW[package] - {package}
    for path in (ROOT / package).rglob("*.py"):
        wrong = [name for name in imports(path) if name.split(".")[0] in above]
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}"


@pytest.mark.parametrize("package", FOLDERS)
def test_a_folder_imports_only_what_is_below_it(package: str) -> None:
    order = FOLDERS[package]
    for path in (ROOT / package).rglob("*.py"):
        place = path.relative_to(ROOT / package).parts[0]
        if place == "__main__.py":
            continue
        level = order.index(place) if place in order else len(order)
        for name in imports(path):
            first, *rest = name.split(".")
            if first == package and rest and rest[0] in order:
                assert order.index(rest[0]) >= level, f"{path.relative_to(ROOT)} imports {name}"


def test_every_folder_has_its_place() -> None:
    for package, order in FOLDERS.items():
        folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        assert folders == {*order}


def test_no_file_is_long_and_every_folder_says_what_it_is_for() -> None:
    for package in ("experiments", "results", "evals"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert len(text.splitlines()) <= 350, path
            assert path.name != "__init__.py" or ast.get_docstring(ast.parse(text)), path
    kept = {"__pycache__"}
    assert len({path.name for path in (ROOT / "experiments").iterdir()} - kept) <= 12
