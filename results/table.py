"""A measured table beside the paper's printed one: data frame, CSV, Markdown, JSON and terminal."""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import rich.box
import rich.table
from pydantic import BaseModel

from results.cells import DENSE, DENSE_SFT, BenchmarkResult, Cell, grouped_by_point
from results.documents import (
    BLANK,
    json_rows,
    json_text,
    markdown_table,
    shown,
    shown_interval,
    shown_size,
    write_files,
)
from results.evidence import name_missing
from results.printed import PRINTED_MODEL, printed_benchmarks, printed_table
from results.provenance import OF_A_RUN, check_provenance, further_provenance
from results.statistics import mcnemar_exact, paired_bootstrap, wilson_interval
from results.verdicts import Verdict, judge, verdict_lines


def build_table(cells: Sequence[Cell], number: int, benchmarks: Sequence[str]) -> pd.DataFrame:
    """One row a measured (method, row), in the paper's order, with the printed numbers of the same point beside it.

    ``model_size_b`` counts billions of parameters, ``size_pct`` is percent of the dense model's; ``*_acc`` are percent,
    with 95 % Wilson limits ``*_low`` and ``*_high`` for the number of problems ``*_n``; columns ``printed_*`` are the
    paper's, for its own model. With several seeds, numbers are means over seeds (of perplexities the geometric mean,
    that is the mean loss), the limits stay those of ``*_n`` problems, since a second seed brings no new problems, and
    ``*_seed_sd`` is the standard deviation over seeds. What was not measured or is not printed is missing.

    Raises:
        ValueError: the table is not one of Tables 6-9, a benchmark is not in it, or cells do not belong together.
    """
    known = printed_benchmarks(number)
    if unknown := [name for name in benchmarks if name not in known]:
        raise ValueError(f"Table {number} is about {' and '.join(known)}, not {', '.join(unknown)}")
    held_out = {text for cell in cells for text in cell.ppl_before_sft | cell.ppl_after_sft}
    texts = [*(name for name in benchmarks if name in held_out), *sorted(held_out - set(benchmarks))]
    printed = {(str(r["method"]), int(r["row"])): r for r in printed_table(number).to_dict("records")}
    methods = list(dict.fromkeys([DENSE, DENSE_SFT, *(method for method, _ in printed)]))
    order = {method: i for i, method in enumerate(methods)}
    groups = sorted(grouped_by_point(cells).items(), key=lambda g: (order.get(g[0][0], len(order)), g[0]))
    table = pd.DataFrame(
        [_record(group, benchmarks, texts, printed.get(point, {})) for point, group in groups],
        columns=_columns(benchmarks, texts),
    )
    counts = ["row", "seeds", *(f"{name}_n" for name in benchmarks)]
    numbers = [name for name in table.columns if name not in ("method", *counts)]
    return table.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(numbers, "float64"))


def _columns(benchmarks: Sequence[str], texts: Sequence[str]) -> list[str]:
    return [
        *("method", "keep_pct", "model_size_b"),
        *(f"{name}_{what}" for name in benchmarks for what in ("acc", "low", "high")),
        *("printed_model_size_b", *(f"printed_{name}_acc" for name in benchmarks)),
        *("row", "eta", "seeds", *(f"{name}_n" for name in benchmarks), "size_pct"),
        *(f"ppl_before_sft_{text}" for text in texts),
        *(f"ppl_after_sft_{text}" for text in texts),
        *("model_size_b_seed_sd", *(f"{name}_acc_seed_sd" for name in benchmarks)),
    ]


def _record(
    group: Sequence[Cell], benchmarks: Sequence[str], texts: Sequence[str], printed: Mapping[Hashable, Any]
) -> dict[str, object]:
    """One table row from the cells of one point, one a seed; what is absent is left out."""
    first = group[0]
    sizes = [cell.parameters / 1e9 for cell in group]
    record: dict[str, object] = {
        "method": first.method,
        "row": first.row,
        "keep_pct": first.keep_pct,
        "eta": first.eta,
        "seeds": len(group),
        "model_size_b": float(np.mean(sizes)),
        "model_size_b_seed_sd": seed_sd(sizes),
        "size_pct": 100 * float(np.mean(sizes)) * 1e9 / first.dense_parameters,
        "printed_model_size_b": printed.get("model_size_b"),
    }
    for name in benchmarks:
        record[f"printed_{name}_acc"] = printed.get(f"{name}_acc")
        if name in first.benchmarks:
            record |= accuracy_columns(name, [cell.benchmarks[name] for cell in group])
    for text in texts:
        for stage in ("ppl_before_sft", "ppl_after_sft"):
            values: list[float] = [getattr(cell, stage).get(text, math.nan) for cell in group]
            record[f"{stage}_{text}"] = geometric_mean(values)
    return record


def accuracy_columns(name: str, results: Sequence[BenchmarkResult]) -> dict[str, object]:
    """The columns of one benchmark, from the results of one point, one a seed: `build_table` says what they hold."""
    n = results[0].n
    solved = [sum(result.correct) for result in results]
    interval = wilson_interval(float(np.mean(solved)), n)
    return {
        f"{name}_acc": 100 * float(np.mean(solved)) / n,
        f"{name}_low": 100 * interval.low,
        f"{name}_high": 100 * interval.high,
        f"{name}_n": n,
        f"{name}_acc_seed_sd": seed_sd([100 * count / n for count in solved]),
    }


def geometric_mean(perplexities: Sequence[float]) -> float:
    """The perplexity of the mean loss; of one perplexity itself, which a logarithm and back may move by a last digit."""
    return perplexities[0] if len(perplexities) == 1 else float(np.exp(np.mean(np.log(perplexities))))


def seed_sd(values: Sequence[float]) -> float:
    """Standard deviation over seeds; missing with one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def write_table(
    cells: Sequence[Cell],
    number: int,
    benchmarks: Sequence[str],
    provenance: Mapping[str, str],
    out: Path,
    notes: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[Verdict]]:
    """Write ``tableN.csv``, ``tableN.md`` and ``tableN.json`` under ``out``, each whole or not at all.

    Args:
        provenance: what the numbers come from: at least ``preset``, ``model``, ``date``, ``command``; more is listed.
        notes: lines to print below the table, before those that follow from the cells.

    Returns:
        The table of `build_table` and the verdicts on the paper's statements about it.

    Raises:
        ValueError: as `build_table`, or the provenance lacks one of the four.
    """
    check_provenance(provenance, OF_A_RUN, f"Table {number}")
    table = build_table(cells, number, benchmarks)
    verdicts = judge(cells, number, benchmarks)
    notes = [*notes, *_notes(cells, number, benchmarks)]
    record = {
        "table": number,
        "printed_model": PRINTED_MODEL[number],
        "provenance": dict(provenance),
        "rows": json_rows(table),
        "verdicts": [verdict.model_dump() for verdict in verdicts],
        "notes": notes,
        "cells": [json.loads(cell.model_dump_json()) for cell in cells],
    }
    texts = {
        ".csv": _csv(table),
        ".md": _markdown(table, number, benchmarks, provenance, verdicts, notes),
        ".json": json_text(record),
    }
    write_files(out, f"table{number}", texts)
    return table, verdicts


class MeasuredTable(BaseModel):
    """Of a written ``tableN.json``, what further tables are made from and compared with."""

    table: int
    cells: list[Cell]
    provenance: dict[str, str] = {}


AnyTable = TypeVar("AnyTable", bound=MeasuredTable)


def measured_cells_of(folder: Path) -> dict[int, list[Cell]]:
    """The cells of every table that `measured_tables_of` finds in a folder, by the table's number."""
    return {number: measured.cells for number, measured in measured_tables_of(folder, MeasuredTable).items()}


def measured_tables_of(folder: Path, form: type[AnyTable]) -> dict[int, AnyTable]:
    """Every measured table that `write_table` wrote into a folder, or one made from it, by the table's number.

    Tables derived from others, which hold no cells, are passed over. A folder without tables, or none, gives none.

    Raises:
        ValueError: a table's file is damaged or is about another table than its name says.
    """
    found = {}
    for path in sorted(folder.glob("table*.json")):
        text = path.read_text(encoding="utf-8")
        try:
            if "cells" not in json.loads(text):
                continue
            measured = form.model_validate_json(text)
        except ValueError as error:
            raise ValueError(f"{path.name} is not a measured table: {error}") from error
        if path.stem != f"table{measured.table}":
            raise ValueError(f"{path.name} says that it is Table {measured.table}")
        found[measured.table] = measured
    return found


def _csv(table: pd.DataFrame) -> str:
    """Sizes to the single parameter, never in exponents; a missing number is an empty field."""
    written = table.copy()
    for name in ("model_size_b", "model_size_b_seed_sd"):
        written[name] = ["" if pd.isna(size) else f"{size:.9f}" for size in table[name]]
    return written.to_csv(index=False, float_format="%.10g")


def _notes(cells: Sequence[Cell], number: int, benchmarks: Sequence[str]) -> list[str]:
    notes = [
        "Intervals are 95 % Wilson intervals for the number of problems scored: they cover the choice of problems, not "
        "that of training and calibration seeds.",
    ]
    groups = grouped_by_point(cells)
    seeds = sorted({cell.seed for cell in cells})
    if len(seeds) > 1:
        notes.append(
            f"Seeds {', '.join(map(str, seeds))}: numbers are means over seeds, their spread is in the *_seed_sd "
            "columns of the CSV. Intervals are not narrowed by counting the same problems once a seed."
        )
    for name in benchmarks:
        if missing := name_missing(number, {p for p, group in groups.items() if name in group[0].benchmarks}):
            notes.append(f"Printed in the paper but not measured on {name} in this run: {missing}.")
    notes += [
        _control_note(groups[DENSE, 0], groups[DENSE_SFT, 0], name)
        for name in benchmarks
        if (DENSE, 0) in groups
        and (DENSE_SFT, 0) in groups
        and name in groups[DENSE, 0][0].benchmarks
        and name in groups[DENSE_SFT, 0][0].benchmarks
    ]
    notes += [f"{cell.method} row {cell.row}, seed {cell.seed}: {cell.note}" for cell in cells if cell.note]
    return notes


def _control_note(dense: Sequence[Cell], control: Sequence[Cell], name: str) -> str:
    """What the second SFT alone does to the dense model, on the first seed of each."""
    before, after = dense[0].benchmarks[name].correct, control[0].benchmarks[name].correct
    change = 100 * (float(np.mean(after)) - float(np.mean(before)))
    interval = paired_bootstrap(after, before, seed=0)
    p_value = mcnemar_exact(after, before).p_value
    return (
        f"Control on {name}: the second SFT alone moves the dense model by {change:+.1f} points "
        f"(95 % {100 * interval.low:+.1f} to {100 * interval.high:+.1f}, exact McNemar p = {p_value:.2g})."
    )


def _markdown(
    table: pd.DataFrame,
    number: int,
    benchmarks: Sequence[str],
    provenance: Mapping[str, str],
    verdicts: Sequence[Verdict],
    notes: Sequence[str],
) -> str:
    texts = [str(c).removeprefix("ppl_before_sft_") for c in table.columns if str(c).startswith("ppl_before_sft_")]
    headers, rows = _display(table, benchmarks, texts)
    p, paper_model = provenance, PRINTED_MODEL[number]
    lines = [
        f"# Table {number}: measured with {p['model']} (preset {p['preset']}) beside the paper's {paper_model}",
        "",
        f"- **Measured in this run**: every column not called *printed*. Model {p['model']}, preset {p['preset']}, "
        f"{p['date']}, by `{p['command']}`.",
        f"- **Printed in the paper**: the columns called *printed*, for {paper_model}: "
        "unless that is the model measured, compare the order of the methods and the shape of the curves, not values.",
        f"- `{BLANK}`: not measured in this run, or not printed in the paper.",
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


def _display(table: pd.DataFrame, benchmarks: Sequence[str], texts: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Headers and formatted rows for people, with the perplexities of ``texts``; the printed columns come last."""
    headers = [
        *("method", "row", "keep %", "eta", "size (B)", "% of dense"),
        *(f"{name} acc % [95 %]" for name in benchmarks),
        *(f"ppl {text}, before → after SFT" for text in texts),
        "printed size (B)",
        *(f"printed {name} acc %" for name in benchmarks),
    ]
    rows = []
    for record in table.to_dict("records"):
        accuracies = [
            shown_interval(record[f"{name}_acc"], record[f"{name}_low"], record[f"{name}_high"], ".1f")
            for name in benchmarks
        ]
        perplexities = [
            f"{shown(record[f'ppl_before_sft_{text}'], '.4g')} → {shown(record[f'ppl_after_sft_{text}'], '.4g')}"
            for text in texts
        ]
        rows.append(
            [
                str(record["method"]),
                str(record["row"]),
                shown(record["keep_pct"], "g"),
                shown(record["eta"], "g"),
                shown_size(record["model_size_b"]),
                shown(record["size_pct"], ".1f"),
                *accuracies,
                *perplexities,
                shown(record["printed_model_size_b"], ".2f"),
                *(shown(record[f"printed_{name}_acc"], ".1f") for name in benchmarks),
            ]
        )
    return headers, rows


def render_terminal(table: pd.DataFrame) -> rich.table.Table:
    """The table of `build_table` for a terminal; without perplexities; the printed columns are dim."""
    benchmarks = [str(name).removesuffix("_low") for name in table.columns if str(name).endswith("_low")]
    headers, rows = _display(table, benchmarks, texts=[])
    view = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for header in headers:
        printed = header.startswith("printed")
        view.add_column(header, style="dim" if printed else None, justify="left" if header == "method" else "right")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        view.add_row(*row, end_section=following is not None and following[0] != row[0])
    return view
