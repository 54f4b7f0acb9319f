"""The outcome of judging one completion."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether a completion is right, the answer read out of it (None: none was found) and the gold answer, as texts.

    For a program the answer is the source that was run and `gold` is empty; `detail` says why it did not pass.
    `correct` is None where the problem itself can't be used, and was left out.
    """

    correct: bool | None
    extracted: str | None
    gold: str
    detail: str = ""
