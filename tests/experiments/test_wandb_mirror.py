"""The W&B mirror: what its offline files hold after a run, what they don't, and that W&B can't stop a run."""

import csv
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments.commands.main import main
from experiments.jobs.job import Job
from experiments.mirror.content import SHARED, method_of, ranks
from experiments.mirror.mirror import asked_mode
from experiments.mirror.scrubbing import scrubbed
from experiments.settings import load_preset
from experiments.stages.components import COMPONENTS
from experiments.tables.declared import accuracy_tables, load_table

ROOT = Path(__file__).resolve().parents[2]
KEY, USER = "0123456789abcdef" * 2 + "fedcba98", "planted-user"
BLOCK, HEADER = 32768, 7
WITHOUT_PATHS = "and/or, 3 / 4, https://example.org/a/b, ./reproduce.sh"


def records(file: Path) -> Iterator[Any]:
    """Every record of a .wandb file: a LevelDB log (blocks of 32 KiB, parts of records with their CRC) of protobufs."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole = file.read_bytes(), HEADER, b""
    assert content[:4] == b":W&B"
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:  # a block's end that no header fits into
            place += BLOCK - place % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        part = content[place + HEADER : place + HEADER + length]
        assert zlib.crc32(bytes([kind]) + part) == checksum
        place += HEADER + length
        whole = part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(whole)
            yield record


@dataclass
class Mirrored:
    """What an offline run holds; history: every logged row."""

    folder: Path
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    said: str = ""
    exit_code: int | None = None

    @property
    def last(self) -> dict[str, Any]:
        return {name: value for row in self.history for name, value in row.items()}

    def table(self, key: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / "files" / self.last[key]["path"]).read_text()))


def values(items: Any) -> dict[str, Any]:
    """Of config, history or summary; what W&B stores of a table or an image is spread over several items."""
    found: dict[str, Any] = {}
    for item in items:
        place, keys = found, [item.key] if item.key else [*item.nested_key]
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = json.loads(item.value_json)
    return found


def read(folder: Path) -> Mirrored:
    (file,) = folder.glob("*.wandb")
    found = Mirrored(folder)
    for record in records(file):
        match record.WhichOneof("record_type"):
            case "run":
                found.run = record.run
                found.config |= values(record.run.config.update)
            case "config":
                found.config |= values(record.config.update)
            case "history":
                found.history.append(values(record.history.item))
            case "summary":
                found.summary |= values(record.summary.update)
            case "artifact":
                found.artifacts[record.artifact.name] = record.artifact
            case "output_logger":
                found.said += record.output_logger.line
            case "exit":
                found.exit_code = record.exit.exit_code
    return found


def mirrored_runs(store: Path) -> dict[str, Mirrored]:
    """Run id -> what its offline run holds."""
    found = [read(folder) for folder in sorted((store / "wandb").glob("offline-run-*"))]
    assert len({each.run.run_id for each in found}) == len(found)
    return {each.run.run_id: each for each in found}


def environment(home: Path, **more: str) -> dict[str, str]:
    """That of a user with a name, a home directory and a key, none of which is to be found anywhere."""
    home.mkdir(parents=True, exist_ok=True)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return plain | {"HOME": str(home), "USER": USER, "LOGNAME": USER, "WANDB_API_KEY": KEY, **more}


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """table6 at smoke with one method; folder: of store, results and home."""
    places = ["--store", str(folder / "store"), "--results", str(folder / "results")]
    order = [sys.executable, "-m", "experiments", "table6", "--preset", "smoke", "--methods", "impact", *places]
    variables = environment(folder / USER, **more)
    variables["IMPACT_COMMAND"] = f"./reproduce.sh table6 {' '.join(places)}"
    return subprocess.run(
        [*order, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=900
    )


def made(store: Path) -> dict[str, dict[str, Any]]:
    """Job id -> its run.json."""
    return {path.parent.name: json.loads(path.read_text()) for path in store.glob("*/*/run.json")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirrored")
    result = run(folder, WANDB_MODE="offline")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Mirrored]:
    return mirrored_runs(folder / "store")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """Store and results of the run, without what W&B has of it."""
    ignored = shutil.ignore_patterns("wandb", USER)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, ignore=ignored, copy_function=shutil.copy2)
    return tmp_path


def test_every_finished_job_has_a_run_that_ended_well(folder: Path, runs: dict[str, Mirrored]) -> None:
    jobs = made(folder / "store")
    tables = {name for name, each in runs.items() if each.run.job_type == "table"}
    assert len(tables) == 1 and runs.keys() - tables == jobs.keys()
    assert {each.exit_code for each in runs.values()} == {0}
    for name, record in jobs.items():
        mirrored = runs[name]
        assert mirrored.run.job_type == record["stage"]
        assert mirrored.run.project == "impact-reproduction"
        recipe = {key: record[key] for key in ("stage", "version", "config", "inputs", "label")}
        assert {key: mirrored.config[key] for key in recipe} == recipe
        assert mirrored.config["made"]["git"] == record["git"]
        assert mirrored.last["wall_s"] == record["wall_s"]
        assert mirrored.last["peak_memory_mb"] == record["peak_memory_mb"]
        assert {"table6", "preset smoke"} < {*mirrored.run.tags}


def test_groups_are_the_rows_of_the_table(runs: dict[str, Mirrored]) -> None:
    stages: dict[str, set[str]] = {}
    for each in runs.values():
        stages.setdefault(each.run.run_group, set()).add(each.run.job_type)
    assert stages == {
        "table6": {"table"},
        "table6 shared": {"data", "base", "finetune", "profile"},
        "table6 dense": {"perplexity", "evaluate", "judge"},
        "table6 dense_sft": {"sft", "perplexity", "evaluate", "judge"},
        "table6 impact": {"prepare", "compress", "sft", "perplexity", "evaluate", "judge"},
    }


def test_losses_accuracies_and_perplexities_are_there(folder: Path, runs: dict[str, Mirrored]) -> None:
    seen = set()
    for name, record in made(folder / "store").items():
        mirrored, measured = runs[name], record["measured"]
        seen.add(record["stage"])
        match record["stage"]:
            case "finetune" | "sft":
                losses = [row["loss"] for row in mirrored.history if "loss" in row]
                assert len(losses) >= 2 and all(map(math.isfinite, losses))
                assert losses[-1] == mirrored.last["final_loss"] == measured["loss"][-1]
                assert any("learning_rate" in row for row in mirrored.history)
            case "judge":
                benchmark = record["config"]["benchmark"]
                accuracy = 100 * sum(measured["correct"]) / measured["n"]
                assert mirrored.last[f"accuracy/{benchmark}"] == pytest.approx(accuracy)
                low, high = (mirrored.last[f"accuracy_{end}/{benchmark}"] for end in ("low", "high"))
                assert low <= accuracy <= high and low < high
            case "perplexity":
                for source, value in measured["perplexity"].items():
                    assert mirrored.last[f"perplexity/{source}"] == value
    assert {"finetune", "sft", "judge", "perplexity"} < seen


def test_spectra_and_ranks_are_the_outputs_of_the_stages(folder: Path, runs: dict[str, Mirrored]) -> None:
    jobs = made(folder / "store")
    (prepared,) = (name for name, record in jobs.items() if record["stage"] == "prepare")
    tensors = load_file(folder / "store" / "prepare" / prepared / COMPONENTS)
    spectra = {name.removesuffix(":spectrum"): t for name, t in tensors.items() if name.endswith(":spectrum")}
    table = runs[prepared].table("spectra")
    assert table["columns"] == ["unit", "component", "importance", "sum_pct"]
    assert {row[0] for row in table["data"]} == spectra.keys()
    for unit, component, importance, percent in table["data"]:
        assert importance == pytest.approx(float(spectra[unit][component - 1]))
        assert percent == pytest.approx(100 * spectra[unit][:component].sum() / spectra[unit].sum(), rel=1e-4)
    for name, record in jobs.items():
        if record["stage"] == "compress":
            rows = runs[name].table("ranks")["data"]
            assert {row[0]: row[1] for row in rows} == record["measured"]["kept"]
            assert all(row[2] == len(spectra[row[0]]) and 0 < row[4] <= 100 for row in rows)


def test_ranks_count_parts_that_are_kept_and_units_that_stay_dense(tmp_path: Path) -> None:
    spectrum = np.array([4.0, 3.0, 2.0, 1.0], dtype=np.float32)
    save_file({f"{unit}:spectrum": spectrum for unit in ("dense", "factorised", "pruned")}, tmp_path / COMPONENTS)
    sheet = ranks({"dense": None, "factorised": 1, "pruned": [0, 3]}, tmp_path)
    assert {row[0]: row[1:] for row in sheet.rows} == {
        "dense": [4, 4, 100, 100],
        "factorised": [1, 4, 25, 40],
        "pruned": [2, 4, 50, 70],
    }


def test_the_table_and_its_figures_are_there(folder: Path, runs: dict[str, Mirrored]) -> None:
    (table,) = (each for each in runs.values() if each.run.job_type == "table")
    with (folder / "results" / "table6.csv").open(newline="") as file:
        columns, *rows = csv.reader(file)
    shown = table.table("table6")
    assert shown["columns"] == columns and len(shown["data"]) == len(rows)
    for written, row in zip(rows, shown["data"], strict=True):
        assert [value and str(value) for value in written] == [
            "" if value is None else text if isinstance(value, float) else value
            for text, value in zip(written, row, strict=True)
        ]
    verdicts = json.loads((folder / "results" / "table6.json").read_text())["verdicts"]
    place = table.table("table6_verdicts")
    statements = [row[place["columns"].index("statement")] for row in place["data"]]
    assert statements == [verdict["statement"] for verdict in verdicts]
    images = table.last["figure2"]
    assert images["captions"] == ["figure2a", "figure2b"]
    assert all((table.folder / "files" / name).is_file() for name in images["filenames"])


def test_the_files_of_the_table_wait_in_an_artifact(folder: Path, runs: dict[str, Mirrored]) -> None:
    (table,) = (each for each in runs.values() if each.run.job_type == "table")
    contents = table.artifacts["table6-smoke"].manifest.contents
    assert all(entry.local_path.startswith("wandb/") for entry in contents)
    entries = {entry.path: folder / "store" / entry.local_path for entry in contents}
    results = folder / "results"
    assert entries.keys() == {path.name for path in results.iterdir()}
    for name, waiting in entries.items():
        if not name.endswith((".md", ".json")):  # those hold the command, with its paths
            assert waiting.read_bytes() == (results / name).read_bytes()


def test_nothing_of_the_machine_is_in_what_is_sent(folder: Path, runs: dict[str, Mirrored]) -> None:
    assert {each.run.host for each in runs.values()} == {""}
    wandb = folder / "store" / "wandb"
    sent = [path for run in wandb.glob("offline-run-*") for path in (*run.glob("*.wandb"), *(run / "files").rglob("*"))]
    sent += (wandb / "artifacts").rglob("*")
    assert len(sent) > 50
    for path in filter(Path.is_file, sent):
        content = path.read_bytes()
        for secret in (KEY, USER, str(folder), str(ROOT), sys.executable):
            assert secret.encode() not in content, f"{secret} in {path}"
    for path in filter(Path.is_file, wandb.rglob("*")):  # W&B's own logs too, which it doesn't send
        assert KEY.encode() not in path.read_bytes()


def test_wandb_sync_finds_every_run(folder: Path, runs: dict[str, Mirrored], tmp_path: Path) -> None:
    order = [sys.executable, "-m", "wandb", "sync", "--dry-run"]
    variables = environment(tmp_path)
    told = subprocess.run(order, cwd=folder / "store", env=variables, capture_output=True, text=True, check=True)
    assert f"Would sync {len(runs)} run(s)" in told.stdout + told.stderr


def test_a_second_call_mirrors_nothing_again(folder: Path, runs: dict[str, Mirrored]) -> None:
    result = run(folder, "--wandb", WANDB_MODE="offline")
    assert result.returncode == 0 and "W&B" not in result.stdout
    assert mirrored_runs(folder / "store").keys() == runs.keys()


def test_what_was_made_without_wandb_is_caught_up(copy: Path, runs: dict[str, Mirrored]) -> None:
    result = run(copy, "--wandb", WANDB_API_KEY="")
    assert result.returncode == 0, result.stderr
    assert "W&B has no key here" in result.stdout
    caught = mirrored_runs(copy / "store")
    jobs = made(copy / "store").keys()  # the table is another: it names another command
    assert len(caught) == len(runs) == len(jobs) + 1 and caught.keys() > jobs
    assert {each.exit_code for each in caught.values()} == {0}


NOT_IMPORTED = """
import os, sys
from experiments.commands.main import main
assert main(sys.argv[1:]) == 0
os.environ["WANDB_MODE"] = "disabled"
assert main([*sys.argv[1:], "--wandb"]) == 0
assert "wandb" not in sys.modules
"""


def test_without_being_asked_wandb_is_not_even_imported(copy: Path) -> None:
    places = ["--store", str(copy / "store"), "--results", str(copy / "results"), "--methods", "impact"]
    order = [sys.executable, "-c", NOT_IMPORTED, "table6", "--preset", "smoke", *places]
    subprocess.run(order, cwd=ROOT, env=environment(copy / USER), check=True, timeout=300)
    assert not (copy / "store" / "wandb").exists()


def test_wandb_that_can_write_nowhere_stops_nothing(copy: Path) -> None:
    (copy / "occupied").write_text("a file where a folder should be")
    before = (copy / "results" / "table6.csv").read_text()
    result = run(copy, WANDB_MODE="offline", WANDB_DIR=str(copy / "occupied"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("W&B") == 1
    assert (copy / "results" / "table6.csv").read_text() == before


def planned() -> list[Job]:
    from experiments.tables.accuracy import plan_table
    from experiments.tables.target import Selection

    return plan_table(load_table("table6"), load_preset("smoke"), Selection()).jobs


MIRROR = """
import sys
from pathlib import Path
from experiments.running.observer import Event
from experiments.tables.accuracy import plan_table
from experiments.tables.target import Selection
from experiments.settings import load_preset
from experiments.tables.declared import load_table
from experiments.jobs.store import Store
from experiments.mirror.mirror import Destination, WandbMirror

failing, interrupted = plan_table(load_table("table6"), load_preset("smoke"), Selection()).jobs[:2]
store = Store(Path(sys.argv[1]))
destination = Destination(sys.argv[2], store.root, "table6", "smoke")
with WandbMirror(store, destination, print) as mirror:
    for job in (failing, interrupted):
        mirror(Event([job], "started"))
        mirror(Event([job], "logged", ({"step": 1, "loss": 2.5},)))
        mirror(Event([job], "told", (f"goes on with half the batch; the log is {store.log(job)}",)))
    mirror(Event([failing], "ended", (f"what it printed is in {store.log(failing)}",)))
"""


def mirror_two(folder: Path, mode: str, **more: str) -> tuple[list[Mirrored], str]:
    """A job that fails and one that doesn't end: what is offline of them afterwards, and what was said meanwhile."""
    order = [sys.executable, "-c", MIRROR, str(folder / "store"), mode]
    variables = environment(folder / USER, **more)
    told = subprocess.run(order, cwd=ROOT, env=variables, capture_output=True, text=True, check=True, timeout=300)
    ended = sorted(mirrored_runs(folder / "store").values(), key=lambda each: each.exit_code or 0)
    return ended, told.stdout


def test_a_failure_and_an_interruption_don_t_look_like_success(tmp_path: Path) -> None:
    (found, interrupted), _ = mirror_two(tmp_path, "offline")
    assert (found.exit_code, interrupted.exit_code) == (1, 255)
    assert not list((tmp_path / "store" / "wandb").glob("mirrored/*/*/*"))
    assert found.summary["error"] == "what it printed is in [path]"
    assert "goes on with half the batch; the log is [path]" in found.said
    assert {name: found.last[name] for name in ("loss", "_step")} == {"loss": 2.5, "_step": 1}


def test_without_a_network_the_rest_is_kept_offline(tmp_path: Path) -> None:
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "2", "WANDB_FINISH_TIMEOUT": "1"}
    (found, interrupted), said = mirror_two(tmp_path, "online", **nowhere)
    assert (found.exit_code, interrupted.exit_code) == (1, 255)
    assert said.count("W&B fails") == 1 and "is kept in" in said.splitlines()[0]


FIGURES = """
import sys
from pathlib import Path
from experiments.jobs.store import Store
from experiments.mirror.mirror import Destination, WandbMirror

store, destination = Store(Path(sys.argv[1])), Destination("offline", Path(sys.argv[1]), "histograms", "smoke")
for _ in range(2):
    with WandbMirror(store, destination, print) as mirror:
        mirror.published([*map(Path, sys.argv[2:])])
"""


def test_figures_of_no_table_are_mirrored_once(tmp_path: Path) -> None:
    """Without a JSON file: their contents tell whether they have been mirrored."""
    files = [tmp_path / f"histogram_{name}" for name in ("q.png", "q.pdf", "v.png", "v.pdf")]
    for file in files:
        shutil.copy(ROOT / "results" / "tiny" / f"figure2a{file.suffix}", file)
    files.append(tmp_path / "histograms.csv")
    files[-1].write_text("unit,importance\nq,2.5\n")
    store = tmp_path / "store"
    order = [sys.executable, "-c", FIGURES, str(store), *map(str, files)]
    told = subprocess.run(order, cwd=ROOT, env=environment(tmp_path / USER), capture_output=True, text=True, check=True)
    assert told.stdout.count("W&B: 1 runs offline") == 1
    (found,) = mirrored_runs(store).values()
    assert (found.run.display_name, found.run.run_group) == ("histograms at smoke", "histograms")
    assert (found.exit_code, found.last["histogram_q"]["captions"]) == (0, ["histogram_q"])
    assert found.table("histograms") == {"columns": ["unit", "importance"], "data": [["q", 2.5]]}
    entries = {entry.path for entry in found.artifacts["histograms-smoke"].manifest.contents}
    assert entries == {file.name for file in files}


@pytest.mark.parametrize(
    ("named", "asked", "mode"),
    [
        ("", False, None),
        ("", True, "online"),
        ("offline", False, "offline"),
        ("OFFLINE", True, "offline"),
        ("online", False, "online"),
        ("disabled", True, None),
        ("dryrun", False, "offline"),
    ],
)
def test_the_mode_is_the_environments_else_the_options(named: str, asked: bool, mode: str | None) -> None:
    assert asked_mode(asked, {"WANDB_MODE": named, "WANDB_API_KEY": KEY}) == mode


def test_a_job_belongs_to_the_method_whose_model_it_makes() -> None:
    methods = {job.describe(): method_of(job) for job in planned()}
    assert methods["finetune 7b"] == methods["data mathematics"] == SHARED
    assert methods["judge dense on gsm8k"] == "dense"
    assert methods["sft dense_sft"] == methods["judge dense_sft on math"] == "dense_sft"
    row = next(name.removeprefix("compress ") for name in methods if name.startswith("compress impact"))
    assert {methods[f"{stage} {row}"] for stage in ("compress", "sft", "perplexity")} == {"impact"}
    assert methods["prepare svd"] == "svd"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("--store /scratch/x --results out", "--store [path] --results out"),
        ("--data-dir ../shared/data, then", "--data-dir [path], then"),
        ("what it printed is in /a/b c.log (see ~/c)", "what it printed is in [path] c.log (see [path])"),
        ('{"path": "/a/b"}', '{"path": "[path]"}'),
        ("file:///a/b", "[path]"),
        (WITHOUT_PATHS, WITHOUT_PATHS),
        ("the key is 12345678", "the key is [secret]"),
    ],
)
def test_paths_and_secrets_are_taken_out(text: str, left: str) -> None:
    assert scrubbed(text, {"SOME_API_KEY": "12345678", "SHELL": "and/or, 3"}) == left


def test_paths_with_spaces_below_home_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a b")
    assert scrubbed("in /home/a b/runs: no", {}) == "in [path]: no"


def test_published_tables_stay_what_they_are() -> None:
    """All of the committed tables that were made without a path in the command."""
    for path in (ROOT / "results" / "tiny").glob("*.[cjm][sd]*"):
        text = path.read_text(encoding="utf-8")
        assert scrubbed(text, {}) == text, path.name


def test_the_workspace_shows_tables_first() -> None:
    from evals.benchmarks import BENCHMARKS
    from experiments.mirror.workspace import build_workspace
    from experiments.tables.target import targets

    names = [name for target in targets().values() for name in target.names]
    view = build_workspace("somebody", "a-project", names, [*accuracy_tables()], [*BENCHMARKS])
    section = view._spec["spec"]["section"]
    bank = section["panelBankConfig"]["sections"]
    assert bank[0]["name"] == "Tables" and bank[0]["isOpen"]
    panels = {each["name"]: json.dumps(each["panels"]) for each in bank}
    for name, keys in {
        "Tables": (*accuracy_tables(), "table14", "gauge"),
        "Figures": ("figure2", "figure8"),
        "Verdicts": [f"{name}_verdicts" for name in accuracy_tables()],
        "Accuracy and perplexity": ("accuracy/gsm8k", "perplexity/math"),
        "Training": ("loss", "grad_norm"),
        "Spectra and ranks": ("spectra", "ranks"),
    }.items():
        assert all(f'"{key}"' in panels[name] for key in keys), name
    assert [group["name"] for group in section["runSets"][0]["grouping"]] == ["table.value", "method.value"]


def test_a_workspace_without_a_key_is_one_clear_line(tmp_path: Path) -> None:
    order = [sys.executable, "-m", "experiments", "wandb-workspace"]
    variables = environment(tmp_path, WANDB_API_KEY="")
    result = subprocess.run(order, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "wandb login" in result.stderr


def test_an_unknown_mode_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    assert main(["table6", "--preset", "smoke", "--store", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "online, offline or disabled" in said
