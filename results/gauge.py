"""What the gauge of the factors and the 8-bit scheme change: a table of our own, of quantized IMPACT models."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import rich.table

from results.documents import json_rows, json_text, markdown_table, shown, shown_interval, terminal_table, write_files
from results.provenance import OF_A_RUN, further_provenance
from results.quantized_cells import QuantizedCell
from results.statistics import paired_bootstrap, wilson_interval

STEM = "gauge"


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


def write_gauge_table(
    cells: Sequence[QuantizedCell], benchmarks: Sequence[str], provenance: Mapping[str, str], out: Path
) -> pd.DataFrame:
    """Write ``gauge.{csv,md,json}`` under ``out``, each whole or not at all; returns the table."""
    table = build_gauge_table(cells, benchmarks)
    effects = gauge_effects(cells, benchmarks)
    record = {
        "provenance": dict(provenance),
        "rows": json_rows(table),
        "effects": effects,
        "quantized_cells": [json.loads(cell.model_dump_json()) for cell in cells],
    }
    headers, rows = _display(table, benchmarks)
    lines = [
        f"# The gauge of the factors in 8 bits: {provenance['model']} (preset {provenance['preset']})",
        "",
        f"Not a table of the paper. {provenance['date']}, by `{provenance['command']}`. *as trained*: the paper's "
        "factors after the second SFT. *balanced*: a row of `down` and its column of `up` scaled to equal norms, which "
        "leaves their product.",
        "",
        *markdown_table(headers, rows),
        "",
        *(f"- {sentence}" for sentence in effects),
        "",
        *further_provenance(provenance, OF_A_RUN),
    ]
    texts = {".csv": table.to_csv(index=False, float_format="%.10g"), ".json": json_text(record)}
    write_files(out, STEM, texts | {".md": "\n".join(lines) + "\n"})
    return table


def render_terminal(table: pd.DataFrame, benchmarks: Sequence[str]) -> rich.table.Table:
    """The table of `build_gauge_table` for a terminal."""
    headers, rows = _display(table, benchmarks)
    return terminal_table(headers, rows, ("method", "scheme", "gauge"), (), 2)


def _display(table: pd.DataFrame, benchmarks: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    texts = [str(name).removeprefix("ppl_before_") for name in table.columns if str(name).startswith("ppl_before_")]
    headers = ["method", "row", "scheme", "gauge", *(f"ppl {text}, before → after" for text in texts)]
    for name in benchmarks:
        headers += [f"{name} before %", f"{name} acc % [95 %]", f"{name} change [95 %]"]
    rows = []
    for record in table.to_dict("records"):
        fields = [str(record[name]) for name in ("method", "row", "scheme", "gauge")]
        fields += [
            f"{shown(record[f'ppl_before_{text}'], '.4g')} → {shown(record[f'ppl_{text}'], '.4g')}" for text in texts
        ]
        for name in benchmarks:
            change, low, high = (record[f"{name}_change{what}"] for what in ("", "_low", "_high"))
            fields += [
                shown(record[f"{name}_before"], ".1f"),
                shown_interval(record[f"{name}_acc"], record[f"{name}_low"], record[f"{name}_high"], ".1f"),
                shown_interval(change, low, high, "+.1f"),
            ]
        rows.append(fields)
    return headers, rows
