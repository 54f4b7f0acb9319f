"""Tables 1 to 3: quantized models measured, beside the paper's printed numbers."""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rich.table
from pydantic import BaseModel

from results.cells import DENSE
from results.documents import (
    BLANK,
    json_rows,
    json_text,
    markdown_table,
    shown,
    shown_interval,
    shown_size,
    terminal_table,
    write_files,
)
from results.evidence import name_points
from results.printed import PRINTED_MODEL, printed_table
from results.provenance import OF_A_RUN, check_provenance, further_provenance
from results.quantization_claims import BENCHMARKS, MODELS, TABLE_MODELS
from results.quantization_verdicts import judge_quantization
from results.quantized_cells import QuantizedCell, grouped_by_model
from results.statistics import mcnemar_exact, paired_bootstrap
from results.table import accuracy_columns, geometric_mean, seed_sd
from results.verdicts import Verdict, verdict_lines

BITS = {1: 8, 2: 8, 3: 4}
# a model's bytes as the paper counts them, those of its stored weights and those of its loaded ones
_SIZES = ("nominal", "file", "memory")
_COUNTING = {
    8: "one byte for every parameter, and for FLAP the kept share of the dense model's, though it prunes the decoder's "
    "weights only",
    4: "half a byte for every parameter, the adapter's too",
}
_TEXTS = ("model", "method", "scheme", "gauge", "rank_rule")


def build_quantization_table(cells: Sequence[QuantizedCell], number: int, benchmarks: Sequence[str]) -> pd.DataFrame:
    """One row a measured (model, method, row), in the paper's order, with the printed numbers of the same point beside.

    ``*_gb`` are 10^9 bytes; ``size_pct`` is the nominal size in percent of the dense model's at one byte a parameter;
    ``*_acc`` are percent, with 95 % Wilson limits ``*_low`` and ``*_high`` for the number of problems ``*_n``.
    ``ppl_before_*`` and ``ppl_*`` are perplexities before and after quantization. ``*_change`` is the accuracy after
    quantization minus that of the same model before it, in points, with 95 % limits ``*_change_low`` and
    ``*_change_high`` of a paired bootstrap over the problems, ``*_change_p`` is McNemar's exact p (of the first seed).
    Columns ``printed_*`` are the paper's. Several seeds and what is missing: as in `results.table.build_table`.

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
        f"{name}_change_p": mcnemar_exact(first.benchmarks[name].correct, first.unquantized[name].correct).p_value,
    }


def write_quantization_table(
    cells: Sequence[QuantizedCell],
    number: int,
    benchmarks: Sequence[str],
    provenance: Mapping[str, str],
    out: Path,
    notes: Sequence[str] = (),
    *,
    others: Sequence[QuantizedCell] = (),
) -> tuple[pd.DataFrame, list[Verdict]]:
    """Write ``tableN.csv``, ``tableN.md`` and ``tableN.json`` under ``out``, each whole or not at all.

    Args:
        provenance: what the numbers come from: at least ``preset``, ``model``, ``date``, ``command``; more is listed.
        notes: lines to print below the table, before those that follow from the cells.
        others: the cells of the other two tables, as far as they are measured, for the statements that compare them.

    Returns:
        The table of `build_quantization_table` and the verdicts on the paper's statements about it.

    Raises:
        ValueError: as `build_quantization_table`, or the provenance lacks one of the four.
    """
    check_provenance(provenance, OF_A_RUN, f"Table {number}")
    table = build_quantization_table(cells, number, benchmarks)
    verdicts = judge_quantization([*cells, *others], number, benchmarks)
    notes = [*notes, *_notes(cells, number, benchmarks)]
    record = {
        "table": number,
        "printed_model": _printed_model(number),
        "provenance": dict(provenance),
        "rows": json_rows(table),
        "verdicts": [verdict.model_dump() for verdict in verdicts],
        "notes": notes,
        "quantized_cells": [json.loads(cell.model_dump_json()) for cell in cells],
    }
    texts = {
        ".csv": _csv(table),
        ".md": _markdown(table, number, benchmarks, provenance, verdicts, notes),
        ".json": json_text(record),
    }
    write_files(out, f"table{number}", texts)
    return table, verdicts


class _MeasuredTable(BaseModel):
    """Of a written ``tableN.json``, what it can be built from again."""

    table: int
    quantized_cells: list[QuantizedCell]


def quantized_cells_of(folder: Path) -> dict[int, list[QuantizedCell]]:
    """The cells of those of Tables 1 to 3 that `write_quantization_table` wrote into a folder, by number.

    Raises:
        ValueError: a table's file is damaged or is about another table than its name says.
    """
    found = {}
    for number in TABLE_MODELS:
        path = folder / f"table{number}.json"
        if not path.is_file():
            continue
        try:
            measured = _MeasuredTable.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path.name} is not a table of quantized models: {error}") from error
        if measured.table != number:
            raise ValueError(f"{path.name} says that it is Table {measured.table}")
        found[number] = measured.quantized_cells
    return found


def _printed_model(number: int) -> str:
    return " and ".join(PRINTED_MODEL[MODELS[model][1]] for model in TABLE_MODELS[number])


def _csv(table: pd.DataFrame) -> str:
    """Sizes to the single byte, never in exponents; a missing number is an empty field."""
    written = table.copy()
    for name in (f"{size}_gb{what}" for size in _SIZES for what in ("", "_seed_sd")):
        written[name] = ["" if pd.isna(size) else f"{size:.9f}" for size in table[name]]
    return written.to_csv(index=False, float_format="%.10g")


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


def _markdown(
    table: pd.DataFrame,
    number: int,
    benchmarks: Sequence[str],
    provenance: Mapping[str, str],
    verdicts: Sequence[Verdict],
    notes: Sequence[str],
) -> str:
    headers, rows = _display(table, benchmarks)
    p, paper_model = provenance, _printed_model(number)
    lines = [
        f"# Table {number}: {BITS[number]}-bit models, measured with {p['model']} (preset {p['preset']}) beside the "
        f"paper's {paper_model}",
        "",
        f"- **Measured in this run**: every column not called *printed*. Model {p['model']}, preset {p['preset']}, "
        f"{p['date']}, by `{p['command']}`.",
        f"- **Printed in the paper**: the columns called *printed*, for {paper_model}: "
        "unless that is the model measured, compare the order of the methods and the shape of the curves, not values.",
        f"- `{BLANK}`: not measured in this run, not printed in the paper, or without meaning for the row.",
        "",
        *markdown_table(headers, rows),
        "",
        *verdict_lines(verdicts, number),
        "## Notes",
        "",
        *(f"- {note}" for note in notes),
        *further_provenance(provenance, OF_A_RUN),
    ]
    return "\n".join(lines) + "\n"


def _display(table: pd.DataFrame, benchmarks: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Headers and formatted rows for people; the printed columns come last."""
    texts = [str(name).removeprefix("ppl_before_") for name in table.columns if str(name).startswith("ppl_before_")]
    headers = [
        *("model", "method", "row", "keep %", "scheme, gauge", "nominal (GB)", "nominal % of dense", "file (GB)"),
        "memory (GB)",
        *(f"{name} {what}" for name in benchmarks for what in ("acc % [95 %]", "change [95 %]", "p")),
        *(f"ppl {text}, before → after" for text in texts),
        "printed size (GB)",
        *(f"printed {name} acc %" for name in benchmarks),
    ]
    rows = []
    for r in table.to_dict("records"):
        accuracies = []
        for name in benchmarks:
            accuracies.append(shown_interval(r[f"{name}_acc"], r[f"{name}_low"], r[f"{name}_high"], ".1f"))
            change, low, high = (r[f"{name}_change{what}"] for what in ("", "_low", "_high"))
            accuracies += [shown_interval(change, low, high, "+.1f"), shown(r[f"{name}_change_p"], ".2g")]
        rows.append(
            [
                *(str(r[name]) for name in ("model", "method", "row")),
                shown(r["keep_pct"], "g"),
                str(r["scheme"]) + f", {r['gauge']}" * (r["gauge"] != "as trained"),
                shown_size(r["nominal_gb"]),
                shown(r["size_pct"], ".1f"),
                shown_size(r["file_gb"]),
                shown_size(r["memory_gb"]),
                *accuracies,
                *(f"{shown(r[f'ppl_before_{text}'], '.4g')} → {shown(r[f'ppl_{text}'], '.4g')}" for text in texts),
                shown(r["printed_size_gb"], ".2f"),
                *(shown(r[f"printed_{name}_acc"], ".1f") for name in benchmarks),
            ]
        )
    return headers, rows


def render_terminal(table: pd.DataFrame) -> rich.table.Table:
    """The table of `build_quantization_table` for a terminal; without p and perplexities; printed columns are dim."""
    benchmarks = [name for name in BENCHMARKS if f"{name}_acc" in table]
    headers, rows = _display(table, benchmarks)
    kept = [i for i, header in enumerate(headers) if not header.startswith("ppl") and not header.endswith(" p")]
    return terminal_table(
        [headers[i] for i in kept],
        [[row[i] for i in kept] for row in rows],
        ("model", "method", "scheme, gauge"),
        ("printed",),
        group=2,
    )
