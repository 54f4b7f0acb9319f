"""Tables 10 to 13 as files and on the terminal."""

from collections.abc import Mapping
from typing import Any, ClassVar

import rich.table

from results.numbers.printed import PRINTED_MODEL
from results.numbers.shown import BLANK, shown, shown_size
from results.statements.reductions import SOURCE_TABLE, ReductionTable, Source
from results.tables.columns import Column, number, printed, word
from results.tables.document import Document
from results.tables.html import Block

_BASELINE = (
    "Baseline: the smallest model among SVD, FWSVD, ASVD and AFM of IMPACT's accuracy, interpolated linearly between "
    "models adjacent in size, never extrapolated; the dense model is a point of every curve."
)


class MeasuredReductions(Document):
    """One of Tables 10 to 13, from measured accuracies."""

    table: int
    source: Source

    held: ClassVar[str] = "source"
    what: ClassVar[str] = "size reduction at the same accuracy"
    compare: ClassVar[str] = ": unless that is the model measured, sizes in billions do not compare"
    blank: ClassVar[str] = f"`{BLANK}`: footnote 2 gives no size there; the notes say what is known."
    group: ClassVar[tuple[str, ...]] = ("benchmark",)
    wraps: ClassVar[bool] = False

    @property
    def says(self) -> Block:
        return [*super().says, _BASELINE]

    def size(self, value: float, printed_decimals: int = 3) -> str:
        """How a size in billions reads; of a printed one, only two decimals are known."""
        return shown_size(value)

    def columns(self) -> list[Column]:
        return [
            word("benchmark"),
            number("row", "row"),
            number("IMPACT acc %", "accuracy_pct", ".1f"),
            Column("IMPACT size (B)", lambda row: self.size(row["impact_size_b"], 2)),
            word("baseline"),
            Column("its size (B)", lambda row: self.size(row["baseline_size_b"])),
            Column("interval (B)", lambda r: f"{self.size(r['baseline_low_b'])} to {self.size(r['baseline_high_b'])}"),
            number("reduction %", "size_reduction_pct", ".1f"),
            printed("baseline (B)", "printed_baseline_size_b", ".2f"),
            printed("reduction %", "printed_size_reduction_pct", ".1f"),
        ]

    def csv_formats(self) -> Mapping[str, str]:
        names = [str(name) for name in self.frame.columns if str(name).endswith(("_b", "_pct"))]
        # a number of parameters in billions needs nine decimals to be exact
        return {n: ".9f" if n.endswith("_b") and not n.startswith("printed_") else ".2f" for n in names}

    def terminal(self) -> rich.table.Table:
        view = super().terminal()
        view.title = f"{self.label} ({self.source})"
        return view


class PrintedReductions(MeasuredReductions):
    """One of Tables 10 to 13, recomputed from the accuracies that the paper prints."""

    said: ClassVar[tuple[str, ...]] = ("command",)

    @classmethod
    def owns(cls, record: Mapping[str, Any]) -> bool:
        return record.get("source") == "paper"

    @property
    def title(self) -> str:
        behind = f"Table {SOURCE_TABLE[self.table]} ({self.printed_model})"
        return f"{self.label}: {self.what}, recomputed from the paper's printed {behind}"

    @property
    def says(self) -> Block:
        return [
            f"**Recomputed** from the printed sizes and accuracies of Table {SOURCE_TABLE[self.table]}: every column "
            f"not called *printed*. Nothing here was measured. By `{self.provenance.get('command')}`.",
            f"**Printed in the paper**: the columns called *printed*, of its {self.label}.",
            _BASELINE,
        ]

    def size(self, value: float, printed_decimals: int = 3) -> str:
        return shown(value, f".{printed_decimals}f")

    def columns(self) -> list[Column]:
        agrees = word("printed size agrees with", "agrees_with", unmeasured=True, yields=True)
        return [*super().columns(), word("verdict"), agrees]

    def csv_formats(self) -> Mapping[str, str]:
        formats = {name: spec.replace("9", "3") for name, spec in super().csv_formats().items()}
        return formats | {"impact_size_b": ".2f"}


def reduction_document(table: ReductionTable, provenance: Mapping[str, str]) -> MeasuredReductions:
    """The document of a table; provenance: at least ``command``, and of a run ``preset``, ``model`` and ``date``."""
    kind = PrintedReductions if table.source == "paper" else MeasuredReductions
    return kind(
        table=table.number,
        source=table.source,
        printed_model=PRINTED_MODEL[SOURCE_TABLE[table.number]],
        provenance=dict(provenance),
        rows=table.rows,
        notes=table.notes,
    )
