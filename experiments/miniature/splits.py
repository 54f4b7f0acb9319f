"""What the generated domains share: a small grammar for texts, and splits that do not leak into each other.

Texts are written in the grammar: `[a|b]` is one of the alternatives, `<n>` the value named n.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Row = dict[str, Any]
"""A line of a JSONL file; training rows hold query, response and source, test rows what their benchmark publishes."""


class Keyed(Protocol):
    """A problem; `key` is what it asks behind the wording."""

    @property
    def key(self) -> tuple[object, ...]: ...

    @property
    def question(self) -> str: ...


P = TypeVar("P", bound=Keyed)


@dataclass(frozen=True)
class Sizes:
    """Rows in each split: `heldout` and `test` of each source, training and calibration rows are of both."""

    train: int = 60_000
    calibration: int = 1_800
    heldout: int = 250
    test: int = 500


@dataclass(frozen=True)
class Source(Generic[P]):
    """One benchmark's problems: `draw(rng)` makes one, `test_row(problem, index, rng)` its row in the test file."""

    draw: Callable[[random.Random], P]
    test_row: Callable[[P, int, random.Random], Row]


@dataclass(frozen=True)
class Domain(Generic[P]):
    """Two sources of problems, the first with `first_share` of the training rows; how they are split into tokens.

    phrases: texts of one token each. pieces: regular expression of any other token.
    """

    sources: Mapping[str, Source[P]]
    training_row: Callable[[P, str, random.Random], Row]
    first_share: tuple[int, int]
    phrases: tuple[str, ...]
    pieces: str

    def generate(self, seed: int, sizes: Sizes) -> dict[str, list[Row]]:
        """All splits, the same for the same seed; none repeats a question or the key of one in another split.

        Training may ask a question twice and solve it in another way, as MetaMathQA does.
        """
        rng = random.Random(seed)
        taken: set[tuple[object, ...]] = set()

        def draw(counts: Mapping[str, int], distinct: bool) -> Iterator[tuple[str, P]]:
            questions: set[str] = set()
            keys: set[tuple[object, ...]] = set()
            wanted = [source for source, count in counts.items() for _ in range(count)]
            rng.shuffle(wanted)
            for source in wanted:
                problem = self.sources[source].draw(rng)
                while problem.key in taken or (distinct and problem.question in questions):
                    problem = self.sources[source].draw(rng)
                questions.add(problem.question)
                keys.add(problem.key)
                yield source, problem
            taken.update(keys)

        def tests(name: str) -> list[Row]:
            drawn = draw({name: sizes.test}, distinct=True)
            return [self.sources[name].test_row(problem, index, rng) for index, (_, problem) in enumerate(drawn)]

        def rows(counts: Mapping[str, int], distinct: bool) -> list[Row]:
            return [self.training_row(problem, source, rng) for source, problem in draw(counts, distinct)]

        def both(count: int) -> dict[str, int]:
            part, whole = self.first_share
            first, second = self.sources
            return {first: count * part // whole, second: count - count * part // whole}

        # The tests come first: training draws from what they leave.
        splits = {name: tests(name) for name in self.sources}
        splits["heldout"] = rows({name: sizes.heldout for name in self.sources}, distinct=True)
        splits["calibration"] = rows(both(sizes.calibration), distinct=True)
        splits["train"] = rows(both(sizes.train), distinct=False)
        return splits


def write(text: str, values: Mapping[str, object], rng: random.Random) -> str:
    """One sentence of the grammar: an alternative of every `[a|b]`, the value of every `<n>`."""
    chosen = re.sub(r"\[([^\]]*)\]", lambda match: rng.choice(match[1].split("|")), text)
    return re.sub(r"<(\w+)>", lambda match: str(values[match[1]]), chosen)
