"""What evals/tasks/*.yaml refer to: documents, prompts and results of the tasks, in the shapes lm-eval wants."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets, load_dataset

from evals.benchmarks import BENCHMARKS, Judging, get_benchmark, load_rows
from evals.code_prompts import Style
from evals.json_lines import Row
from evals.published import PUBLISHED


def _dataset(benchmark: str, data_file: str | None = None, style: Style = "alpaca", **metadata: Any) -> dict[str, Any]:
    """Test problems from a local file, or from the hub if none is given; lm-eval's other metadata is ignored.

    A document holds the problem's identifier, its prompt and its row as JSON: rows of one file may differ in their
    fields. In memory: nothing is written to the datasets cache.
    """
    chosen = get_benchmark(benchmark)
    if data_file is None:
        source = PUBLISHED[benchmark]
        parts = [load_dataset(source.repository, part, split="test") for part in source.parts]
        rows = [dict(row) for row in concatenate_datasets(parts)]
    else:
        rows = load_rows(benchmark, Path(data_file))
    documents = {
        "benchmark": [benchmark] * len(rows),
        "task_id": [chosen.task_id(index, row) for index, row in enumerate(rows)],
        "prompt": [chosen.prompt(row, style) for row in rows],
        "row": [json.dumps(row) for row in rows],
    }
    return {"test": Dataset.from_dict(documents)}


gsm8k_dataset, math_dataset, humaneval_dataset, mbpp_dataset = (partial(_dataset, name) for name in BENCHMARKS)


def prompt(doc: Row) -> str:
    """Prompt of a document."""
    return str(doc["prompt"])


def results(doc: Row, completions: list[str]) -> dict[str, float]:
    """Pass@1 of one completion; a program is run isolated (evals.execution)."""
    (verdict,) = get_benchmark(doc["benchmark"]).judge(completions[:1], [json.loads(doc["row"])], Judging())
    return {"pass_at_1": float(verdict.correct)}
