"""data: the splits that one preset trains, calibrates and tests on, disjoint, as JSONL files."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evals.benchmarks import BENCHMARKS, Row, load_rows, read_json_lines, sft_rows
from experiments.errors import UserError
from experiments.miniature.problems import Sizes, generate
from experiments.settings import GeneratedData, PublishedData
from experiments.stages.configs import DataConfig
from experiments.stages.interface import Task
from experiments.store import checksum

Splits = dict[str, list[Row]]

HUB = {
    "gsm8k": ("openai/gsm8k", ("main",)),
    "math": (
        "EleutherAI/hendrycks_math",
        (
            "algebra",
            "counting_and_probability",
            "geometry",
            "intermediate_algebra",
            "number_theory",
            "prealgebra",
            "precalculus",
        ),
    ),
    "metamath": ("meta-math/MetaMathQA", ("default",)),
}
"""Where a published set lies on the hub: repository and its configurations."""


def run(task: Task) -> dict[str, Any]:
    """Writes train, calibration, heldout ({query, response, source} rows) and one test file a benchmark."""
    config: DataConfig = task.config
    splits = (
        _generated(config.data, config.benchmarks)
        if isinstance(config.data, GeneratedData)
        else _published(config.data, config, Path(task.paths["data_dir"]) if "data_dir" in task.paths else None)
    )
    for name, rows in splits.items():
        with (task.out / f"{name}.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    notes = {}
    for name in config.benchmarks:
        if isinstance(config.data, PublishedData) and f"{name}/test.jsonl" not in config.files:
            notes[name] = f"{name}: no test file was given; tested on rows held out of its training file"
    return {"rows": {name: len(rows) for name, rows in splits.items()}, "notes": notes}


def published_files(data: PublishedData, benchmarks: Iterable[str], directory: Path | None) -> dict[str, str]:
    """The files that the published data are read from, with their checksums.

    With a directory everything comes from it; a benchmark's missing test file is replaced by held-out training rows.
    Raises UserError for a missing training file.
    """
    if directory is None:
        return {f"{name}/{split}.jsonl": "hub" for name in data.train for split in ("train",)} | {
            f"{name}/test.jsonl": "hub" for name in benchmarks
        }
    files = {}
    for name in sorted({*data.train, *benchmarks}):
        for split in ("train", "test"):
            path = directory / name / f"{split}.jsonl"
            if path.is_file():
                files[f"{name}/{split}.jsonl"] = checksum(path)
            elif split == "train" and name in data.train:
                raise UserError(f"no training data at {path}: give --data-dir a folder that holds {name}/train.jsonl")
            elif split == "test" and name in benchmarks and name not in data.train:
                raise UserError(f"no test data at {path}: give --data-dir a folder that holds {name}/test.jsonl")
    return files


def _generated(data: GeneratedData, benchmarks: tuple[str, ...]) -> Splits:
    return generate(
        data.seed,
        Sizes(train=data.train, calibration=data.calibration, heldout=data.heldout, gsm8k=data.test, math=data.test),
    )


def _published(data: PublishedData, config: DataConfig, directory: Path | None) -> Splits:
    """Shuffles each source once and cuts it: test (where there is no test file), held out, calibration, train."""
    splits: Splits = {"train": [], "calibration": [], "heldout": []}
    for name in config.benchmarks:
        if f"{name}/test.jsonl" in config.files:
            splits[name] = _read(name, "test", directory)[: data.test.get(name)]
    for name, limit in data.train.items():
        rows = _read(name, "train", directory)
        random.Random(f"{data.seed} {name}").shuffle(rows)
        if name in config.benchmarks and name not in splits:
            held_out = data.test.get(name)
            if held_out is None:
                raise UserError(f"{name} has no test file here: the preset must say how many training rows to test on")
            splits[name], rows = rows[:held_out], rows[held_out:]
        sft = [{**row, "source": name} for row in (sft_rows(name, rows) if name in BENCHMARKS else rows)]
        share = data.calibration // len(data.train)
        splits["heldout"] += sft[: data.heldout]
        splits["calibration"] += sft[data.heldout : data.heldout + share]
        rest = sft[data.heldout + share :]
        splits["train"] += rest[:limit]
    for name in ("calibration", "train"):
        random.Random(data.seed).shuffle(splits[name])
    return splits


def _read(name: str, split: str, directory: Path | None) -> list[Row]:
    if directory is not None:
        path = directory / name / f"{split}.jsonl"
        return load_rows(name, path) if name in BENCHMARKS else read_json_lines(path, ("query", "response"))
    from datasets import load_dataset  # slow to import, and only the hub needs it

    repository, parts = HUB[name]
    return [dict(row) for part in parts for row in load_dataset(repository, part, split=split)]


def rows_of(split: Path, source: str | None = None) -> list[Row]:
    """The rows of a {query, response, source} split, of one source or all."""
    rows = read_json_lines(split, ("query", "response", "source"))
    return [row for row in rows if source in (None, row["source"])]
