"""An accuracy table, measured, beside the paper's printed one where it has one."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from results.measured.cells import DENSE, DENSE_SFT, BenchmarkResult, Cell, grouped_by_point
from results.numbers.printed import PRINTED_MODEL, printed_benchmarks, printed_lines
from results.numbers.statistics import mcnemar_exact, paired_bootstrap, wilson_interval
from results.statements.evidence import name_missing
from results.statements.run import Run
from results.statements.verdicts import verdicts
from results.tables.columns import Column, before_after, interval, number, size, word
from results.tables.document import Document

COMPARE = (
    ": unless that is the model measured, compare the order of the methods and the shape of the curves, not values"
)


class AccuracyTable(Document):
    """One of Tables 6 to 9, or a table of accuracies by method and row that the paper does not have, with its title."""

    table: int | str
    cells: list[Cell]
    about: str | None = None

    held: ClassVar[str] = "cells"
    compare: ClassVar[str] = COMPARE
    exact: ClassVar[tuple[str, ...]] = ("model_size_b", "model_size_b_seed_sd")
    narrow: ClassVar[bool] = False

    @property
    def title(self) -> str:
        return self.measured_with(self.about or "")

    def columns(self) -> list[Column]:
        return [
            word("method", key=True),
            number("row", "row", key=True),
            number("keep %", "keep_pct"),
            number("eta", "eta"),
            size("size (B)", "model_size_b"),
            number("% of dense", "size_pct", ".1f"),
            *(interval(f"{name} acc % [95 %]", f"{name}_acc", name, ".1f") for name in self.benchmarks()),
            *(
                before_after(f"{text}, before → after SFT", f"ppl_before_sft_{text}", f"ppl_after_sft_{text}")
                for text in self.texts("ppl_before_sft_")
            ),
            *self.printed_columns("printed_model_size_b", "size (B)"),
        ]


def accuracy_document(
    cells: Sequence[Cell],
    table: int | str,
    benchmarks: Sequence[str],
    provenance: Mapping[str, str],
    notes: Sequence[str] = (),
    about: str | None = None,
) -> AccuracyTable:
    """The table of measured cells, with the verdicts on the paper's statements about it. Raises as `build_table`.

    table: the paper's number, 6 to 9, or the name of a table that the paper does not have. notes: to print before those
    that follow from the cells. about: of a table that the paper does not have, what it is about.
    """
    rows = build_table(cells, table, benchmarks)
    known = _printed_ones(table, benchmarks)
    return AccuracyTable(
        table=table,
        printed_model=PRINTED_MODEL[table] if isinstance(table, int) else None,
        provenance=dict(provenance),
        rows=rows,
        verdicts=verdicts(table, Run({table: cells}), known) if isinstance(table, int) else [],
        notes=[*notes, *_notes(cells, table, benchmarks, known)],
        cells=list(cells),
        about=about,
    )


def _printed_ones(table: int | str, benchmarks: Sequence[str]) -> list[str]:
    """Those of the benchmarks that the paper's table of this number prints."""
    printed = printed_benchmarks(table) if isinstance(table, int) else []
    return [name for name in benchmarks if name in printed]


def build_table(cells: Sequence[Cell], table: int | str, benchmarks: Sequence[str]) -> pd.DataFrame:
    """One row a measured point, in the paper's order, with the printed numbers of the same method and row beside it.

    ``model_size_b`` counts billions of parameters, ``size_pct`` is percent of the dense model's; ``*_acc`` are percent,
    with 95 % Wilson limits ``*_low`` and ``*_high`` for the number of problems ``*_n``; columns ``printed_*``, of what
    the paper prints, are for its own model. With several seeds, numbers are means over seeds (of perplexities the
    geometric mean, that is the mean loss), the limits stay those of ``*_n`` problems, since a second seed brings no new
    problems, and ``*_seed_sd`` is the standard deviation over seeds. What was not measured or printed is missing.

    Raises:
        ValueError: a number is not one of Tables 6-9, or cells do not belong together.
    """
    known = _printed_ones(table, benchmarks)
    printed = printed_lines(table) if isinstance(table, int) else {}
    held_out = {text for cell in cells for text in cell.ppl_before_sft | cell.ppl_after_sft}
    texts = [*(name for name in benchmarks if name in held_out), *sorted(held_out - set(benchmarks))]
    methods = list(dict.fromkeys([DENSE, DENSE_SFT, *(method for method, _ in printed)]))
    order = {method: i for i, method in enumerate(methods)}
    of = grouped_by_point(cells)
    points = sorted(of, key=lambda p: (order.get(of[p][0].method, len(order)), of[p][0].method, p[1], p[0]))
    beside = ["printed_model_size_b", *(f"printed_{name}_acc" for name in known)] if printed else []
    frame = pd.DataFrame(
        [_record(of[point], benchmarks, texts, printed.get(point, {})) for point in points],
        columns=_columns(benchmarks, texts, beside),
    )
    counts = ["row", "seeds", *(f"{name}_n" for name in benchmarks)]
    numbers = [name for name in frame.columns if name not in ("method", *counts)]
    return frame.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(numbers, "float64"))


def _columns(benchmarks: Sequence[str], texts: Sequence[str], printed: Sequence[str]) -> list[str]:
    return [
        *("method", "keep_pct", "model_size_b"),
        *(f"{name}_{what}" for name in benchmarks for what in ("acc", "low", "high")),
        *printed,
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
    """The perplexity of the mean loss; of one perplexity itself, as a logarithm and back may move its last digit."""
    return perplexities[0] if len(perplexities) == 1 else float(np.exp(np.mean(np.log(perplexities))))


def seed_sd(values: Sequence[float]) -> float:
    """Standard deviation over seeds; missing with one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _notes(cells: Sequence[Cell], table: int | str, benchmarks: Sequence[str], printed: Sequence[str]) -> list[str]:
    notes = [
        "Intervals are 95 % Wilson intervals for the number of problems scored: they cover the choice of problems, not "
        "that of training and calibration seeds."
    ]
    groups = grouped_by_point(cells)
    seeds = sorted({cell.seed for cell in cells})
    if len(seeds) > 1:
        notes.append(
            f"Seeds {', '.join(map(str, seeds))}: numbers are means over seeds, their spread is in the *_seed_sd "
            "columns of the CSV. Intervals are not narrowed by counting the same problems once a seed."
        )
    for name in printed:
        measured = {(g[0].method, g[0].row) for g in groups.values() if name in g[0].benchmarks}
        if isinstance(table, int) and (missing := name_missing(table, measured)):
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
    p_value = mcnemar_exact(after, before)
    return (
        f"Control on {name}: the second SFT alone moves the dense model by {change:+.1f} points "
        f"(95 % {100 * interval.low:+.1f} to {100 * interval.high:+.1f}, exact McNemar p = {p_value:.2g})."
    )
