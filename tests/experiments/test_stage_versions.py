"""A stage or method whose sources changed must say whether its outputs did: by a new version, or by recording the new
sources. A method or benchmark that pins no version needs no record: the hash of its sources is part of its recipes.

After a change that leaves every output as it was (a message, say): `python tests/experiments/test_stage_versions.py`
records the sources. After one that changes an output: raise the version first.
"""

import ast
import hashlib
import inspect
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baselines.declarations import sources_of
from baselines.registry import METHODS
from evals.benchmarks import BENCHMARKS
from experiments.stages.registry import STAGES

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("stage_sources.json")


def code_of(path: Path) -> str:
    """The module without comments, docstrings and layout."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return ast.dump(tree)


def record(version: int, sources: Iterable[Path]) -> dict[str, object]:
    return {"version": version, "sources": hashlib.sha256("".join(map(code_of, sources)).encode()).hexdigest()}


def present() -> dict[str, Any]:
    """What there is to record: every stage, and every method and benchmark that pins a version."""
    stages = {name: record(stage.version, (ROOT / path for path in stage.sources)) for name, stage in STAGES.items()}
    files = {name: sources_of(Path(inspect.getfile(method))) for name, method in METHODS.items()}
    pinned = {name: version for name, method in METHODS.items() if (version := vars(method).get("version"))}
    methods = {f"method {name}": record(version, files[name]) for name, version in pinned.items()}
    benchmarks = {
        f"benchmark {name}": record(benchmark.version, [ROOT / "evals" / "benchmarks" / f"{name}.py"])
        for name, benchmark in BENCHMARKS.items()
        if benchmark.version is not None
    }
    return stages | methods | benchmarks


@pytest.mark.parametrize("name", PRESENT := present())
def test_changed_sources_have_a_new_version(name: str) -> None:
    assert PRESENT[name] == json.loads(RECORD.read_text()).get(name), (
        f"the sources of {name} changed: if the same recipe now gives another output, raise its version in "
        "experiments/stages/registry.py, of a method in its own file (or of those stages alone that give another); "
        f"then run python {RECORD.parent.relative_to(ROOT)}/{Path(__file__).name}"
    )


def test_a_benchmarks_version_counts_for_judging_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other verdicts on the same completions: nothing is generated again, and gsm8k is not judged again."""
    judge, evaluate = STAGES["judge"], STAGES["evaluate"]
    configs = [SimpleNamespace(benchmark=name) for name in ("gsm8k", "math")]
    before = [[stage.version_of(config) for config in configs] for stage in (judge, evaluate)]  # type: ignore[arg-type]
    raised = replace(BENCHMARKS["math"], version=(BENCHMARKS["math"].version or 1) + 1)
    monkeypatch.setitem(BENCHMARKS, "math", raised)
    after = [[stage.version_of(config) for config in configs] for stage in (judge, evaluate)]  # type: ignore[arg-type]
    assert after == [[before[0][0], int(before[0][1]) + 1], before[1]]


if __name__ == "__main__":
    RECORD.write_text(json.dumps(present(), indent=1) + "\n")
