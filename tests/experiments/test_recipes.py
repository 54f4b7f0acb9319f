"""A store that was filled earlier is used again, and at once: every table asks for the jobs that it asked for, and
planning imports nothing that takes longer than the plan.

Where other ones are meant (a version was raised, a preset changed), `python tests/experiments/test_recipes.py` records
them.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.jobs.job import Job
from experiments.settings import known, load_preset
from experiments.tables.target import Asked, Selection, targets

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("recipes.json")
TABLES = ("table1", "table3", "table5", "table6", "table8", "table14", "gauge")
SLOW = ("torch", "transformers", "numpy", "pandas", "scipy", "matplotlib", "datasets", "lm_eval", "snakemake", "wandb")


def jobs_of(table: str, preset: str) -> Sequence[Job]:
    return targets()[table].plan(Asked(load_preset(preset), Selection(), everything=True)).jobs


def recipes(table: str, preset: str) -> str:
    """How many jobs there are, and a hash of all their names in a store."""
    keys = sorted(job.key for job in jobs_of(table, preset))
    return f"{len(keys)} {hashlib.sha256(' '.join(keys).encode()).hexdigest()[:16]}"


@pytest.mark.parametrize("preset", known("presets"))
@pytest.mark.parametrize("table", TABLES)
def test_a_store_filled_earlier_is_used_again(table: str, preset: str) -> None:
    assert recipes(table, preset) == json.loads(RECORD.read_text())[table][preset]


def test_planning_imports_nothing_slow(tmp_path: Path) -> None:
    calls = [["list"], *([table, "--dry-run", "--store", str(tmp_path / "store")] for table in TABLES)]
    for table in TABLES:
        recipes(table, "tiny")  # what it must know of the methods is remembered from here on
    script = f"import sys; sys.modules.update(dict.fromkeys({SLOW}))\nfrom experiments.commands.main import main\n"
    script += f"assert not any(main(call) for call in {calls})"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and ran.stdout.count("jobs would run") == len(TABLES), ran.stderr


if __name__ == "__main__":
    recorded = {table: {preset: recipes(table, preset) for preset in known("presets")} for table in TABLES}
    RECORD.write_text(json.dumps(recorded, indent=1) + "\n")
