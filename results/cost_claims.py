"""Section 4.5 and appendix B.3 recomputed: throughput and memory (Table 14), the cost of profiling (Table 5)."""

from itertools import pairwise
from typing import TypeVar

import numpy as np

from results.cells import DENSE
from results.evidence import METHOD
from results.printed import (
    PrintedNumber,
    Recomputed,
    adjacent_numbers,
    follows,
    printed_numbers,
    printed_table,
)
from results.printed_curve import PrintedCurve
from results.statistics import FloatArray

Number = TypeVar("Number", float, FloatArray)

COSTS = ("throughput_tok_s", "memory_gb")
OTHERS = ("svd", "fwsvd", "afm")
# Table 14 and the sentences about it are of Llama 2-7B on mathematical reasoning, as Tables 6 and 10 are
BENCHMARKS = ("gsm8k", "math")


def _cost_curve(method: str, column: str) -> PrintedCurve:
    """A method's models and the dense one in Table 14."""
    return PrintedCurve.of(printed_table(14), [method, DENSE], "model_size_b", column)


def change_pct(own: Number, other: Number) -> Number:
    """The change from another cost to one's own, in percent."""
    return 100 * (own / other - 1)


def gain_over_afm(column: str, claim_pct: float) -> Recomputed:
    """The largest change from AFM to IMPACT at equal accuracy in a column of Table 14, in percent, of the claim's sign.

    AFM's value is interpolated in Table 14 at the matched size that Table 10 prints. Besides that, IMPACT is compared
    with the smallest of AFM's own models that is at least as accurate.
    """
    sign = float(np.sign(claim_pct))
    found = [gain for benchmark in BENCHMARKS for gain in _gains_at_matched_sizes(column, benchmark)]
    best = {
        name: max((gain for gain in found if gain[1] == name), key=lambda gain: sign * gain[0]) for name in BENCHMARKS
    }
    own_models = max(_gains_over_own_models(column), key=lambda gain: sign * gain)
    _, benchmark, size, matched = max(best.values(), key=lambda gain: sign * gain[0])
    by_benchmark = " and ".join(f"{gain:+.1f} % on {name} (at {s:g} B)" for gain, name, s, _ in best.values())
    # the claim is printed as a whole number of percent
    reached = any(abs(gain - claim_pct) <= 0.5 for gain, *_ in best.values())
    return Recomputed(
        "follows" if reached else "cannot be derived",
        f"At the matched sizes of Table 10, Table 14 interpolated for AFM gives up to {by_benchmark}; against AFM's "
        f"own models of at least that accuracy up to {own_models:+.1f} %. The text claims {claim_pct:+g} %.",
        (
            *printed_numbers(14, [column], method=METHOD, model_size_b=size),
            *printed_numbers(10, ["baseline_size_b"], benchmark=benchmark, impact_size_b=size),
            *adjacent_numbers(14, [column], "afm", matched),
        ),
        {f"largest_{name}_pct": gain for name, (gain, *_) in best.items()} | {"claim_pct": claim_pct},
    )


def _gains_at_matched_sizes(column: str, benchmark: str) -> list[tuple[float, str, float, float]]:
    """For each IMPACT model the change in percent, the benchmark, its size and the matched size of AFM."""
    afm = _cost_curve("afm", column)
    gains = []
    for size, value in _own_models(column):
        (matched,) = printed_numbers(10, ["baseline_size_b"], benchmark=benchmark, impact_size_b=size)
        gains.append((change_pct(value, afm.at(matched.value)), benchmark, size, matched.value))
    return gains


def _gains_over_own_models(column: str) -> list[float]:
    """The change in percent against AFM's smallest model of at least IMPACT's accuracy, where it has one."""
    table, afm = printed_table(6), _cost_curve("afm", column)
    gains = []
    for benchmark in BENCHMARKS:
        for size, value in _own_models(column):
            (own,) = printed_numbers(6, [f"{benchmark}_acc"], method=METHOD, model_size_b=size)
            enough = (table["method"] == "afm") & (table[f"{benchmark}_acc"] >= own.value)
            if enough.any():
                gains.append(change_pct(value, afm.at(float(table.loc[enough, "model_size_b"].min()))))
    return gains


def _own_models(column: str) -> list[tuple[float, float]]:
    """Sizes and values of IMPACT's models in Table 14."""
    curve = PrintedCurve.of(printed_table(14), [METHOD], "model_size_b", column)
    return [(float(size), float(value)) for size, value in zip(curve.sizes, curve.values, strict=True)]


def larger_is_costlier() -> Recomputed:
    """Within each method of Table 14, throughput falls and memory grows with size, the dense model included."""
    directions = {"throughput_tok_s": -1, "memory_gb": 1}
    broken = [
        f"{method}'s {column}"
        for method in (*OTHERS, METHOD)
        for column, direction in directions.items()
        if any(direction * (b - a) <= 0 for a, b in pairwise(_cost_curve(method, column).values))
    ]
    table = printed_table(14)
    return Recomputed(
        follows(not broken),
        f"Not so for {', '.join(broken)}." if broken else "So for every method of Table 14, without exception.",
        tuple(
            number
            for method, row in zip(table["method"], table["row"], strict=True)
            for number in printed_numbers(14, COSTS, method=str(method), row=int(row))
        ),
    )


def same_size_same_cost() -> Recomputed:
    """IMPACT's throughput and memory against the other methods' interpolated at its own sizes."""
    spans: list[str] = []
    figures: dict[str, float | None] = {}
    rests_on: list[PrintedNumber] = []
    for column in COSTS:
        changes = [
            (change_pct(value, curve.at(size)), method, size)
            for method in OTHERS
            for curve in [_cost_curve(method, column)]
            for size, value in _own_models(column)
            if size >= curve.sizes[0]
        ]
        low, high = min(changes)[0], max(changes)[0]
        _, method, size = max(changes, key=lambda change: abs(change[0]))
        spans.append(f"{column.split('_')[0]} {low:+.1f} to {high:+.1f} % (most against {method} at {size:g} B)")
        figures |= {f"lowest_{column}_pct": low, f"highest_{column}_pct": high}
        rests_on += printed_numbers(14, [column], method=METHOD, model_size_b=size)
        rests_on += adjacent_numbers(14, [column], method, size)
    return Recomputed(
        "cannot be derived",
        f"“Comparable” has no figure. IMPACT against the others interpolated at its sizes: {'; '.join(spans)}.",
        tuple(rests_on),
        figures,
    )


def asvd_not_in_table_14() -> Recomputed:
    """Which of the methods that Figure 8 is said to show have no rows in the table of its exact values."""
    shown = ("svd", "fwsvd", "afm", "asvd", METHOD)
    table = printed_table(14)
    missing = [method for method in shown if method not in set(table["method"])]
    return Recomputed(
        follows(bool(missing)),
        f"Table 14 has rows of {', '.join(dict.fromkeys(table['method']))}, none of {', '.join(missing)}."
        if missing
        else "Table 14 has rows of every method.",
        printed_numbers(14, COSTS, method=DENSE),
    )


def profiling_under_two_hours() -> Recomputed:
    """Table 5's hours for IMPACT against two."""
    (hours,) = printed_numbers(5, ["profiling_time_h"], method=METHOD)
    return Recomputed(
        follows(hours.value < 2),
        f"{hours.value:g} hours for Llama 2-13B on mathematical reasoning; no time is printed for code generation.",
        (hours,),
        {"hours": hours.value},
    )


def profiling_overhead() -> Recomputed:
    """IMPACT's profiling time and peak memory over AFM's, in percent."""
    columns = ["profiling_time_h", "peak_gpu_memory_gb"]
    own, afm = (printed_numbers(5, columns, method=method) for method in (METHOD, "afm"))
    time, memory = (change_pct(mine.value, theirs.value) for mine, theirs in zip(own, afm, strict=True))
    return Recomputed(
        "cannot be derived",
        f"“Modest” has no figure: IMPACT's profiling takes {time:.1f} % more time and {memory:.1f} % more memory.",
        (*own, *afm),
        {"time_pct": time, "memory_pct": memory},
    )


def asvd_orders_of_magnitude() -> Recomputed:
    """ASVD's profiling time over the others', two orders of magnitude to the nearest, at a lower peak memory."""
    columns = ["profiling_time_h", "peak_gpu_memory_gb"]
    asvd, *others = (printed_numbers(5, columns, method=method) for method in ("asvd", METHOD, "afm"))
    ratios = {str(time.method): asvd[0].value / time.value for time, _ in others}
    orders = all(round(float(np.log10(ratio))) >= 2 for ratio in ratios.values())
    lowest = all(asvd[1].value < memory.value for _, memory in others)
    return Recomputed(
        follows(orders and lowest),
        "ASVD's time is "
        + " and ".join(f"{ratio:.0f} times {method}'s" for method, ratio in ratios.items())
        + f"; its peak memory is {asvd[1].value:g} GB against {' and '.join(f'{m.value:g}' for _, m in others)}.",
        (*asvd, *(number for other in others for number in other)),
        {f"times_{method}": ratio for method, ratio in ratios.items()},
    )
