"""What the gauge of the factors and the 8-bit scheme change: a table of our own, of quantized IMPACT models."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import ClassVar

import numpy as np
import pandas as pd

from results.measured.quantized_cells import QuantizedCell
from results.numbers.statistics import paired_bootstrap, wilson_interval
from results.tables.columns import Column, number, word
from results.tables.document import Document
from results.tables.html import Block
from results.tables.quantized import accuracies, perplexity


class GaugeTable(Document):
    """The table of gauges and schemes. effects: what balancing changes, a sentence for each scheme and benchmark."""

    effects: list[str]
    quantized_cells: list[QuantizedCell]

    held: ClassVar[str] = "quantized_cells"
    numbers: ClassVar[tuple[int | None, ...]] = (None,)
    name: ClassVar[str] = "gauge"
    group: ClassVar[tuple[str, ...]] = ("method", "row")

    @property
    def title(self) -> str:
        measured = self.provenance
        return f"The gauge of the factors in 8 bits: {measured.get('model')} (preset {measured.get('preset')})"

    @property
    def says(self) -> Block:
        return (
            f"Not a table of the paper. {self.provenance.get('date')}, by `{self.provenance.get('command')}`. *as "
            "trained*: the paper's factors after the second SFT. *balanced*: a row of `down` and its column of `up` "
            "scaled to equal norms, which leaves their product."
        )

    def columns(self) -> list[Column]:
        columns = [word("method", key=True), number("row", "row", key=True), word("scheme"), word("gauge")]
        columns += [perplexity(text, terminal=True) for text in self.texts("ppl_before_")]
        for name in self.benchmarks():
            accuracy, change, _ = accuracies(name)
            columns += [number(f"{name} before %", f"{name}_before", ".1f"), accuracy, change]
        return columns

    def below(self) -> list[Block]:
        return [self.effects, self.further_provenance()]


def gauge_document(
    cells: Sequence[QuantizedCell], benchmarks: Sequence[str], provenance: Mapping[str, str]
) -> GaugeTable:
    """The table of measured cells; provenance: at least ``preset``, ``model``, ``date``, ``command``."""
    return GaugeTable(
        provenance=dict(provenance),
        rows=build_gauge_table(cells, benchmarks),
        effects=gauge_effects(cells, benchmarks),
        quantized_cells=list(cells),
    )


def build_gauge_table(cells: Sequence[QuantizedCell], benchmarks: Sequence[str]) -> pd.DataFrame:
    """One row a (row, scheme, gauge): perplexities, accuracies in percent with 95 % Wilson limits, and in points what
    quantization changed, with the 95 % limits of the bootstrap over problems."""
    records = []
    for cell in sorted(cells, key=lambda c: (c.row, c.scheme, c.gauge)):
        record: dict[str, object] = {"method": cell.method, "row": cell.row, "scheme": cell.scheme, "gauge": cell.gauge}
        for text, value in cell.perplexity.items():
            record |= {f"ppl_before_{text}": cell.unquantized_perplexity[text], f"ppl_{text}": value}
        for name in benchmarks:
            after, before = cell.benchmarks[name], cell.unquantized[name]
            limits = wilson_interval(sum(after.correct), after.n)
            change = paired_bootstrap(after.correct, before.correct, seed=0)
            record |= {
                f"{name}_acc": 100 * float(np.mean(after.correct)),
                f"{name}_low": 100 * limits.low,
                f"{name}_high": 100 * limits.high,
                f"{name}_before": 100 * float(np.mean(before.correct)),
                f"{name}_change": 100 * (float(np.mean(after.correct)) - float(np.mean(before.correct))),
                f"{name}_change_low": 100 * change.low,
                f"{name}_change_high": 100 * change.high,
            }
        records.append(record)
    return pd.DataFrame(records)


def gauge_effects(cells: Sequence[QuantizedCell], benchmarks: Sequence[str]) -> list[str]:
    """For each scheme and benchmark a sentence: balanced less as trained, averaged over the rows that have both.

    The limits are those of the bootstrap over problems.
    """
    sentences = []
    by_scheme = sorted(cells, key=lambda c: c.scheme)
    for scheme, group in groupby(by_scheme, key=lambda c: c.scheme):
        of = {(cell.gauge, cell.row): cell for cell in group}
        rows = sorted(row for gauge, row in of if gauge == "balanced" and ("as trained", row) in of)
        if not rows:
            continue
        for name in benchmarks:
            solved = [
                np.mean([of[gauge, row].benchmarks[name].correct for row in rows], axis=0)
                for gauge in ("balanced", "as trained")
            ]
            limits = paired_bootstrap(*solved, seed=0)
            difference = 100 * float(np.mean(solved[0] - solved[1]))
            sentences.append(
                f"{scheme} on {name}, mean of rows {', '.join(map(str, rows))}: balanced factors change the accuracy "
                f"by {difference:+.1f} points (95 % {100 * limits.low:+.1f} to {100 * limits.high:+.1f})."
            )
    return sentences
