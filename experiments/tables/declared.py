"""Typed settings: the tables, each a grid of cells. Unknown keys are refused."""

import re
from functools import cache
from typing import Any, Literal

from pydantic import Field, model_validator

from experiments.settings import HERE, Domain, Settings, known, load_settings
from impact.rank_rule import RankRule
from results.numbers.paper import PAPER


class Grid(Settings):
    """A method's rows in a table: row number -> value of its rank rule, and the method's settings.

    row_settings: of single rows, instead of those or beside them.
    """

    rule: Literal["nuclear_norm", "parameter_ratio"]
    values: dict[int, float]
    settings: dict[str, Any] = Field(default_factory=dict)
    row_settings: dict[int, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rows_that_there_are(self) -> "Grid":
        if unknown := self.row_settings.keys() - self.values.keys():
            raise ValueError(f"row_settings has rows that values has not: {', '.join(map(str, sorted(unknown)))}")
        return self

    def settings_of(self, row: int) -> dict[str, Any]:
        """The method's settings in one row."""
        return self.settings | self.row_settings.get(row, {})

    def rank_rule(self, row: int) -> RankRule:
        """The rule of one row."""
        return RankRule(self.rule, self.values[row])


class Table(Settings):
    """A table as a grid of cells; the row's number joins it to results/paper/, if it has a ``number`` of the paper's.

    name: of its file. model names the model in a preset, size the training settings.
    """

    name: str
    number: int | None = None
    title: str
    domain: Domain
    model: str
    size: str
    benchmarks: tuple[str, ...]
    grids: dict[str, Grid]

    @property
    def key(self) -> int | str:
        """What documents call it: its number, or its name where the paper does not have it."""
        return self.name if self.number is None else self.number

    @property
    def called(self) -> str:
        """What a person calls it."""
        return self.name if self.number is None else f"table {self.number}"

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures that are drawn of it."""
        return (f"figure{PAPER[self.number].figure}",) if self.number else ()

    @property
    def derived(self) -> tuple[str, ...]:
        """The table of size reductions at the same accuracy that the paper computes from it."""
        return (f"table{PAPER[self.number].derived}",) if self.number else ()


class QuantizedTable(Settings):
    """A table of the paper that quantizes models: those of accuracy tables after the second SFT, and pruned ones.

    tables: the accuracy tables whose models are quantized. rows: method -> row here -> row there. grids: of methods
    that the accuracy tables don't have. four_bit: whether the dense models are quantized to 4 bits and trained with
    QLoRA; otherwise everything is quantized to 8 bits. beside: the table that its figure shows as well.
    """

    name: str
    number: int
    title: str
    tables: tuple[str, ...]
    rows: dict[str, dict[int, int]] = Field(default_factory=dict)
    grids: dict[str, Grid] = Field(default_factory=dict)
    four_bit: bool = False
    beside: str | None = None

    @property
    def figure(self) -> str | None:
        """The figure that is drawn from it and the table beside."""
        number = PAPER[self.number].figure if self.number in PAPER else None
        return f"figure{number}" if number else None


def load_table(name: str) -> Table:
    """The table of experiments/tables/<name>.toml."""
    return load_settings(HERE / "tables", name, "table", Table, accuracy_tables())


def load_quantized_table(name: str) -> QuantizedTable:
    """The table of experiments/tables/<name>.toml, which quantizes models of others."""
    return load_settings(HERE / "tables", name, "table", QuantizedTable, quantized_tables())


def accuracy_tables() -> list[str]:
    """The tables of accuracies: those of the paper by number, then others by name."""
    return [name for name, quantizes in _kinds().items() if not quantizes]


def quantized_tables() -> list[str]:
    """The tables that quantize the models of others."""
    return [name for name, quantizes in _kinds().items() if quantizes]


@cache
def _kinds() -> dict[str, bool]:
    # a file that does not parse is a table all the same: whoever asks for it is told
    quantizes = re.compile("^tables *=", re.MULTILINE)
    return {name: bool(quantizes.search((HERE / "tables" / f"{name}.toml").read_text())) for name in known("tables")}
