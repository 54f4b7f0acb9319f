"""The whole path at `smoke`: once undisturbed, and then everything that may go wrong."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from experiments.jobs.store import Store
from impact.checkpoint import load_model
from impact.export import export_model

ROOT = Path(__file__).resolve().parents[2]
HEAD = "method,keep_pct,model_size_b,gsm8k_acc,gsm8k_low,gsm8k_high,math_acc,math_low,math_high,"


def command(folder: Path, *arguments: str, target: str = "table6") -> list[str]:
    places = ["--store", str(folder / "store"), "--results", str(folder / "results")]
    return [sys.executable, "-m", "experiments", target, "--preset", "smoke", *places, *arguments]


def run(folder: Path, *arguments: str, target: str = "table6") -> subprocess.CompletedProcess[str]:
    order = command(folder, *arguments, target=target)
    return subprocess.run(order, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)


def made(folder: Path) -> dict[str, int]:
    """Every finished output and when it was made."""
    return {str(path.parent): path.stat().st_mtime_ns for path in Store(folder / "store").records()}


def table(folder: Path) -> str:
    return (folder / "results" / "table6.csv").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    result = run(folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def copy(undisturbed: Path, tmp_path: Path) -> Path:
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    return tmp_path


def test_the_table_and_the_figure_are_there(undisturbed: Path) -> None:
    lines = table(undisturbed).splitlines()
    assert lines[0].startswith(HEAD + "printed_model_size_b")
    assert [line.split(",")[0] for line in lines[1:]] == ["dense", "dense_sft", "svd", "impact"]
    names = {path.name for path in (undisturbed / "results").iterdir()}
    assert {f"table6.{kind}" for kind in ("csv", "md", "json")} < names
    assert {f"figure2{panel}.{kind}" for panel in "ab" for kind in ("png", "pdf")} < names


def test_every_number_leads_to_its_run(undisturbed: Path) -> None:
    record = json.loads((undisturbed / "results" / "table6.json").read_text())
    for cell in record["cells"]:
        for key in cell["runs"].values():
            provenance = json.loads((undisturbed / "store" / key / "run.json").read_text())
            assert {"config", "version", "inputs", "git", "packages", "hardware", "wall_s", "peak_memory_mb"} <= set(
                provenance
            )
        verdicts = undisturbed / "store" / cell["runs"]["accuracy gsm8k"] / "verdicts.jsonl"
        kept = [json.loads(line)["correct"] for line in verdicts.read_text().splitlines()]
        marks = cell["benchmarks"]["gsm8k"]["correct"]
        assert "".join("1" if mark else "0" for mark in kept) == marks


def test_kept_generations_give_the_same_verdicts_without_a_model(undisturbed: Path, tmp_path: Path) -> None:
    """Through the command that anybody's generations go through."""
    for path in (undisturbed / "store" / "judge").glob("*/run.json"):
        provenance = json.loads(path.read_text())
        name, inputs = provenance["config"]["benchmark"], provenance["inputs"]
        generations = undisturbed / "store" / "evaluate" / inputs["generations"] / "generations.jsonl"
        kept = tmp_path / f"{path.parent.name}.jsonl"
        shutil.copyfile(generations, kept)
        data = undisturbed / "store" / "data" / inputs["data"] / f"{name}.jsonl"
        command = [sys.executable, "-m", "experiments", "score", name, str(kept), "--data", str(data)]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        correct = provenance["measured"]["correct"]
        assert f"({sum(correct)} of {len(correct)};" in told
        verdicts = kept.with_suffix(".verdicts.jsonl").read_text()
        assert verdicts == path.with_name("verdicts.jsonl").read_text()


def test_the_compressed_model_is_what_was_measured(undisturbed: Path) -> None:
    """A trained parent that answers in its child's place would give both the same perplexity."""
    cells = {c["method"]: c for c in json.loads((undisturbed / "results" / "table6.json").read_text())["cells"]}
    dense = cells["dense"]["ppl_before_sft"]
    for method in ("svd", "impact"):
        for source, perplexity in cells[method]["ppl_before_sft"].items():
            assert perplexity > 1.02 * dense[source]
        assert cells[method]["parameters"] < cells["dense"]["parameters"]


def test_only_responses_are_trained_on(undisturbed: Path) -> None:
    for path in (undisturbed / "store" / "sft").glob("*/run.json"):
        share = json.loads(path.read_text())["measured"]["labelled_share"]
        assert 0.3 < share < 0.8


def test_a_second_call_runs_nothing(undisturbed: Path) -> None:
    before, csv = made(undisturbed), table(undisturbed)
    assert run(undisturbed).returncode == 0
    assert made(undisturbed) == before and table(undisturbed) == csv


def test_a_published_file_that_is_gone_or_changed_is_written_again(copy: Path) -> None:
    before, csv = made(copy), table(copy)
    (copy / "results" / "figure2a.png").unlink()
    (copy / "results" / "table6.csv").write_text("changed")
    assert run(copy).returncode == 0
    assert made(copy) == before and table(copy) == csv and (copy / "results" / "figure2a.png").exists()


def test_why_tells_what_a_cell_rests_on_and_what_a_change_would_redo(undisturbed: Path) -> None:
    places = ["--store", str(undisturbed / "store"), "--preset", "smoke"]
    base = [sys.executable, "-m", "experiments", "why", "impact:3", *places]
    told = subprocess.run(base, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "finetune 7b" in told and "profile squared_gradient" in told and "would run" not in told
    told = subprocess.run([*base, "--eta", "0.5"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "would run: changed config.settings.eta (0.25 -> 0.5)" in told
    assert not [line for line in told.splitlines() if "profile" in line and "would run" in line]


def test_gc_keeps_what_the_table_rests_on(copy: Path) -> None:
    kept, csv = made(copy), table(copy)
    stray = copy / "store" / "sft" / "0123456789abcdef"
    shutil.copytree(next((copy / "store" / "sft").iterdir()), stray)
    arguments = ["--store", str(copy / "store"), "--results", str(copy / "results")]
    gc = [sys.executable, "-m", "experiments", "gc", *arguments]
    assert (
        "would remove 1 outputs"
        in subprocess.run([*gc, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )
    assert stray.exists()
    subprocess.run(gc, cwd=ROOT, capture_output=True, check=True)
    assert made(copy) == kept
    assert run(copy).returncode == 0 and made(copy) == kept and table(copy) == csv


def test_another_method_runs_only_what_is_missing(copy: Path) -> None:
    before = made(copy)
    result = run(copy, "--methods", "svd,impact,afm")
    assert result.returncode == 0, result.stderr
    after = made(copy)
    assert {path: after[path] for path in before} == before
    new = sorted(Path(path).parent.name for path in set(after) - set(before))
    assert new == ["compress", "evaluate", "evaluate", "judge", "judge", "perplexity", "perplexity", "prepare", "sft"]


def test_an_external_checkpoint_is_a_row_of_its_own(copy: Path) -> None:
    """What the pipeline compressed comes back as an ordinary checkpoint, and measures the same."""
    cells = json.loads((copy / "results" / "table6.json").read_text())["cells"]
    ours = next(cell for cell in cells if cell["method"] == "impact")
    compressed = copy / "store" / ours["runs"]["compress"]
    checkpoint = copy / "checkpoint"
    export_model(load_model(compressed), AutoTokenizer.from_pretrained(compressed), checkpoint)
    before = made(copy)
    external = ("--external", f"mine={checkpoint}")
    result = run(copy, *external)
    assert result.returncode == 0, result.stderr
    assert {Path(path).parent.name for path in made(copy).keys() - before.keys()} == {
        *("base", "perplexity", "evaluate", "judge")
    }
    cells = json.loads((copy / "results" / "table6.json").read_text())["cells"]
    mine = next(cell for cell in cells if cell["method"] == "mine")
    assert mine["parameters"] == ours["parameters"]
    assert mine["ppl_before_sft"] == pytest.approx(ours["ppl_before_sft"], rel=1e-5)

    renamed = run(copy, "--external", f"theirs={checkpoint}")
    assert renamed.returncode == 0 and " theirs " in renamed.stdout and " mine " not in renamed.stdout

    result = run(copy, *external, target="table14")
    assert result.returncode == 0, result.stderr
    points = json.loads((copy / "results" / "table14.json").read_text())["points"]
    sizes = {point["method"]: point["parameters"] for point in points}
    assert list(sizes) == ["dense", "svd", "impact", "mine"] and sizes["mine"] == sizes["impact"] < sizes["dense"]
    assert {f"figure8.{kind}" for kind in ("png", "pdf")} < {path.name for path in (copy / "results").iterdir()}

    (checkpoint / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:-100])
    broken = run(copy, *external)
    assert broken.returncode == 2 and len(broken.stderr.splitlines()) == 1 and "can't be loaded" in broken.stderr


def test_a_checkpoint_cut_short_is_made_again(copy: Path) -> None:
    csv = table(copy)
    (cut,) = [path for path in (copy / "store" / "compress").glob("*/model.safetensors")][:1]
    cut.write_bytes(cut.read_bytes()[:1000])
    result = run(copy)
    assert result.returncode == 0 and "made again: compress" in result.stdout
    assert table(copy) == csv and cut.stat().st_size > 1000


def test_a_flipped_bit_is_never_taken_for_a_good_output(copy: Path) -> None:
    csv = table(copy)
    (weights,) = (copy / "store" / "finetune").glob("*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    shutil.rmtree(copy / "store" / "compress")
    first = run(copy)
    assert first.returncode == 2 and first.stderr.count("\n") == 1
    assert "the content of model.safetensors has changed" in first.stderr
    assert run(copy).returncode == 0 and table(copy) == csv


def test_a_second_run_on_a_live_store_is_refused(copy: Path) -> None:
    shutil.rmtree(copy / "store" / "sft")
    with subprocess.Popen(command(copy), cwd=ROOT, stdout=subprocess.PIPE, text=True) as live:
        assert live.stdout is not None and "to run" in live.stdout.readline()
        result = run(copy)
        assert result.returncode == 2 and result.stderr.startswith("reproduce.sh: another run is using")
        assert live.wait() == 0


def test_a_reader_that_goes_away_does_not_stop_the_run(copy: Path) -> None:
    """As `| head` does: the lines go nowhere from then on."""
    csv = table(copy)
    shutil.rmtree(copy / "store" / "sft")
    (copy / "results" / "table6.csv").unlink()
    with subprocess.Popen(command(copy), cwd=ROOT, stdout=subprocess.PIPE, text=True) as live:
        assert live.stdout is not None and "to run" in live.stdout.readline()
        live.stdout.close()
        assert live.wait(timeout=600) == 0
    assert table(copy) == csv and len(list((copy / "store" / "sft").glob("*/run.json"))) == 3


def test_killed_at_any_moment_the_next_call_continues(undisturbed: Path, tmp_path: Path) -> None:
    """SIGKILL a random while after a random number of further outputs, until a call comes through."""
    moments, kills = random.Random(0), 0
    finished: dict[str, int] = {}
    while True:
        with subprocess.Popen(command(tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True) as live:
            wanted = len(finished) + moments.randint(1, 8)
            while live.poll() is None and len(made(tmp_path)) < wanted:
                time.sleep(0.05)
            time.sleep(moments.uniform(0, 3))
            if live.poll() is None:
                # Every other time only the parent: the stage that it was running must not survive it either.
                (os.kill if kills % 2 else os.killpg)(live.pid, signal.SIGKILL)
                kills += 1
        now = made(tmp_path)
        assert {path: now[path] for path in finished} == finished, "something finished was done twice"
        finished = now
        if live.returncode == 0:
            break
        assert kills < 40
        time.sleep(0.2)
    assert kills >= 2
    assert table(tmp_path) == table(undisturbed)


def test_a_full_disk_is_one_line_and_nothing_is_lost(copy: Path, small_disk: Any) -> None:
    """From an empty store that has room for less than the checkpoints."""
    small_disk.leave(600)
    small = small_disk.folder
    arguments = [argument.replace(str(copy / "store"), str(small)) for argument in command(copy)]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "no space left on the device" in result.stderr
    assert not list(small.glob("base/*/run.json"))
