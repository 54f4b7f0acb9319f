"""What evals/tasks/*.yaml refer to: documents, prompts and results of the tasks, in the shapes lm-eval wants."""

from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets, load_dataset

from evals.benchmarks import Row, get_benchmark, load_rows
from evals.prompts import evaluation_prompt

_MATH_SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
    "precalculus",
)  # fmt: skip


def _local_dataset(benchmark: str, data_file: str) -> Dataset:
    """Question and answer of every row. In memory: nothing is written to the datasets cache."""
    chosen = get_benchmark(benchmark)
    rows = load_rows(benchmark, Path(data_file))
    return Dataset.from_dict(
        {field: [row[field] for row in rows] for field in (chosen.question_field, chosen.answer_field)}
    )


def gsm8k_dataset(data_file: str | None = None, **metadata: Any) -> dict[str, Dataset]:
    """Test problems from a local JSONL file, or from the hub if none is given; lm-eval's other metadata is ignored."""
    if data_file is None:
        return {"test": load_dataset("openai/gsm8k", "main", split="test")}
    return {"test": _local_dataset("gsm8k", data_file)}


def math_dataset(data_file: str | None = None, **metadata: Any) -> dict[str, Dataset]:
    """Test problems from a local JSONL file, or from the hub if none is given; lm-eval's other metadata is ignored."""
    if data_file is None:
        parts = [load_dataset("EleutherAI/hendrycks_math", subject, split="test") for subject in _MATH_SUBJECTS]
        return {"test": concatenate_datasets(parts)}
    return {"test": _local_dataset("math", data_file)}


def gsm8k_prompt(doc: Row) -> str:
    """Prompt of a GSM8K document."""
    return evaluation_prompt(doc["question"])


def math_prompt(doc: Row) -> str:
    """Prompt of a MATH document."""
    return evaluation_prompt(doc["problem"])


def gsm8k_results(doc: Row, results: list[str]) -> dict[str, float]:
    """Metric of one GSM8K completion."""
    return {"exact_match": float(get_benchmark("gsm8k").score(results[0], doc).correct)}


def math_results(doc: Row, results: list[str]) -> dict[str, float]:
    """Metric of one MATH completion."""
    return {"exact_match": float(get_benchmark("math").score(results[0], doc).correct)}
