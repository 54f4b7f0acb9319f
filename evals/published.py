"""Where the published sets are found: on the Hugging Face hub, and by which names in a local folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class PublishedSet:
    """A hub repository with the configurations that make up the set, and its published file names by split.

    A local folder may hold a split as NAME/SPLIT.jsonl or by one of these names in NAME/.
    """

    repository: str
    parts: tuple[str, ...] = ("default",)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


PUBLISHED = {
    "gsm8k": PublishedSet("openai/gsm8k", ("main",)),
    "math": PublishedSet(
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
    "humaneval": PublishedSet("openai/openai_humaneval", ("openai_humaneval",), {"test": ("HumanEval.jsonl",)}),
    # The 378 tasks, with MBPP's own tests; its field "test" holds EvalPlus's further ones, which are not used.
    "mbpp": PublishedSet(
        "evalplus/mbppplus", files={"test": ("mbpp378.jsonl", "MbppPlus.jsonl", "sanitized-mbpp.json")}
    ),
    "metamath": PublishedSet("meta-math/MetaMathQA", files={"train": ("MetaMathQA-395K.json",)}),
    "code": PublishedSet(
        "iamtarun/code_instructions_120k_alpaca",
        files={"train": ("code_instructions_120k.json", "code_alpaca_20k.json", "code_alpaca_2k.json")},
    ),
}


def local_file(folder: Path, name: str, split: str) -> Path | None:
    """The file of a set's split in a local folder, or None."""
    candidates = (f"{split}.jsonl", *PUBLISHED[name].files.get(split, ()))
    return next((path for file in candidates if (path := folder / name / file).is_file()), None)
