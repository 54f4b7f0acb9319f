"""Table 5: what profiling costs, measured, beside the paper's printed numbers."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import pandas as pd

from results.measured.conditions import check_comparable
from results.measured.profiling_points import ProfilingPoint
from results.numbers.printed import printed_table
from results.statements.run import Run
from results.statements.verdicts import verdicts
from results.tables.columns import Column, number, printed, word
from results.tables.document import NOT_MEANT, Document
from results.tables.html import Block

IMPLEMENTATIONS = {
    "ours": "as every other table of this harness is made",
    "streamed": "one decoder block at a time on the accelerator, the rest on the host; on a CPU both are one memory",
    "estimated": "ASVD's search estimated from one backward pass",
    "naive": "Algorithm 1 as printed, one sequence at a time; ASVD's search as published, every candidate decomposed "
    "and evaluated anew",
}

TABLE = 5
PHASES = ("calibration", "decomposition", "search")
# what a way of profiling is compared with
_REFERENCE = "impact"
_NAIVE = "naive"


class ProfilingTable(Document):
    """Table 5."""

    points: list[ProfilingPoint]

    held: ClassVar[str] = "points"
    numbers: ClassVar[tuple[int | None, ...]] = (TABLE,)
    said: ClassVar[tuple[str, ...]] = ("model", "date", "command")
    what: ClassVar[str] = "what profiling costs"
    ours: ClassVar[str] = "called neither *extrapolated* nor *printed*"
    compare: ClassVar[str] = ": compare the multiples of IMPACT's time, not values"
    blank: ClassVar[str] = NOT_MEANT

    @property
    def says(self) -> Block:
        lines = list(super().says)
        return [lines[0], "**Extrapolated**: counted from the measured points, not measured.", *lines[1:]]

    def columns(self) -> list[Column]:
        return [
            word("method", key=True),
            word("how", "implementation"),
            number("time (s)", "time_s", ".3g"),
            *(number(f"{phase} (s)", f"{phase}_s", ".3g") for phase in PHASES),
            number("time vs IMPACT", "time_vs_impact", ".2f"),
            number("naive vs this", "naive_vs_this", ".2f"),
            number("peak memory (GB)", "memory_gb", ".3g"),
            number("above the model (GB)", "memory_above_gb", ".3g"),
            number("extrapolated time (h)", "extrapolated_time_h", ".3g", unmeasured=True),
            number("extrapolated memory (GB)", "extrapolated_memory_gb", ".3g", unmeasured=True),
            printed("time (h)", "printed_time_h", ".2f"),
            printed("memory (GB)", "printed_memory_gb", ".2f"),
            printed("time vs IMPACT", "printed_time_vs_impact", ".2f"),
        ]


def profiling_document(
    points: Sequence[ProfilingPoint], provenance: Mapping[str, str], extrapolated_to: str, notes: Sequence[str] = ()
) -> ProfilingTable:
    """The table of measured points, with the verdicts on the paper's statements. Raises as `build_profiling_table`.

    extrapolated_to: what the extrapolated columns are about, in words. notes: to print before those that follow from
    the points.
    """
    rows = build_profiling_table(points)
    return ProfilingTable(
        table=TABLE,
        printed_model="Llama 2-13B on one A100",
        provenance=dict(provenance),
        rows=rows,
        verdicts=verdicts(TABLE, Run(profiling=points)),
        notes=[*notes, *_notes(rows, points, extrapolated_to)],
        points=list(points),
    )


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


def build_profiling_table(points: Sequence[ProfilingPoint]) -> pd.DataFrame:
    """One row a measured (method, implementation), with the printed numbers of the same method beside.

    ``time_s`` and its phases are seconds, ``memory_gb`` is the peak, ``memory_above_gb`` the part of it above what the
    loaded model took. ``time_vs_impact`` is a multiple of IMPACT's time, of the naive one for a naive row and of ours
    for the others; ``naive_vs_this`` says how many times longer the method's naive form took. ``extrapolated_*`` are
    counted, not measured; ``printed_*`` are the paper's, for its own model and machine.

    Raises:
        ValueError: no point, a point that occurs twice, or points measured under different conditions.
    """
    check_comparable(points, "no profiling was measured: there is no Table 5 to build")
    printed = {str(line["method"]): line for line in printed_table(TABLE).to_dict("records")}
    methods = [*printed, *sorted({point.method for point in points} - printed.keys())]
    times = {(point.method, point.implementation): point.total_seconds for point in points}
    ordered = sorted(points, key=lambda point: methods.index(point.method))
    records = [_record(point, times, printed.get(point.method, {}), printed[_REFERENCE]) for point in ordered]
    table = pd.DataFrame(records)
    texts = ("method", "implementation", "memory_kind")
    return table.astype({name: "float64" for name in table.columns if name not in texts})


def _record(
    point: ProfilingPoint,
    times: Mapping[tuple[str, str], float],
    printed: Mapping[Hashable, Any],
    printed_reference: Mapping[Hashable, Any],
) -> dict[str, object]:
    time = point.total_seconds
    reference = times.get((_REFERENCE, _NAIVE if point.implementation == _NAIVE else "ours"))
    naive = times.get((point.method, _NAIVE))
    hours = printed.get("profiling_time_h")
    return {
        "method": point.method,
        "implementation": point.implementation,
        "time_s": time,
        **{f"{phase}_s": point.seconds.get(phase) for phase in PHASES},
        "time_vs_impact": time / reference if reference else None,
        "naive_vs_this": naive / time if naive else None,
        "memory_gb": point.memory_gb,
        "memory_above_gb": point.memory_gb - point.memory_before_gb,
        "memory_kind": point.memory_kind,
        "extrapolated_time_h": point.extrapolated.hours if point.extrapolated else None,
        "extrapolated_memory_gb": point.extrapolated.memory_gb if point.extrapolated else None,
        "printed_time_h": hours,
        "printed_memory_gb": printed.get("peak_gpu_memory_gb"),
        "printed_time_vs_impact": hours / printed_reference["profiling_time_h"] if hours else None,
    }
