"""A method is its file: found without a list, planned without its code, and made anew when its code changes."""

import importlib.util
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from baselines import declarations
from baselines.declarations import declared, method_names, sources_of
from baselines.registry import METHODS, build_method
from experiments.jobs.job import Job
from experiments.settings import load_preset
from experiments.tables.accuracy import plan_table
from experiments.tables.declared import Grid, load_table
from experiments.tables.target import Selection
from impact.factorisation import Factorisation

ROOT = Path(__file__).resolve().parents[2]
MINE = """
from dataclasses import dataclass
from typing import ClassVar
from baselines.svd import Svd

@dataclass(frozen=True)
class Mine(Svd):
    name: ClassVar[str] = "mine"
    power: float = 0.5
"""


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the test remembers, and nobody else."""
    place = tmp_path / "memory" / "declarations.json"
    monkeypatch.setattr(declarations, "MEMORY", place)
    forget(monkeypatch)
    return place


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process begins."""
    monkeypatch.setattr(declarations, "_memory", cache(declarations._memory.__wrapped__))


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A method of nobody's, which pins no version."""
    (tmp_path / "mine.py").write_text(MINE)
    spec = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mine", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(METHODS, "mine", module.Mine)
    return module


def jobs_of_mine() -> dict[str, Job]:
    grids = {"mine": Grid(rule="nuclear_norm", values={1: 50.0}), "svd": Grid(rule="nuclear_norm", values={1: 50.0})}
    table = load_table("table6").model_copy(update={"grids": grids})
    plan = plan_table(table, load_preset("tiny"), Selection())
    return {f"{job.stage.name} {job.label}": job for job in plan.jobs}


def test_a_new_file_is_a_new_method(tmp_path: Path) -> None:
    for folder in ("baselines", "impact"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "baselines" / "mine.py").write_text(MINE)
    (tmp_path / "baselines" / "quantization.py").write_text("raise ImportError('this holds no method')")
    script = (
        "import json; from baselines.declarations import *; from baselines.registry import *\n"
        "print(json.dumps([method_names(), declared('mine').version, list(declared('mine').settings)]))"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    names, version, settings = json.loads(ran.stdout)
    assert {*names} == {*METHODS, "mine"} and len(version) == 16 and settings == ["power"]
    (tmp_path / "baselines" / "twin.py").write_text(MINE)
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "baselines.twin has a method 'mine', as baselines.mine has" in ran.stderr


def test_declarations_say_what_the_classes_say() -> None:
    assert method_names() == [*METHODS]
    for name, method in METHODS.items():
        said = declared(name)
        assert (said.name, said.rule, said.searches) == (name, method.rule, method.searches)
        assert {*said.statistics} == build_method(name, {}).statistics()
        assert isinstance(said.version, int)


def test_a_method_without_a_version_is_made_anew_when_its_file_changes(
    mine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mine.Mine.version == METHODS["svd"].version  # inherited, which says nothing of this file
    before = {name: job.key for name, job in jobs_of_mine().items()}
    forget(monkeypatch)
    assert {name: job.key for name, job in jobs_of_mine().items()} == before
    (tmp_path / "mine.py").write_text(MINE + "\n# another power\n")
    monkeypatch.setattr(declarations, "MEMORY", tmp_path / "other" / "declarations.json")
    forget(monkeypatch)
    after = {name: job.key for name, job in jobs_of_mine().items()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed and all("mine" in name for name in changed)
    assert {"prepare mine", "compress mine row 1"} <= changed


def test_its_sources_are_what_it_imports_too(mine: ModuleType) -> None:
    names = [path.name for path in sources_of(Path(str(mine.__file__)))]
    assert {"mine.py", "svd.py", "factorisation.py", "interface.py"} <= {*names}
    assert not {"asvd.py", "flap.py", "registry.py"} & {*names}
    assert len(names) == len({*names})


def test_what_is_remembered_needs_no_class(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, names = declared("impact", {"eta": 0.5}), method_names()
    forget(monkeypatch)
    monkeypatch.setattr(declarations, "_declare", None)
    monkeypatch.setattr(declarations, "_names", None)
    assert declared("impact", {"eta": 0.5}) == said and method_names() == names


def test_two_processes_remember_what_either_learned(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = declarations._memory()
    forget(monkeypatch)
    declared("svd")
    monkeypatch.setattr(declarations, "_memory", lambda: ours)
    method_names()
    assert len(json.loads(memory.read_text())) == len(["sources", "svd", "names"])


@pytest.mark.parametrize("content", ["", "[]", '{"sources": "others", "names": ["none"]}', "{"])
def test_a_memory_of_other_sources_or_none_is_no_memory(content: str, memory: Path) -> None:
    memory.parent.mkdir()
    memory.write_text(content)
    assert method_names() == [*METHODS]
    assert json.loads(memory.read_text())["names"] == [*METHODS]


def test_where_nothing_can_be_written_it_is_asked_again(memory: Path) -> None:
    memory.parent.write_text("no folder")
    assert declared("svd").name == "svd"


def test_mistakes_are_raised_each_time_and_not_remembered(memory: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="svd has no setting eta"):
            declared("svd", {"eta": 0.5})
        with pytest.raises(ValueError, match="must ascend"):
            declared("asvd", {"candidates": [0.5, 0.2]})
        with pytest.raises(KeyError, match="impcat"):
            declared("impcat")
    assert not memory.exists()


def test_an_abstract_class_is_no_method() -> None:
    assert Factorisation not in METHODS.values()
