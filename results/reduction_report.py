"""Tables 10 to 13 as files and on the terminal."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import rich.box
import rich.table
from rich.text import Text

from results.documents import BLANK, json_rows, json_text, markdown_table, shown, write_files
from results.printed import PRINTED_MODEL
from results.provenance import BY, OF_A_RUN, check_provenance, further_provenance
from results.size_reduction import SOURCE_TABLE, ReductionTable, Source, short

_REQUIRED: Mapping[Source, tuple[str, ...]] = {"paper": BY, "measured": OF_A_RUN}
AGREES_WITH = "printed size agrees with"
# a number of parameters in billions needs nine decimals to be exact; the paper's sizes have two
_SIZE_DECIMALS: Mapping[Source, int] = {"paper": 3, "measured": 9}


def write_size_reduction(table: ReductionTable, provenance: Mapping[str, str], out: Path) -> None:
    """Write ``tableN.csv``, ``tableN.md`` and ``tableN.json`` under ``out``, each whole or not at all.

    Args:
        provenance: what the numbers come from: at least ``command``, and of a run ``preset``, ``model`` and ``date``;
            more is listed.

    Raises:
        ValueError: the provenance lacks something required.
    """
    check_provenance(provenance, _REQUIRED[table.source], f"Table {table.number}")
    record = {
        "table": table.number,
        "source": table.source,
        "printed_model": PRINTED_MODEL[SOURCE_TABLE[table.number]],
        "provenance": dict(provenance),
        "rows": json_rows(table.rows),
        "notes": table.notes,
    }
    write_files(
        out,
        f"table{table.number}",
        {".csv": _csv(table), ".md": _markdown(table, provenance), ".json": json_text(record)},
    )


def _csv(table: ReductionTable) -> str:
    """Sizes never in exponents; a missing number is an empty field."""
    written = table.rows.copy()
    for name in written.columns:
        as_printed = str(name).startswith("printed_") or (table.source == "paper" and name == "impact_size_b")
        decimals = _SIZE_DECIMALS[table.source] if str(name).endswith("_b") and not as_printed else 2
        if str(name).endswith(("_b", "_pct")):
            written[name] = ["" if pd.isna(value) else f"{value:.{decimals}f}" for value in table.rows[name]]
    return written.to_csv(index=False)


def _markdown(table: ReductionTable, provenance: Mapping[str, str]) -> str:
    headers, rows = _display(table)
    model, behind = PRINTED_MODEL[SOURCE_TABLE[table.number]], SOURCE_TABLE[table.number]
    title, sources = {
        "paper": (
            f"recomputed from the paper's printed Table {behind} ({model})",
            [
                f"- **Recomputed** from the printed sizes and accuracies of Table {behind}: every column not called "
                f"*printed*. Nothing here was measured. By `{provenance['command']}`.",
                f"- **Printed in the paper**: the columns called *printed*, of its Table {table.number}.",
            ],
        ),
        "measured": (
            f"measured with {provenance.get('model')} (preset {provenance.get('preset')}) beside the paper's {model}",
            [
                f"- **Measured in this run**: every column not called *printed*. Model {provenance.get('model')}, "
                f"preset {provenance.get('preset')}, {provenance.get('date')}, by `{provenance['command']}`.",
                f"- **Printed in the paper**: the columns called *printed*, for {model}: unless that is the model "
                "measured, sizes in billions do not compare.",
                f"- `{BLANK}`: footnote 2 gives no size there; the notes say what is known.",
            ],
        ),
    }[table.source]
    lines = [
        f"# Table {table.number}: size reduction at the same accuracy, {title}",
        "",
        *sources,
        "- Baseline: the smallest model among SVD, FWSVD, ASVD and AFM of IMPACT's accuracy, interpolated linearly "
        "between models adjacent in size, never extrapolated; the dense model is a point of every curve.",
        "",
        *markdown_table(headers, rows),
        "",
        "## Notes",
        "",
        *(f"- {note}" for note in table.notes),
        *further_provenance(provenance, _REQUIRED[table.source]),
    ]
    return "\n".join(lines) + "\n"


def _display(table: ReductionTable) -> tuple[list[str], list[list[str]]]:
    """Headers and formatted rows for people; the printed columns come last."""
    headers = [
        *("benchmark", "row", "IMPACT acc %", "IMPACT size (B)", "baseline", "its size (B)", "interval (B)"),
        *("reduction %", "printed baseline (B)", "printed reduction %"),
        *(["verdict", AGREES_WITH] if table.source == "paper" else []),
    ]
    rows = []
    for record in table.rows.to_dict("records"):
        size, low, high = (_size_text(record[f"baseline_{end}_b"], table.source) for end in ("size", "low", "high"))
        rows.append(
            [
                str(record["benchmark"]),
                str(record["row"]),
                shown(record["accuracy_pct"], ".1f"),
                _size_text(record["impact_size_b"], table.source, 2),
                BLANK if pd.isna(record["baseline"]) else str(record["baseline"]),
                size,
                f"{low} to {high}",
                shown(record["size_reduction_pct"], ".1f"),
                shown(record["printed_baseline_size_b"], ".2f"),
                shown(record["printed_size_reduction_pct"], ".1f"),
                *([str(record["verdict"]), str(record["agrees_with"])] if table.source == "paper" else []),
            ]
        )
    return headers, rows


def _size_text(size: float, source: Source, printed_decimals: int = 3) -> str:
    if pd.isna(size):
        return BLANK
    return f"{size:.{printed_decimals}f}" if source == "paper" else short(size)


def render_terminal(table: ReductionTable) -> rich.table.Table:
    """The table for a terminal; the printed columns are dim, a discrepancy is bold."""
    headers, rows = _display(table)
    view = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"Table {table.number} ({table.source})"
    )
    texts = ("benchmark", "baseline", "verdict", AGREES_WITH)
    for header in headers:
        view.add_column(
            header.replace(" ", "\n"),
            style="dim" if header.startswith("printed") else None,
            justify="left" if header in texts else "right",
            # on a narrow terminal this column gives way first
            no_wrap=header != AGREES_WITH,
        )
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        view.add_row(
            *(Text(field, no_wrap=True, overflow="ellipsis") for field in row),
            style="bold" if "discrepancy" in row else None,
            end_section=following is not None and following[0] != row[0],
        )
    return view
