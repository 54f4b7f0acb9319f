"""Table 14: throughput and memory, measured, beside the paper's printed numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd

from results.measured.cells import DENSE, Cell
from results.measured.conditions import check_comparable
from results.measured.speed_points import SpeedPoint
from results.numbers.printed import PRINTED_MODEL, printed_lines, printed_table
from results.statements.run import Run
from results.statements.verdicts import verdicts
from results.tables.columns import Column, interval, number, printed, word
from results.tables.document import Document

TABLE = 14
# Two decimals are printed, and a rank is a whole number.
_SIZE_TOLERANCE_B = 0.006
# what is compared with the dense model's, and its column
_COMPARED = {"throughput": "throughput_tok_s", "memory": "memory_gb"}
_COLUMNS = (
    *("route", "method", "row", "model_size_b", "throughput_tok_s", "throughput_low", "throughput_high"),
    *("memory_gb", "memory_kind", "weights_gb", "throughput_vs_dense", "memory_vs_dense", "decode_vs_dense"),
    *("throughput_of_bound_pct", "prefill_tok_s", "prefill_of_bound_pct"),
    *("decode_tok_s", "decode_low", "decode_high", "decode_of_bound_pct"),
    *("decode_bandwidth_bound_tok_s", "decode_rate_bound_tok_s", "random_weights"),
    *("printed_model_size_b", "printed_throughput_tok_s", "printed_memory_gb"),
    *("printed_throughput_vs_dense", "printed_memory_vs_dense"),
)


class SpeedTable(Document):
    """Table 14."""

    points: list[SpeedPoint]

    held: ClassVar[str] = "points"
    numbers: ClassVar[tuple[int | None, ...]] = (TABLE,)
    said: ClassVar[tuple[str, ...]] = ("model", "date", "command")
    what: ClassVar[str] = "throughput and memory"
    compare: ClassVar[str] = (
        " on the paper's machine, with batch size and lengths that it does not state: compare the multiples of the "
        "dense model, not values"
    )
    exact: ClassVar[tuple[str, ...]] = ("model_size_b",)
    group: ClassVar[tuple[str, ...]] = ("route", "method")

    def columns(self) -> list[Column]:
        return [
            word("route"),
            word("method", key=True),
            number("row", "row", key=True),
            number("size (B)", "model_size_b", ".4g"),
            interval("tok/s [range]", "throughput_tok_s", "throughput", ".4g"),
            number("tok/s vs dense", "throughput_vs_dense", ".2f"),
            number("of limit %", "throughput_of_bound_pct", ".0f"),
            number("decode tok/s", "decode_tok_s", ".4g"),
            number("decode vs dense", "decode_vs_dense", ".2f"),
            number("decode of limit %", "decode_of_bound_pct", ".0f"),
            number("memory (GB)", "memory_gb", ".2f"),
            number("memory vs dense", "memory_vs_dense", ".2f"),
            printed("size (B)", "printed_model_size_b", ".2f"),
            printed("tok/s", "printed_throughput_tok_s", ".2f"),
            printed("tok/s vs dense", "printed_throughput_vs_dense", ".2f"),
            printed("memory (GB)", "printed_memory_gb", ".2f"),
            printed("memory vs dense", "printed_memory_vs_dense", ".2f"),
        ]


def speed_document(
    points: Sequence[SpeedPoint], provenance: Mapping[str, str], notes: Sequence[str] = (), cells: Sequence[Cell] = ()
) -> SpeedTable:
    """The table of measured points, with the verdicts on the paper's statements. Raises as `build_speed_table`.

    notes: to print before those that follow from the points. cells: of Table 6 of the same models, for what the paper
    says of costs at equal accuracy.
    """
    rows = build_speed_table(points)
    return SpeedTable(
        table=TABLE,
        printed_model=PRINTED_MODEL[6],  # that of Table 6, whose models Table 14 times
        provenance=dict(provenance),
        rows=rows,
        verdicts=verdicts(TABLE, Run(speed=points, cells={6: cells})),
        notes=[*notes, *_notes(rows, points)],
        points=list(points),
    )


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
    if absent := [f"{method} row {row}" for method, row in printed_lines(TABLE) if (method, row) not in measured]:
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


def printed_points() -> list[tuple[str, int, int]]:
    """(method, row, parameters) of every point that Table 14 prints, as `--random-weights` is to measure them."""
    return [(*point, round(line["model_size_b"] * 1e9)) for point, line in printed_lines(TABLE).items()]


def build_speed_table(points: Sequence[SpeedPoint]) -> pd.DataFrame:
    """One row a measured (route, method, row), in the paper's order, with the printed numbers of the same point beside.

    ``*_tok_s`` are tokens a second with ``*_low`` and ``*_high`` over repetitions, ``*_of_bound_pct`` percent of what
    the machine's bandwidth and matrix rate allow, ``*_vs_dense`` multiples of the dense model's number on the same
    route. Columns ``printed_*`` are the paper's, for its own model and machine; ``printed_*_vs_dense`` are made of
    them alone. What was not measured or is not printed is missing.

    Raises:
        ValueError: no point, a point that occurs twice, or points measured under different conditions.
    """
    check_comparable(points, "no point was measured: there is no Table 14 to build")
    printed = printed_table(TABLE)
    routes = list(dict.fromkeys(point.route for point in points))
    methods = list(dict.fromkeys([*printed["method"], *sorted(point.method for point in points)]))
    ordered = sorted(points, key=lambda p: (routes.index(p.route), methods.index(p.method), p.row))
    beside = printed.set_index(["method", "row"])
    for name, column in _COMPARED.items():
        beside[f"{name}_vs_dense"] = beside[column] / printed.loc[printed["method"] == DENSE, column].item()
    table = pd.DataFrame(map(_record, ordered)).join(beside.add_prefix("printed_"), on=["method", "row"])
    dense = table[table["method"] == DENSE].set_index("route")
    for name, column in (_COMPARED | {"decode": "decode_tok_s"}).items():
        table[f"{name}_vs_dense"] = table[column] / table["route"].map(dense[column])
    table = table.reindex(columns=_COLUMNS)
    texts = ("route", "method", "memory_kind", "random_weights", "row")
    return table.astype({name: "float64" for name in table.columns if name not in texts})


def _record(point: SpeedPoint) -> dict[str, object]:
    """What was measured of a point, by column."""
    named = ("route", "method", "row", "random_weights", "memory_gb", "memory_kind", "weights_gb")
    record: dict[str, object] = {name: getattr(point, name) for name in named}
    record["model_size_b"] = point.parameters / 1e9
    for name, phase in (("throughput", point.total), ("prefill", point.prefill), ("decode", point.decode)):
        record[f"{name}_tok_s"] = phase.tokens_per_s.median if phase else None
        if phase:
            record |= {f"{name}_{end}": getattr(phase.tokens_per_s, end) for end in ("low", "high")}
            bounds = ("of_bound_pct", "bandwidth_bound_tok_s", "rate_bound_tok_s")
            record |= {f"{name}_{bound}": getattr(phase, bound) for bound in bounds}
    return record


def size_mismatches(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a measured table whose size is not the printed one of the same point."""
    return table[(table["model_size_b"] - table["printed_model_size_b"]).abs() > _SIZE_TOLERANCE_B]


def memory_line(sizes: Iterable[float], memory: Iterable[float]) -> tuple[float, float] | None:
    """Least squares line through memory (GB) against size (B): GB a billion parameters, and GB at size zero.

    None with fewer than three sizes. The printed memory has 3.97 GB a billion: four bytes a weight.
    """
    x, y = np.asarray(list(sizes)), np.asarray(list(memory))
    if len(np.unique(x)) < 3:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)
