"""`bless` and `check` on Table 6 as it is committed: they run no model."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.commands import catalogue, make
from experiments.commands.check import REFERENCE
from experiments.commands.main import main

MEASURED = Path(__file__).resolve().parents[2] / "results" / "tiny"


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    return subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean work tree with a measured Table 6, which the commands take for the harness's own."""
    tables = tmp_path / "results" / "tiny"
    tables.mkdir(parents=True)
    for kind in ("csv", "json"):
        shutil.copy(MEASURED / f"table6.{kind}", tables)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "measured")
    for module in (catalogue, make):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def blessed(root: Path) -> Path:
    assert main(["bless"]) == 0
    return root


def edit(root: Path, change: Callable[[list[dict[str, Any]]], object], into: str = "tiny") -> Path:
    """Writes the table with its cells changed; returns the folder it lies in."""
    source, folder = root / "results" / "tiny", root / "results" / into
    folder.mkdir(exist_ok=True)
    record = json.loads((source / "table6.json").read_text())
    change(record["cells"])
    (folder / "table6.json").write_text(json.dumps(record))
    return folder


def flip(cell: dict[str, Any], name: str, problems: np.ndarray) -> None:
    marks = [*cell["benchmarks"][name]["correct"]]
    for problem in problems:
        marks[problem] = "10"[int(marks[problem])]
    cell["benchmarks"][name]["correct"] = "".join(marks)


def lose(method: str, points: float) -> Callable[[list[dict[str, Any]]], None]:
    """Turns so many points of a method's marks from solved to unsolved, drawn over all its rows and benchmarks."""

    def change(cells: list[dict[str, Any]]) -> None:
        own = [(cell, name) for cell in cells if cell["method"] == method for name in cell["benchmarks"]]
        marks = np.array([[*cell["benchmarks"][name]["correct"]] for cell, name in own]) == "1"
        lost = np.random.default_rng(0).choice(np.flatnonzero(marks), round(points / 100 * marks.size), replace=False)
        for i, (cell, name) in enumerate(own):
            flip(cell, name, lost[lost // marks.shape[1] == i] % marks.shape[1])

    return change


def test_a_dirty_tree_is_not_blessed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "new.py").write_text("")
    assert main(["bless"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("reproduce.sh: bless needs a clean git tree") and said.count("\n") == 1
    assert "new.py" in said and not (root / REFERENCE).exists()


def test_without_git_nothing_is_blessed(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    assert main(["bless"]) == 2
    assert "bless needs a git checkout" in capsys.readouterr().err


def test_the_reference_says_whence_it_is(blessed: Path) -> None:
    reference = json.loads((blessed / REFERENCE / "tiny" / "table6.json").read_text())
    table = json.loads((blessed / "results" / "tiny" / "table6.json").read_text())
    assert reference["cells"] == table["cells"]
    assert reference["provenance"] == table["provenance"]
    assert reference["blessed"]["commit"] == git(blessed, "rev-parse", "HEAD")
    # references alone leave a tree clean
    assert main(["bless", "table6"]) == 0


def test_an_unchanged_table_is_quiet_and_bit_identical(blessed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "Table 6: 27 of 27 cells are bit-identical to the reference's" in said.out
    assert "no method got worse" in said.out


@pytest.mark.parametrize("points, code", [(2.9, 0), (3.1, 1)])
def test_the_drop_that_it_says_it_can_detect_fails(
    blessed: Path, points: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["impact"]]
    assert float(line.split()[-1]) == pytest.approx(3.0, abs=0.1)
    edit(blessed, lose("impact", points))
    assert main(["check"]) == code
    errors = capsys.readouterr().err.splitlines()
    assert all(error.startswith("reproduce.sh: impact: ") for error in errors)
    assert any("accuracy fell by 3.1 points" in error for error in errors) is bool(code)
    # the other methods alone are as they were
    assert main(["check", "--methods", "svd,afm"]) == 0


def test_a_missing_method_fails_and_a_missing_reference_is_one_line(
    blessed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = edit(blessed, lambda cells: cells.__setitem__(slice(None), cells[:7]), into="part")
    assert main(["check", "--results", str(folder)]) == 1
    assert "Table 6: not measured, and in the reference: fwsvd rows" in capsys.readouterr().err
    assert main(["check", "--results", str(folder), "--methods", "svd"]) == 0
    for arguments, line in (
        (["check", "--preset", "small"], "no reference in"),
        (["check", "table8"], "no Table 8 in"),
        (["check", "--methods", "impct"], "unknown method of the reference 'impct': did you mean 'impact'?"),
        (["check", "--results", str(blessed / "absent")], "no accuracy table in"),
        (["check", "--each-seed"], "have no seed beyond the reference's"),
        (["table6", "check"], "check comes first, by itself: ./reproduce.sh check ..."),
        (["bless", "--results", str(blessed / "absent")], "no accuracy table in"),
    ):
        capsys.readouterr()
        if arguments[0] == "bless":
            shutil.rmtree(folder)
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert line in said and said.count("\n") == 1


def test_every_seed_is_held_to_the_reference(blessed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds whose marks turn both ways at one rate, and one that lost a method."""

    def reseeded(cells: list[dict[str, Any]]) -> None:
        rng = np.random.default_rng(5)
        for seed in (43, 44, 45):
            for cell in [cell for cell in cells if cell["seed"] == 42 and cell["method"] != "dense"]:
                other = json.loads(json.dumps(cell)) | {"seed": seed}
                for name, result in other["benchmarks"].items():
                    solved = np.array([*result["correct"]]) == "1"
                    turned = min(solved.sum(), (~solved).sum(), 25)
                    for kind in (solved, ~solved):
                        flip(other, name, rng.choice(np.flatnonzero(kind), turned, replace=False))
                cells.append(other)
        lose("svd", 10)([cell for cell in cells if cell["seed"] == 45])

    folder = edit(blessed, reseeded, into="seeds")
    assert main(["check", "--each-seed", "--results", str(folder)]) == 1
    said = capsys.readouterr()
    assert "seed 43: quiet" in said.out and "seed 44: quiet" in said.out and "2 of 3 unchanged seeds" in said.out
    assert all(line.startswith("reproduce.sh: seed 45: svd: ") for line in said.err.splitlines())
    assert main(["check", "--each-seed", "--results", str(folder), "--methods", "impact"]) == 0
    said = capsys.readouterr()
    assert "3 of 3 unchanged seeds" in said.out and "3 of 3 planted drops of the detectable size fail" in said.out
