"""data: the splits that one preset trains, calibrates and tests on, disjoint, as JSONL files."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evals.benchmarks import BENCHMARKS, AnswerBenchmark, load_rows
from evals.json_lines import Row, read_json_lines, write_json_lines
from evals.published import local_file, published_names, published_set
from experiments.errors import UserError
from experiments.jobs.stage import Task
from experiments.jobs.store import checksum
from experiments.miniature.domains import generate
from experiments.miniature.splits import Sizes
from experiments.settings import GeneratedData, PublishedData
from experiments.stages.configs import DataConfig

Splits = dict[str, list[Row]]


def run(task: Task) -> dict[str, Any]:
    """Writes train, calibration, heldout ({query, response, source} rows) and one test file a benchmark."""
    config: DataConfig = task.config
    notes: dict[str, str] = {}
    splits = (
        _generated(config.data, config.domain)
        if isinstance(config.data, GeneratedData)
        else _published(config.data, config, Path(task.paths["data_dir"]) if "data_dir" in task.paths else None, notes)
    )
    for name, rows in splits.items():
        write_json_lines(task.out / f"{name}.jsonl", rows)
    for name in config.benchmarks:
        if isinstance(config.data, PublishedData) and f"{name}/test" not in config.files:
            notes[name] = f"{name}: no test file was given; tested on rows held out of its training file"
    return {"rows": {name: len(rows) for name, rows in splits.items()}, "notes": notes}


def published_files(data: PublishedData, benchmarks: Iterable[str], directory: Path | None) -> dict[str, str]:
    """The splits that the published data are read from ("gsm8k/test"), with their files' checksums.

    With a directory everything comes from it; a benchmark's missing test file is replaced by held-out training rows.
    Raises UserError for a missing file.
    """
    if directory is None:
        return dict.fromkeys([f"{name}/train" for name in data.train] + [f"{name}/test" for name in benchmarks], "hub")
    files = {}
    for name in sorted({*data.train, *benchmarks}):
        for split in ("train", "test"):
            path = local_file(directory, name, split)
            if path is not None:
                files[f"{name}/{split}"] = checksum(path)
            elif (split == "train") == (name in data.train):
                names = " or ".join(published_names(name, split))
                raise UserError(f"no {name} {split} data in {directory}: --data-dir needs {name}/ with {names}")
    return files


def _generated(data: GeneratedData, domain: str) -> Splits:
    sizes = Sizes(train=data.train, calibration=data.calibration, heldout=data.heldout, test=data.test)
    return generate(domain, data.seed, sizes)


def _published(data: PublishedData, config: DataConfig, directory: Path | None, notes: dict[str, str]) -> Splits:
    """Shuffles each source once and cuts it: test (where there is no test file), held out, calibration, train.

    Where a source has fewer rows to train on than the preset wants, ``notes`` is told.
    """
    splits: Splits = {"train": [], "calibration": [], "heldout": []}
    for name in config.benchmarks:
        if f"{name}/test" in config.files:
            splits[name] = _read(name, "test", directory)[: data.test.get(name)]
    for name, limit in data.train.items():
        rows = _read(name, "train", directory)
        random.Random(f"{data.seed} {name}").shuffle(rows)
        if name in config.benchmarks and name not in splits:
            held_out = data.test.get(name)
            if held_out is None:
                raise UserError(f"{name} has no test file here: the preset must say how many training rows to test on")
            splits[name], rows = rows[:held_out], rows[held_out:]
        sft = [{**row, "source": name} for row in _training_rows(name, rows)]
        share = data.calibration // len(data.train)
        splits["heldout"] += sft[: data.heldout]
        splits["calibration"] += sft[data.heldout : data.heldout + share]
        rest = sft[data.heldout + share :]
        if not rest:
            raise UserError(
                f"{name} has {len(sft)} training rows here, and the preset sets {data.heldout + share} of them apart"
            )
        if limit != "all" and len(rest) < limit:
            notes[f"{name}/train"] = f"{name}: trained on {len(rest):,} rows, of the {limit:,} that the preset wants"
        splits["train"] += rest if limit == "all" else rest[:limit]
    for name in ("calibration", "train"):
        random.Random(data.seed).shuffle(splits[name])
    return splits


def _training_rows(name: str, rows: list[Row]) -> Iterable[Row]:
    benchmark = BENCHMARKS.get(name)
    if isinstance(benchmark, AnswerBenchmark):
        return map(dict, benchmark.sft_rows(rows))
    if rows and "instruction" in rows[0]:
        return ({"query": row["instruction"], "input": row["input"], "response": row["output"]} for row in rows)
    return ({"query": row["query"], "response": row["response"]} for row in rows)


def _read(name: str, split: str, directory: Path | None) -> list[Row]:
    if directory is not None:
        path = local_file(directory, name, split)
        if path is None:
            raise UserError(f"{name} {split} data have gone from {directory}")
        if name in BENCHMARKS:
            return load_rows(name, path)
        # the first row tells which form it is, so that a bad row further down is named
        own = "query" in next(iter(read_json_lines(path, ())), {})
        return read_json_lines(path, ("query", "response") if own else ("instruction", "input", "output"))
    from datasets import load_dataset  # slow to import, and only the hub needs it

    source = published_set(name)
    return [dict(row) for part in source.parts for row in load_dataset(source.repository, part, split=split)]


def rows_of(split: Path, source: str | None = None) -> list[Row]:
    """The rows of a {query, response, source} split, of one source or all."""
    rows = read_json_lines(split, ("query", "response", "source"))
    return [row for row in rows if source in (None, row["source"])]
