"""Table 14 as files and on the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import rich.table

from results.cells import Cell
from results.cost_verdicts import MeasuredCosts, judge_costs
from results.documents import BLANK, json_rows, json_text, markdown_table, shown, terminal_table, write_files
from results.printed import PRINTED_MODEL, printed_table
from results.provenance import OF_MEASUREMENTS, check_provenance, further_provenance
from results.speed import TABLE, SpeedPoint, build_speed_table, conditions_of, memory_line, size_mismatches
from results.verdicts import Verdict, verdict_lines

_PRINTED_MODEL = PRINTED_MODEL[6]  # that of Table 6, whose models Table 14 times


def write_speed_table(
    points: Sequence[SpeedPoint],
    provenance: Mapping[str, str],
    out: Path,
    notes: Sequence[str] = (),
    cells: Sequence[Cell] = (),
) -> tuple[pd.DataFrame, list[Verdict]]:
    """Write ``table14.csv``, ``table14.md`` and ``table14.json`` under ``out``, each whole or not at all.

    Args:
        provenance: what the numbers come from: at least ``model``, ``date``, ``command``; more is listed.
        notes: lines to print below the table, before those that follow from the points.
        cells: of Table 6 of the same models, for what the paper says of costs at equal accuracy.

    Returns:
        The table of `build_speed_table` and the verdicts on the paper's statements about it.

    Raises:
        ValueError: as `build_speed_table`, or the provenance lacks one of the three.
    """
    check_provenance(provenance, OF_MEASUREMENTS, f"Table {TABLE}")
    table = build_speed_table(points)
    verdicts = judge_costs(TABLE, MeasuredCosts(speed=points, cells=cells))
    notes = [*notes, *_notes(table, points)]
    record = {
        "table": TABLE,
        "printed_model": _PRINTED_MODEL,
        "provenance": dict(provenance),
        "rows": json_rows(table),
        "verdicts": [verdict.model_dump() for verdict in verdicts],
        "notes": notes,
        "points": [json.loads(point.model_dump_json()) for point in points],
    }
    texts = {
        ".csv": _csv(table),
        ".md": _markdown(table, points, provenance, verdicts, notes),
        ".json": json_text(record),
    }
    write_files(out, f"table{TABLE}", texts)
    return table, verdicts


def _csv(table: pd.DataFrame) -> str:
    """Sizes to the single parameter, never in exponents; a missing number is an empty field."""
    written = table.copy()
    written["model_size_b"] = [f"{size:.9f}" for size in table["model_size_b"]]
    return written.to_csv(index=False, float_format="%.10g")


def _notes(table: pd.DataFrame, points: Sequence[SpeedPoint]) -> list[str]:
    repetitions = sorted({point.repetitions for point in points})
    notes = [
        f"Numbers are medians over {' or '.join(map(str, repetitions))} repetitions, in brackets the lowest and the "
        "highest of them. Throughput counts generated tokens over the time of prefill and decoding together.",
        "“of the machine's limit”: measured speed over the lower of two bounds, the bytes that must be moved over the "
        "measured memory bandwidth and the operations over the measured matrix rate.",
    ]
    limits = dict.fromkeys((p.bandwidth_gb_s, p.matrix_rate_tflop_s) for p in points if p.bandwidth_gb_s)
    notes += [f"Limits measured: {b:,.0f} GB/s, {rate or 0:,.2f} TFLOP/s." for b, rate in limits]
    if table["random_weights"].any():
        notes.append(
            "Random weights: every layer has the same share of its full rank, so that the model has the printed share "
            "of the dense size, as nearly as whole ranks allow. "
            "Speed does not depend on the values of the weights, but a method gives different ranks to different "
            "layers, which this does not show: methods differ here by their sizes alone."
        )
    if len(other := size_mismatches(table)):
        which = ", ".join(dict.fromkeys(f"{m} row {r}" for m, r in zip(other["method"], other["row"], strict=True)))
        notes.append(f"Not of the printed size, so that only the multiples of the dense model compare: {which}.")
    notes += _memory_notes(table)
    measured = set(zip(table["method"], table["row"], strict=True))
    printed = [(str(r["method"]), int(r["row"])) for r in printed_table(TABLE).to_dict("records")]
    if absent := [f"{method} row {row}" for method, row in printed if (method, row) not in measured]:
        notes.append(f"Printed in the paper but not measured in this run: {', '.join(absent)}.")
    return notes + [f"{p.method} row {p.row}, {p.route}: {p.note}" for p in points if p.note]


def _memory_notes(table: pd.DataFrame) -> list[str]:
    printed = printed_table(TABLE)
    line = memory_line(printed["model_size_b"], printed["memory_gb"])
    notes = []
    for (route, kind), rows in table.groupby(["route", "memory_kind"], sort=False):
        own = memory_line(rows["model_size_b"], rows["memory_gb"])
        if own and line:
            notes.append(
                f"Memory ({route}, {kind}) grows by {own[0]:.2f} GB a billion parameters from {own[1]:.2f} GB at size "
                f"zero; the printed numbers by {line[0]:.2f} from {line[1]:.2f}, that is four bytes a weight."
            )
    return notes


def _markdown(
    table: pd.DataFrame,
    points: Sequence[SpeedPoint],
    provenance: Mapping[str, str],
    verdicts: Sequence[Verdict],
    notes: Sequence[str],
) -> str:
    headers, rows = _display(table)
    p = provenance
    lines = [
        f"# Table {TABLE}: throughput and memory, measured with {p['model']} beside the paper's {_PRINTED_MODEL}",
        "",
        f"- **Measured in this run**: every column not called *printed*. Model {p['model']}, {p['date']}, by "
        f"`{p['command']}`: {conditions_of(points)}.",
        f"- **Printed in the paper**: the columns called *printed*, for {_PRINTED_MODEL} on the paper's machine, with "
        "batch size and lengths that it does not state: compare the multiples of the dense model, not values.",
        f"- `{BLANK}`: not measured in this run, or not printed in the paper.",
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
    """Headers and formatted rows for people; the printed columns come last."""
    headers = [
        *("route", "method", "row", "size (B)", "tok/s [range]", "tok/s vs dense", "of limit %", "decode tok/s"),
        *("decode vs dense", "decode of limit %", "memory (GB)", "memory vs dense"),
        *(
            "printed size (B)",
            "printed tok/s",
            "printed tok/s vs dense",
            "printed memory (GB)",
            "printed memory vs dense",
        ),
    ]
    rows = [
        [
            str(r["route"]),
            str(r["method"]),
            str(r["row"]),
            f"{r['model_size_b']:.4g}",
            f"{r['throughput_tok_s']:.4g} [{r['throughput_low']:.4g}, {r['throughput_high']:.4g}]",
            shown(r["throughput_vs_dense"], ".2f"),
            shown(r["throughput_of_bound_pct"], ".0f"),
            shown(r["decode_tok_s"], ".4g"),
            shown(r["decode_vs_dense"], ".2f"),
            shown(r["decode_of_bound_pct"], ".0f"),
            shown(r["memory_gb"], ".2f"),
            shown(r["memory_vs_dense"], ".2f"),
            shown(r["printed_model_size_b"], ".2f"),
            shown(r["printed_throughput_tok_s"], ".2f"),
            shown(r["printed_throughput_vs_dense"], ".2f"),
            shown(r["printed_memory_gb"], ".2f"),
            shown(r["printed_memory_vs_dense"], ".2f"),
        ]
        for r in table.to_dict("records")
    ]
    return headers, rows


def render_terminal(table: pd.DataFrame) -> rich.table.Table:
    """The table of `build_speed_table` for a terminal; the printed columns are dim."""
    headers, rows = _display(table)
    return terminal_table(headers, rows, ("route", "method"), ("printed",), group=2)
