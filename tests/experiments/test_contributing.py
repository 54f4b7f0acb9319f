"""CONTRIBUTING.md, followed word by word in a copy of the tree: what it adds is there, and runs."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ("Add a method", "Add a table", "Add a figure", "Add a benchmark")
# a path in backquotes, perhaps a remark, a colon, and the file in a fence
_EXAMPLE = re.compile(r"(at the end of )?`([\w./]+)`(?: \([^)]*\))?:\n\n```\w+\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A file that CONTRIBUTING.md shows, or what it adds to one that is there."""

    path: str
    text: str
    appended: bool


def examples(section: str) -> list[Example]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    return [Example(path, content, bool(appended)) for appended, path, content in _EXAMPLE.findall(text)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with every example in it."""
    copy = tmp_path_factory.mktemp("tree") / "harness"
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("results/tiny", "results/small")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    for section in SECTIONS:
        for example in examples(section):
            path = copy / example.path
            assert path.exists() == example.appended, example.path
            with path.open("a") as file:
                file.write(example.text)
    return copy


@pytest.fixture(scope="module")
def call(tree: Path) -> Callable[..., str]:
    """Calls the copy at `smoke`; what it prints."""

    def called(*arguments: str) -> str:
        places = ["--store", str(tree / "runs"), "--results", str(tree / "out")]
        order = [sys.executable, "-m", "experiments", *arguments, "--preset", "smoke", *places]
        ended = subprocess.run(order, cwd=tree, capture_output=True, text=True, check=False, timeout=900)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return called


def test_each_takes_at_most_two_files() -> None:
    for section in SECTIONS:
        assert 1 <= len({example.path for example in examples(section)}) <= 2, section


def test_the_method_is_measured(tree: Path, call: Callable[..., str]) -> None:
    call("table6", "--methods", "random_svd", "--rows", "1")
    table = pd.read_csv(tree / "out" / "table6.csv").set_index("method")
    row = table.loc["random_svd"]
    assert row["keep_pct"] == 60 and 0 < row["size_pct"] < 100 and row["gsm8k_n"] == 48
    assert row[["printed_model_size_b", "printed_gsm8k_acc"]].isna().all()


def test_the_method_passes_the_conformance_matrix(tree: Path) -> None:
    order = [sys.executable, "-m", "pytest", "tests/baselines/test_conformance.py", "-k", "random_svd", "-q"]
    ended = subprocess.run(order, cwd=tree, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stdout
    assert int(re.findall(r"(\d+) passed", ended.stdout)[0]) >= 3


def test_a_change_of_the_methods_file_makes_its_outputs_anew(tree: Path, call: Callable[..., str]) -> None:
    order = ("table6", "--methods", "random_svd", "--rows", "1")
    call(*order)
    assert "to run" not in call(*order)
    path = tree / "baselines" / "random_svd.py"
    before = path.read_text()
    path.write_text(before.replace("seed: int = 0", "seed: int = 1"))
    try:
        assert "prepare random_svd" in " ".join(call(*order, "--dry-run").split())
    finally:
        path.write_text(before)


def test_the_table_is_measured(tree: Path, call: Callable[..., str]) -> None:
    assert "eta_by_k: Accuracy by eta and k" in call("list")
    shown = call("eta_by_k")
    assert "eta_by_k.{csv,md,json}" in shown
    table = pd.read_csv(tree / "out" / "eta_by_k.csv")
    own = table[table["method"] == "impact"]
    assert list(zip(own["keep_pct"], own["eta"], strict=True)) == [(90, 0.25), (80, 0.25), (90, 0.75), (80, 0.75)]
    assert not [name for name in table if name.startswith("printed_") and table[name].notna().any()]
    assert "Accuracy by eta and k" in (tree / "out" / "eta_by_k.md").read_text()


def test_the_figure_is_drawn(tree: Path, call: Callable[..., str]) -> None:
    call("spectra")
    assert all((tree / "out" / f"spectra.{kind}").stat().st_size > 10_000 for kind in ("png", "pdf"))
    record = json.loads((tree / "out" / "spectra.json").read_text())
    (of,) = record["of"]
    assert (tree / "runs" / of["runs"]["components"] / "run.json").exists()
    assert {"preset", "commits", "command"} <= record["provenance"].keys()


def test_all_of_it_is_kept_and_shown(call: Callable[..., str], tree: Path) -> None:
    """Runs after the others, as it stands after them."""
    call("table6", "--methods", "random_svd", "--rows", "1")
    call("eta_by_k")
    call("spectra")
    assert "would remove 0 outputs" in call("gc", "--dry-run")
    call("report")
    page = (tree / "out" / "report.html").read_text()
    assert "random_svd" in page and "Accuracy by eta and k" in page and "Spectra" in page


def test_the_benchmark_is_asked_and_judged(tree: Path) -> None:
    program = """
import json
from pathlib import Path
from evals.benchmarks import Judging, get_benchmark, load_rows
from evals.judging import judge_generations
svamp = get_benchmark("svamp")
data, kept = Path("svamp.jsonl"), Path("kept.jsonl")
data.write_text(json.dumps({"question_concat": "There are 8 apples. How many are 2 less?", "Answer": "6.0"}))
(row,) = load_rows("svamp", data)
assert "There are 8 apples. How many are 2 less?" in svamp.prompt(row, "alpaca")
for answer, right in (("The answer is: 6", True), ("The answer is: 8", False)):
    kept.write_text(json.dumps({"task_id": "svamp/0", "completion": answer}) + "\\n")
    (judged,) = judge_generations("svamp", kept, data, Judging())
    assert judged.verdict.correct == right
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tree, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
