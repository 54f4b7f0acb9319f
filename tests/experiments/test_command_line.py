"""What a user can do wrong ends in one clear line and exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def reproduce(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["tabel6"], "unknown target 'tabel6': did you mean 'table6'?"),
        (["table6", "--preset", "tinny"], "unknown preset 'tinny': did you mean 'tiny'?"),
        (["table6", "--methods", "impct"], "unknown method 'impct': did you mean 'impact'?"),
        (["table6", "--rows", "9"], "svd has no row 9 in table 6: its rows are 1, 2, 3, 4, 5"),
        (["table6", "--rows", "one"], "--rows takes row numbers such as 1,3, not 'one'"),
        (["table6", "--eta", "1.5"], "--eta must lie in [0, 1], got 1.5"),
        (["table6", "--seeds", "0"], "--seeds and --cores take a number of at least 1"),
        (["table6", "--bogus"], "unrecognized arguments: --bogus"),
        (["table6", "--preset", "small", "--data-dir", "/no/such"], "--data-dir /no/such is no directory"),
        (["why", "impact:7"], "unknown cell 'impact:7': did you mean 'impact:"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    result = reproduce(*arguments, "--store", str(tmp_path / "store"), "--results", str(tmp_path / "results"))
    assert result.returncode == 2
    assert result.stderr.startswith(f"reproduce.sh: {line}") and result.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


def published(folder: Path, broken: str | None = None) -> Path:
    gsm8k = [
        json.dumps({"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"}) for n in range(40)
    ]
    math = [
        json.dumps({"problem": f"${n}$?", "solution": f"\\boxed{{{n}}}", "level": "", "type": ""}) for n in range(40)
    ]
    for name, rows in (("gsm8k", gsm8k), ("math", math)):
        (folder / name).mkdir(parents=True)
        for split in ("train", "test"):
            (folder / name / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    if broken is not None:
        rows = [*gsm8k[:6], broken, *gsm8k[7:]]
        (folder / "gsm8k" / "train.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize(
    "broken, complaint",
    [
        ('{"question": "What is', "train.jsonl, line 7: not valid JSON"),
        ('{"question": "What is 1?"}', 'train.jsonl, line 7: field "answer" is missing'),
    ],
)
def test_a_malformed_data_file_names_the_line(broken: str, complaint: str, tmp_path: Path) -> None:
    folder = published(tmp_path / "data", broken)
    result = reproduce("table6", "--preset", "small", "--data-dir", str(folder), "--store", str(tmp_path / "store"))
    assert result.returncode == 2
    assert complaint in result.stderr and result.stderr.count("\n") == 1


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    folder = published(tmp_path / "data")
    (folder / "gsm8k" / "train.jsonl").unlink()
    result = reproduce("table6", "--preset", "small", "--data-dir", str(folder), "--store", str(tmp_path / "store"))
    assert result.returncode == 2
    assert f"no training data at {folder}/gsm8k/train.jsonl" in result.stderr and result.stderr.count("\n") == 1


def test_the_paper_preset_says_what_it_would_run_and_what_is_missing(tmp_path: Path) -> None:
    result = reproduce("table6", "--preset", "paper", "--dry-run", "--store", str(tmp_path))
    assert result.returncode == 0
    assert "170 jobs would run" in result.stdout and "6,738,415,616 parameters" in result.stdout
    assert "GPU-hours" in result.stdout and "missing here: weights of meta-llama/Llama-2-7b-hf" in result.stdout


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    folder = published(tmp_path / "data")
    (folder / "metamath").mkdir()
    row = json.dumps({"query": "What is 1?", "response": "The answer is: 1"})
    (folder / "metamath" / "train.jsonl").write_text(f"{row}\n" * 9000)
    result = reproduce(
        "table6",
        "--preset",
        "paper",
        "--data-dir",
        str(folder),
        "--model-dir",
        str(tmp_path),
        "--store",
        str(tmp_path / "s"),
    )
    assert result.returncode == 2
    assert "Llama-2-7b-hf can't be loaded" in result.stderr and result.stderr.count("\n") == 1
