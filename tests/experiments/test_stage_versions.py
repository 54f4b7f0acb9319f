"""A stage whose sources changed must say whether its outputs did: by a new version, or by recording the new sources.

After a change that leaves every output as it was (a message, say): `python tests/experiments/test_stage_versions.py`
records the sources. After one that changes an output: raise the stage's version first.
"""

import ast
import hashlib
import json
from pathlib import Path

import pytest

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


def sources_of(name: str) -> dict[str, object]:
    stage = STAGES[name]
    digest = hashlib.sha256("".join(code_of(ROOT / path) for path in stage.sources).encode()).hexdigest()
    return {"version": stage.version, "ahead": dict(stage.ahead), "sources": digest}


@pytest.mark.parametrize("name", STAGES)
def test_changed_sources_have_a_new_version(name: str) -> None:
    recorded = json.loads(RECORD.read_text())[name]
    assert sources_of(name) == recorded, (
        f"the sources of stage {name} changed: raise its version in experiments/stages/registry.py if the same recipe "
        f"now gives another output, then run python {RECORD.parent.relative_to(ROOT)}/{Path(__file__).name}"
    )


if __name__ == "__main__":
    RECORD.write_text(json.dumps({name: sources_of(name) for name in STAGES}, indent=1) + "\n")
