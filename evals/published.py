"""Where the published sets are found: on the Hugging Face hub, and by which names in a local folder."""

from pathlib import Path

from evals.benchmarks import get_benchmark
from evals.benchmarks.interface import PublishedSet

TRAINING_SETS = {
    "metamath": PublishedSet("meta-math/MetaMathQA", files={"train": ("MetaMathQA-395K.json",)}, training_rows=395_000),
    "code": PublishedSet(
        "iamtarun/code_instructions_120k_alpaca",
        files={"train": ("code_instructions_120k.json", "code_alpaca_20k.json", "code_alpaca_2k.json")},
        training_rows=120_000,
    ),
}
"""Those that are no benchmark."""


def published_set(name: str) -> PublishedSet:
    """A training set's, or a benchmark's own. Raises KeyError for a name of neither."""
    return TRAINING_SETS[name] if name in TRAINING_SETS else get_benchmark(name).published


def published_names(name: str, split: str) -> tuple[str, ...]:
    """By which a split's file is known in a local folder."""
    return (f"{split}.jsonl", *published_set(name).files.get(split, ()))


def local_file(folder: Path, name: str, split: str) -> Path | None:
    """The file of a set's split in a local folder, or None."""
    return next((path for file in published_names(name, split) if (path := folder / name / file).is_file()), None)
