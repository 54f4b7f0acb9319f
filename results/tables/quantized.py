"""Tables 1 to 3: quantized models measured, beside the paper's printed numbers."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from results.measured.cells import DENSE
from results.measured.quantized_cells import QuantizedCell, grouped_by_model
from results.numbers.printed import BENCHMARKS, MODELS, PRINTED_MODEL, TABLE_MODELS, printed_table
from results.numbers.statistics import mcnemar_exact, paired_bootstrap
from results.statements.evidence import name_points
from results.statements.run import Run
from results.statements.verdicts import verdicts
from results.tables.accuracy import COMPARE, accuracy_columns, geometric_mean, seed_sd
from results.tables.columns import Column, before_after, interval, number, word
from results.tables.columns import size as size_column
from results.tables.document import NOT_MEANT, Document

BITS = {1: 8, 2: 8, 3: 4}
# a model's bytes as the paper counts them, those of its stored weights and those of its loaded ones
_SIZES = ("nominal", "file", "memory")
_COUNTING = {
    8: "one byte for every parameter, and for FLAP the kept share of the dense model's, though it prunes the decoder's "
    "weights only",
    4: "half a byte for every parameter, the adapter's too",
}
_TEXTS = ("model", "method", "scheme", "gauge", "rank_rule")


class QuantizedTable(Document):
    """One of Tables 1 to 3."""

    table: int
    quantized_cells: list[QuantizedCell]

    held: ClassVar[str] = "quantized_cells"
    numbers: ClassVar[tuple[int | None, ...]] = (*BITS,)
    compare: ClassVar[str] = COMPARE
    blank: ClassVar[str] = NOT_MEANT
    exact: ClassVar[tuple[str, ...]] = tuple(f"{size}_gb{what}" for size in _SIZES for what in ("", "_seed_sd"))
    group: ClassVar[tuple[str, ...]] = ("model", "method")

    @property
    def title(self) -> str:
        return self.measured_with(f"{BITS[self.table]}-bit models")

    def columns(self) -> list[Column]:
        return [
            word("model"),
            word("method", key=True),
            number("row", "row", key=True),
            number("keep %", "keep_pct"),
            Column("scheme, gauge", _scheme, text=True),
            size_column("nominal (GB)", "nominal_gb"),
            number("nominal % of dense", "size_pct", ".1f"),
            size_column("file (GB)", "file_gb"),
            size_column("memory (GB)", "memory_gb"),
            *(column for name in self.benchmarks() for column in accuracies(name)),
            *(perplexity(text) for text in self.texts("ppl_before_")),
            *self.printed_columns("printed_size_gb", "size (GB)"),
        ]


def _scheme(row: Mapping[str, Any]) -> str:
    return str(row["scheme"]) + f", {row['gauge']}" * (row["gauge"] != "as trained")


def accuracies(name: str) -> list[Column]:
    """The columns of a benchmark's accuracies, of what quantization changed in them, and of its p."""
    return [
        interval(f"{name} acc % [95 %]", f"{name}_acc", name, ".1f"),
        interval(f"{name} change [95 %]", f"{name}_change", f"{name}_change", "+.1f"),
        number(f"{name} p", f"{name}_change_p", ".2g", terminal=False),
    ]


def perplexity(text: str, terminal: bool = False) -> Column:
    """The column of the model's perplexity on a text, before quantization and after it."""
    return before_after(f"{text}, before → after", f"ppl_before_{text}", f"ppl_{text}", terminal)


def quantized_document(
    cells: Sequence[QuantizedCell],
    number: int,
    benchmarks: Sequence[str],
    provenance: Mapping[str, str],
    notes: Sequence[str] = (),
    *,
    others: Sequence[QuantizedCell] = (),
) -> QuantizedTable:
    """The table of measured cells, with verdicts on the paper's statements. Raises as `build_quantization_table`.

    notes: to print before those that follow from the cells. others: the cells of the other two tables, as far as they
    are measured, for the statements that compare them.
    """
    rows = build_quantization_table(cells, number, benchmarks)
    return QuantizedTable(
        table=number,
        printed_model=" and ".join(PRINTED_MODEL[MODELS[model][1]] for model in TABLE_MODELS[number]),
        provenance=dict(provenance),
        rows=rows,
        verdicts=verdicts(number, Run(quantized=[*cells, *others], models=TABLE_MODELS[number]), benchmarks),
        notes=[*notes, *_notes(cells, number, benchmarks)],
        quantized_cells=list(cells),
    )


def build_quantization_table(cells: Sequence[QuantizedCell], number: int, benchmarks: Sequence[str]) -> pd.DataFrame:
    """One row a measured (model, method, row), in the paper's order, with the printed numbers of the same point beside.

    ``*_gb`` are 10^9 bytes; ``size_pct`` is the nominal size in percent of the dense model's at one byte a parameter;
    ``*_acc`` are percent, with 95 % Wilson limits ``*_low`` and ``*_high`` for the number of problems ``*_n``.
    ``ppl_before_*`` and ``ppl_*`` are perplexities before and after quantization. ``*_change`` is the accuracy after
    quantization minus that of the same model before it, in points, with 95 % limits ``*_change_low`` and
    ``*_change_high`` of a paired bootstrap over the problems, ``*_change_p`` is McNemar's exact p (of the first seed).
    Columns ``printed_*`` are the paper's. Several seeds and what is missing: as in `build_table`.

    Raises:
        ValueError: the table is not one of Tables 1-3, a benchmark or a cell is not of it, or cells do not belong
            together.
    """
    if number not in TABLE_MODELS:
        raise ValueError(f"Table {number} is not one of quantized models: Tables 1 to 3 are")
    if unknown := [name for name in benchmarks if name not in BENCHMARKS]:
        raise ValueError(f"Table {number} is about {' and '.join(BENCHMARKS)}, not {', '.join(unknown)}")
    for cell in cells:
        if cell.model not in TABLE_MODELS[number] or cell.bits != BITS[number]:
            raise ValueError(
                f"Table {number} has {BITS[number]}-bit models of {' and '.join(TABLE_MODELS[number])}, got "
                f"{cell.method} row {cell.row} of {cell.model} in {cell.bits} bits"
            )
    held_out = {text for cell in cells for text in cell.perplexity}
    texts = [*(name for name in benchmarks if name in held_out), *sorted(held_out - set(benchmarks))]
    printed = _printed_points(number)
    methods = list(dict.fromkeys([DENSE, *(method for _, method, _ in printed)]))
    models, order = list(MODELS), {method: i for i, method in enumerate(methods)}
    groups = sorted(
        grouped_by_model(cells).items(), key=lambda g: (models.index(g[0][0]), order.get(g[0][1], len(order)), g[0])
    )
    table = pd.DataFrame(
        [_record(group, benchmarks, texts, printed.get(point, {})) for point, group in groups],
        columns=_columns(benchmarks, texts),
    )
    counts = ["row", "bits", "seeds", *(f"{name}_n" for name in benchmarks)]
    numbers = [name for name in table.columns if name not in (*_TEXTS, *counts)]
    return table.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(numbers, "float64"))


def _printed_points(number: int) -> dict[tuple[str, str, int], dict[Hashable, Any]]:
    """The lines of a printed table by (model, method, row); Table 3 prints no rows: each of its models is a row 1."""
    names = {name: model for model, (_, _, name) in MODELS.items()}
    return {
        (
            names[line["model"]] if "model" in line else TABLE_MODELS[number][0],
            str(line["method"]),
            int(line.get("row", 1)),
        ): line
        for line in printed_table(number).to_dict("records")
    }


def _columns(benchmarks: Sequence[str], texts: Sequence[str]) -> list[str]:
    return [
        *("model", "method", "keep_pct", *(f"{size}_gb" for size in _SIZES)),
        *(f"{name}_{what}" for name in benchmarks for what in ("acc", "low", "high")),
        *(f"{name}_change{what}" for name in benchmarks for what in ("", "_low", "_high", "_p")),
        *("printed_size_gb", *(f"printed_{name}_acc" for name in benchmarks)),
        *("row", "eta", "rank_rule", "bits", "scheme", "gauge", "seeds", *(f"{name}_n" for name in benchmarks)),
        *("size_pct", *(f"ppl_{when}{text}" for text in texts for when in ("before_", ""))),
        *(f"{size}_gb_seed_sd" for size in _SIZES),
        *(f"{name}_acc_seed_sd" for name in benchmarks),
    ]


def _record(
    group: Sequence[QuantizedCell], benchmarks: Sequence[str], texts: Sequence[str], printed: Mapping[Hashable, Any]
) -> dict[str, object]:
    """One table row from the cells of one point, one a seed; what is absent is left out."""
    first = group[0]
    record: dict[str, object] = {
        **{name: getattr(first, name) for name in ("model", "method", "row", "eta", "rank_rule", "bits")},
        **{name: getattr(first, name) for name in ("scheme", "gauge")},
        "keep_pct": first.keep,
        "seeds": len(group),
        "size_pct": 100 * float(np.mean([cell.nominal_bytes for cell in group])) / first.dense_parameters,
        "printed_size_gb": printed.get("model_size_gb"),
    }
    for size in _SIZES:
        gigabytes = [getattr(cell, f"{size}_bytes") / 1e9 for cell in group]
        record |= {f"{size}_gb": float(np.mean(gigabytes)), f"{size}_gb_seed_sd": seed_sd(gigabytes)}
    for name in benchmarks:
        record[f"printed_{name}_acc"] = printed.get(f"{name}_acc")
        if name in first.benchmarks:
            record |= accuracy_columns(name, [cell.benchmarks[name] for cell in group])
            if all(name in cell.unquantized for cell in group):
                record |= _change(name, group)
    for text in texts:
        record |= {
            f"ppl_before_{text}": geometric_mean([cell.unquantized_perplexity.get(text, math.nan) for cell in group]),
            f"ppl_{text}": geometric_mean([cell.perplexity.get(text, math.nan) for cell in group]),
        }
    return record


def _change(name: str, group: Sequence[QuantizedCell]) -> dict[str, object]:
    """The columns of what quantization changed on one benchmark."""
    after, before = (
        np.mean([results[name].correct for results in seeds], axis=0)
        for seeds in ([cell.benchmarks for cell in group], [cell.unquantized for cell in group])
    )
    interval = paired_bootstrap(after, before, seed=0)
    first = group[0]
    return {
        f"{name}_change": 100 * float(np.mean(after - before)),
        f"{name}_change_low": 100 * interval.low,
        f"{name}_change_high": 100 * interval.high,
        f"{name}_change_p": mcnemar_exact(first.benchmarks[name].correct, first.unquantized[name].correct),
    }


def _notes(cells: Sequence[QuantizedCell], number: int, benchmarks: Sequence[str]) -> list[str]:
    notes = [
        f"Nominal sizes are the paper's counting: {_COUNTING[BITS[number]]}. That leaves out what quantization adds in "
        "scales and keeps in wider numbers (embeddings, norms, biases, lm_head); the other two sizes are the bytes of "
        "the stored and of the loaded weights. Statements are judged at nominal sizes.",
        "Intervals of accuracies are 95 % Wilson intervals for the number of problems scored. Changes are from the "
        "same model before quantization on the same problems: points, 95 % paired bootstrap interval, exact McNemar p.",
    ]
    seeds = sorted({cell.seed for cell in cells})
    if len(seeds) > 1:
        notes.append(
            f"Seeds {', '.join(map(str, seeds))}: numbers are means over seeds, their spread is in the *_seed_sd "
            "columns of the CSV, McNemar's p is the first seed's. Intervals are not narrowed by counting the same "
            "problems once a seed."
        )
    groups = grouped_by_model(cells)
    for name in benchmarks:
        measured = {point for point, group in groups.items() if name in group[0].benchmarks}
        for model in TABLE_MODELS[number]:
            points = [p[1:] for p in _printed_points(number) if p[0] == model and p not in measured]
            if points:
                notes.append(f"Printed for {model} but not measured on {name} in this run: {name_points(points)}.")
    notes += [
        f"{cell.method} row {cell.row} of {cell.model}, seed {cell.seed}: {cell.note}" for cell in cells if cell.note
    ]
    return notes
