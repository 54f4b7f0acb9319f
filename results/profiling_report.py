"""Table 5 as files and on the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import rich.table

from results.cost_verdicts import MeasuredCosts, judge_costs
from results.documents import BLANK, json_rows, json_text, markdown_table, shown, terminal_table, write_files
from results.printed import printed_table
from results.profiling import TABLE, ProfilingPoint, build_profiling_table, conditions_of
from results.provenance import OF_MEASUREMENTS, check_provenance, further_provenance
from results.verdicts import Verdict, verdict_lines

_PRINTED_ON = "Llama 2-13B on one A100"
IMPLEMENTATIONS = {
    "ours": "as every other table of this harness is made",
    "streamed": "one decoder block at a time on the accelerator, the rest on the host; on a CPU both are one memory",
    "estimated": "ASVD's search estimated from one backward pass",
    "naive": "Algorithm 1 as printed, one sequence at a time; ASVD's search as published, every candidate decomposed "
    "and evaluated anew",
}


def write_profiling_table(
    points: Sequence[ProfilingPoint],
    provenance: Mapping[str, str],
    out: Path,
    extrapolated_to: str,
    notes: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[Verdict]]:
    """Write ``table5.csv``, ``table5.md`` and ``table5.json`` under ``out``, each whole or not at all.

    Args:
        provenance: what the numbers come from: at least ``model``, ``date``, ``command``; more is listed.
        extrapolated_to: what the extrapolated columns are about, in words.
        notes: lines to print below the table, before those that follow from the points.

    Returns:
        The table of `build_profiling_table` and the verdicts on the paper's statements about it.

    Raises:
        ValueError: as `build_profiling_table`, or the provenance lacks one of the three.
    """
    check_provenance(provenance, OF_MEASUREMENTS, f"Table {TABLE}")
    table = build_profiling_table(points)
    verdicts = judge_costs(TABLE, MeasuredCosts(profiling=points))
    notes = [*notes, *_notes(table, points, extrapolated_to)]
    record = {
        "table": TABLE,
        "printed_model": _PRINTED_ON,
        "provenance": dict(provenance),
        "rows": json_rows(table),
        "verdicts": [verdict.model_dump() for verdict in verdicts],
        "notes": notes,
        "points": [json.loads(point.model_dump_json()) for point in points],
    }
    texts = {
        ".csv": table.to_csv(index=False, float_format="%.10g"),
        ".md": _markdown(table, points, provenance, verdicts, notes),
        ".json": json_text(record),
    }
    write_files(out, f"table{TABLE}", texts)
    return table, verdicts


def _notes(table: pd.DataFrame, points: Sequence[ProfilingPoint], extrapolated_to: str) -> list[str]:
    measured = dict.fromkeys(point.implementation for point in points)
    notes = [f"“{name}”: {IMPLEMENTATIONS.get(name, name)}." for name in measured]
    notes.append(
        "Time is that of profiling alone: the calibration pass, and for ASVD its decompositions and its search too. "
        "Weights are random: neither time nor memory depends on them. They are frozen, so that a backward pass "
        "computes the gradients of activations alone."
    )
    notes.append(
        f"Memory is the peak ({', '.join(dict.fromkeys(p.memory_kind for p in points)).replace('_', ' ')}); “above the "
        "model” is what profiling added to what the process held before it, the model's "
        f"{points[0].weights_gb:.3g} GB of weights included."
    )
    notes += dict.fromkeys(point.search for point in points if point.search)
    if table["extrapolated_time_h"].notna().any():
        notes.append(
            f"Extrapolated to {extrapolated_to}: not measured. The operations of each phase are counted at both sizes "
            "and the time follows at this run's rate, on this machine; small products are slow: a small run makes it "
            "too long. Memory is that of weights and accumulators alone, counted."
        )
    absent = [str(method) for method in printed_table(TABLE)["method"] if method not in set(table["method"])]
    if absent:
        notes.append(f"Printed in the paper but not measured in this run: {', '.join(absent)}.")
    return notes


def _markdown(
    table: pd.DataFrame,
    points: Sequence[ProfilingPoint],
    provenance: Mapping[str, str],
    verdicts: Sequence[Verdict],
    notes: Sequence[str],
) -> str:
    headers, rows = _display(table)
    p = provenance
    lines = [
        f"# Table {TABLE}: what profiling costs, measured with {p['model']} beside the paper's {_PRINTED_ON}",
        "",
        f"- **Measured in this run**: every column called neither *extrapolated* nor *printed*. Model {p['model']}, "
        f"{p['date']}, by `{p['command']}`: {conditions_of(points)}.",
        "- **Extrapolated**: counted from the measured points, not measured.",
        f"- **Printed in the paper**: the columns called *printed*, for {_PRINTED_ON}: compare the multiples of "
        "IMPACT's time, not values.",
        f"- `{BLANK}`: not measured in this run, not printed in the paper, or without meaning for the row.",
        "",
        *markdown_table(headers, rows),
        "",
        *verdict_lines(verdicts, TABLE),
        "## Notes",
        "",
        *(f"- {note}" for note in notes),
        *further_provenance(provenance, OF_MEASUREMENTS),
    ]
    return "\n".join(lines) + "\n"


def _display(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headers and formatted rows for people; extrapolated and printed columns come last."""
    headers = [
        *("method", "how", "time (s)", "calibration (s)", "decomposition (s)", "search (s)", "time vs IMPACT"),
        *("naive vs this", "peak memory (GB)", "above the model (GB)"),
        *("extrapolated time (h)", "extrapolated memory (GB)"),
        *("printed time (h)", "printed memory (GB)", "printed time vs IMPACT"),
    ]
    specs = {
        **dict.fromkeys(("time_s", "calibration_s", "decomposition_s", "search_s"), ".3g"),
        **dict.fromkeys(("time_vs_impact", "naive_vs_this"), ".2f"),
        **dict.fromkeys(("memory_gb", "memory_above_gb"), ".3g"),
        **dict.fromkeys(("extrapolated_time_h", "extrapolated_memory_gb"), ".3g"),
        **dict.fromkeys(("printed_time_h", "printed_memory_gb", "printed_time_vs_impact"), ".2f"),
    }
    rows = [
        [str(r["method"]), str(r["implementation"]), *(shown(r[column], spec) for column, spec in specs.items())]
        for r in table.to_dict("records")
    ]
    return headers, rows


def render_terminal(table: pd.DataFrame) -> rich.table.Table:
    """The table of `build_profiling_table` for a terminal; what was not measured here is dim."""
    headers, rows = _display(table)
    return terminal_table(headers, rows, ("method", "how"), ("printed", "extrapolated"), group=1)
