"""What the printed tables show beyond what the text says of them, recomputed from their numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd

from results.measured.cells import DENSE
from results.numbers.matching import matched_size
from results.numbers.paper import BASELINES, METHOD
from results.numbers.printed import (
    BENCHMARKS,
    DERIVED_TABLE,
    MODELS,
    PRINTED_MODEL,
    PRINTED_PROBLEMS,
    PrintedNumber,
    printed_benchmarks,
    printed_numbers,
    printed_table,
)
from results.numbers.rounding import (
    SIZE_HALF_CELL,
    counts_printed_so,
    printed_points,
    printed_reductions,
    reduction_follows,
    reduction_pct,
)
from results.numbers.statistics import standard_error
from results.statements.criteria import Finding, Kind, Recomputed, follows
from results.statements.quantized_evidence import FOUR_BIT, QuantizedEvidence, cited
from results.statements.reductions import COUNTED, ROUNDED, ReductionTable, reductions_from_paper
from results.statements.run import Run
from results.statements.statement import Statement

Recompute = Callable[[], Recomputed]
_ACCURACIES = [f"{benchmark}_acc" for benchmark in BENCHMARKS]


@dataclass(frozen=True, kw_only=True)
class PrintedStatement(Statement):
    """A sentence that only printed numbers can speak to in this harness, and the function that recomputes it."""

    recompute: Recompute
    kind: Kind = "finding"
    benchmark: str = ""

    def benchmarks(self, measured: Sequence[str] | None = None) -> Sequence[str]:
        return (self.benchmark,)

    def judge(self, run: Run, benchmark: str = "") -> Finding:
        if self.kind == "finding":
            return Finding("not measured", "About the printed numbers only.")
        tables = sorted({number.table for number in self.on_print().rests_on})
        where = " and ".join(f"Table {table}" for table in tables)
        return Finding("not measured", f"What it rests on is not measured: {where}.")

    def on_print(self, benchmark: str = "") -> Recomputed:
        return self.recompute()


FINDINGS: list[PrintedStatement] = []


def _recomputes(
    section: str, sentence: str, kind: Kind = "finding", name: str = ""
) -> Callable[[Recompute], Recompute]:
    """Adds the sentence to `FINDINGS`, under the name of the function that recomputes it if it has no other."""

    def add(recompute: Recompute) -> Recompute:
        said = PrintedStatement(name or recompute.__name__, section, sentence, kind=kind, recompute=recompute)
        FINDINGS.append(said)
        return recompute

    return add


@_recomputes(
    "B.2",
    "performance remains relatively stable across this range. In particular, moderate values of η generally achieve "
    "strong results across both GSM8K and MATH.",
    kind="claim",
)
def eta_is_stable() -> Recomputed:
    """Table 4: the spread over eta at each k, and which eta is best."""
    table = printed_table(4)
    spreads: dict[str, float] = {}
    best: list[float] = []
    best_means: list[str] = []
    rests_on: list[PrintedNumber] = []
    for benchmark, column in zip(BENCHMARKS, _ACCURACIES, strict=True):
        by_k = table.pivot(index="keep_pct", columns="eta", values=column)
        spread = by_k.max(axis=1) - by_k.min(axis=1)
        widest = by_k.iloc[spread.argmax()]
        spreads[benchmark] = float(spread.max())
        best_means.append(f"{by_k.mean().idxmax():g} on {benchmark}")
        best += by_k.idxmax(axis=1).tolist()
        for eta in (widest.idxmin(), widest.idxmax()):
            rests_on += printed_numbers(4, [column], keep_pct=widest.name, eta=eta)
    return Recomputed(
        "cannot be derived",
        "Neither “stable” nor “moderate” has a figure. Over the four eta, accuracy at one k spreads by up to "
        + " and ".join(f"{spread:.1f} points on {name}" for name, spread in spreads.items())
        + f"; eta .25 or .5 is best in {sum(eta in (0.25, 0.5) for eta in best)} of {len(best)} columns, and the best "
        + f"mean over k is at eta {' and '.join(best_means)}.",
        tuple(rests_on),
        {f"largest_spread_{name}_points": spread for name, spread in spreads.items()},
    )


@_recomputes("Tables 4 and 6", "IMPACT's rows of Table 6 were made with different eta.")
def eta_differs_by_row() -> Recomputed:
    """Which k and eta of Table 4 have both accuracies of an IMPACT row of Table 6."""
    ablation, main = printed_table(4), printed_table(6)
    ranks = ablation.groupby("keep_pct")[_ACCURACIES].rank(ascending=False, method="min").astype(int)
    ablation[["on_gsm8k", "on_math"]] = ranks
    found = main[main["method"] == METHOD].merge(ablation, on=_ACCURACIES)
    texts = []
    rests_on: list[PrintedNumber] = []
    for line in found.to_dict("records"):
        texts.append(
            f"{line['model_size_b']:.2f} B is k = {line['keep_pct']}, eta = {line['eta']:g} (of the four eta number "
            f"{line['on_gsm8k']} on GSM8K and {line['on_math']} on MATH)"
        )
        rests_on += printed_numbers(6, _ACCURACIES, method=METHOD, row=line["row"])
        rests_on += printed_numbers(4, _ACCURACIES, keep_pct=line["keep_pct"], eta=line["eta"])
    etas = found["eta"].nunique()
    return Recomputed(
        follows(found["row"].is_unique and etas > 1),
        f"Both accuracies of {len(texts)} rows of Table 6 are found in Table 4, once each: {'; '.join(texts)}. So no "
        "one eta gives the table: eta was chosen row by row, and the accuracies printed to choose by are those on the "
        "test sets.",
        tuple(rests_on),
        {"rows_found": float(len(texts)), "different_eta": float(etas)},
    )


def problems_behind(benchmark: str, least: int = 100, most: int = 499) -> Recomputed:
    """The numbers of problems, from ``least`` to ``most``, of which every printed accuracy is a whole count."""
    numbers = [
        number
        for table in PRINTED_MODEL
        if benchmark in printed_benchmarks(table)
        for method, row in printed_table(table)[["method", "row"]].itertuples(index=False, name=None)
        for number in printed_numbers(table, [f"{benchmark}_acc"], method=method, row=row)
    ]
    values = np.array([number.value for number in numbers])

    def fits(n: int) -> bool:
        few, many = counts_printed_so(values, n)
        return bool((few <= many).all())

    sizes = [n for n in range(least, most + 1) if fits(n)]
    smallest = next((n for n in range(1, most + 1) if fits(n)), 0)
    used = PRINTED_PROBLEMS[benchmark]
    return Recomputed(
        follows(smallest == used and all(n % used == 0 for n in sizes)),
        f"All {len(values)} printed {benchmark} accuracies ({len(set(values))} different ones) are whole counts of "
        f"{' or '.join(map(str, sizes))} problems, and of no other number from {least} to {most}; the smallest number "
        f"of all that they fit is {smallest}.",
        tuple(numbers),
        {"problems": float(smallest), "numbers_that_fit": float(len(sizes))},
    )


FINDINGS += [
    PrintedStatement(
        "problems",
        "Tables 8 and 9",
        f"How many problems {benchmark} accuracies are counts of.",
        recompute=partial(problems_behind, benchmark),
        benchmark=benchmark,
    )
    for benchmark in ("humaneval", "mbpp")
]


@cache
def _tables() -> tuple[ReductionTable, ...]:
    return tuple(reductions_from_paper(number) for number in DERIVED_TABLE.values())


def _entries(column: str, value: str) -> list[tuple[int, pd.Series]]:
    """The entries of Tables 10-13 with a value in a column, each with its table's number."""
    return [(t.number, row) for t in _tables() for _, row in t.rows[t.rows[column] == value].iterrows()]


def _entry_numbers(entries: list[tuple[int, pd.Series]]) -> tuple[PrintedNumber, ...]:
    return tuple(
        number
        for table, row in entries
        for number in printed_numbers(
            table,
            ["baseline_size_b", "size_reduction_pct"],
            benchmark=str(row["benchmark"]),
            impact_size_b=float(row["impact_size_b"]),
        )
    )


@_recomputes("Tables 10 to 13", "Printed size reductions that footnote 2 does not give.")
def matches_not_by_footnote_2() -> Recomputed:
    """The entries of Tables 10-13 that footnote 2 does not give on the printed numbers."""
    odd = _entries("verdict", "discrepancy")
    notes = [note for table in _tables() for note in table.notes if note.startswith("Discrepancy")]
    return Recomputed(
        follows(bool(odd)),
        f"{len(odd)} of {sum(len(table.rows) for table in _tables())} entries. {' '.join(notes)}",
        _entry_numbers(odd),
        {"entries": float(len(odd))},
    )


@_recomputes(
    "Tables 10 to 13", "Printed size reductions that come from rounded accuracies, not from counts of solved problems."
)
def matches_of_rounded_accuracies() -> Recomputed:
    """The entries of Tables 10-13 whose size follows from the rounded accuracies but not from counts of problems."""
    found, others = _entries("agrees_with", ROUNDED), _entries("agrees_with", COUNTED)
    entries = "; ".join(
        f"Table {table}, {row['benchmark']}, {row['impact_size_b']:.2f} B: printed "
        f"{row['printed_baseline_size_b']:.2f}, by rounded accuracies {row['baseline_size_b']:.3f}, by counts "
        f"{row['counted_low_b']:.3f} to {row['counted_high_b']:.3f}"
        for table, row in found
    )
    where = " and ".join(str(table) for table in sorted({table for table, _ in others}))
    return Recomputed(
        follows(bool(found)),
        f"{len(found)} entries: {entries}. {len(others)} others, in Tables {where}, follow from counts of problems "
        "and not from the rounded accuracies: the tables were not all computed in one way.",
        _entry_numbers(found),
        {"rounded_only": float(len(found)), "counts_only": float(len(others))},
    )


@_recomputes(
    "Tables 6 and 10",
    "The reductions are from the baseline's size at the same accuracy, not differences of reductions from the dense "
    "model.",
)
def what_the_headline_counts() -> Recomputed:
    """The headline reduction beside what the two models save from the dense model, which its wording suggests."""
    entry = max(printed_reductions(6, "gsm8k", BASELINES), key=lambda e: e.reduction_pct)
    own, baseline, said = printed_numbers(
        10, ["impact_size_b", "baseline_size_b", "size_reduction_pct"], benchmark="gsm8k", impact_size_b=entry.size
    )
    (dense,) = printed_numbers(6, ["model_size_b"], method=DENSE)
    mine, theirs = reduction_pct(own.value, dense.value), reduction_pct(baseline.value, dense.value)
    return Recomputed(
        follows(reduction_follows(own.value, baseline.value, said.value)),
        f"“{said.value:g}% greater size reduction” is 1 - {own.value:g}/{baseline.value:g}: IMPACT's model against the "
        f"baseline's. From the dense model the two reduce by {mine:.1f} % and {theirs:.1f} %, {mine - theirs:.1f} "
        "points apart.",
        (own, baseline, said, dense),
        {"impact_from_dense_pct": mine, "baseline_from_dense_pct": theirs},
    )


@_recomputes("Table 6", "How far the largest reduction moves with the sampling of the problems.")
def headline_sampling_error() -> Recomputed:
    """The headline reduction when IMPACT's accuracy moves by one standard error, all else as printed."""
    entry = max(printed_reductions(6, "gsm8k", BASELINES), key=lambda e: e.reduction_pct)
    n = PRINTED_PROBLEMS["gsm8k"]
    error = float(100 * standard_error(entry.accuracy / 100, n))
    points = printed_points(6, "gsm8k", BASELINES)
    matches = [matched_size(points, entry.accuracy + shift) for shift in (-error, error)]
    low, high = (np.nan if match is None else reduction_pct(entry.size, match.size) for match in matches)
    return Recomputed(
        follows(low < entry.reduction_pct < high),
        f"IMPACT's {entry.accuracy:g} % of {n} problems has a standard error of {error:.1f} points. One of them less "
        f"or more makes the reduction {low:.1f} % or {high:.1f} % instead of {entry.reduction_pct:.1f} %.",
        printed_numbers(6, ["model_size_b", "gsm8k_acc"], method=METHOD, row=entry.row),
        {"low_pct": low, "high_pct": high, "standard_error_points": error},
    )


@_recomputes(
    "Tables 1, 2, 6 and 7",
    "8 bits cost the low-rank models more accuracy than the dense ones.",
    name="8_bit_costs_low_rank",
)
def eight_bits_cost_low_rank() -> Recomputed:
    """What 8 bits take from the low-rank models on GSM8K, model by model, and from the dense ones on any benchmark."""
    rests_on: list[PrintedNumber] = []
    losses: dict[str, list[float]] = {METHOD: [], "afm": [], DENSE: []}
    for model in MODELS:
        one = QuantizedEvidence.printed(model)
        for method, found in losses.items():
            for benchmark in BENCHMARKS if method == DENSE else BENCHMARKS[:1]:
                for point in (point for point in one.after.sizes if point[0] == method):
                    found.append(float((one.before.values[benchmark][point] - one.after.values[benchmark][point])[0]))
                    for before in (True, False) if method != DENSE else ():
                        rests_on += cited(model, point, [f"{benchmark}_acc"], before=before)
    dense = max(losses.pop(DENSE))
    return Recomputed(
        follows(min(min(found) for found in losses.values()) > dense),
        "On GSM8K 8 bits take "
        + " and ".join(f"{min(found):.1f} to {max(found):.1f} points from {m}'s" for m, found in losses.items())
        + f" models, and at most {dense:.1f} from the dense ones.",
        tuple(rests_on),
        {f"largest_loss_{method}_points": max(found) for method, found in losses.items()},
    )


@_recomputes("Tables 1 to 3", "Sizes of quantized and pruned models are nominal.")
def nominal_sizes() -> Recomputed:
    """Sizes in GB of Tables 1 to 3 against the numbers of parameters of Tables 6 and 7."""
    fit: list[bool] = []
    rests_on: list[PrintedNumber] = []
    for model, (_, full, _) in MODELS.items():
        one = QuantizedEvidence.printed(model)
        (dense,) = printed_numbers(full, ["model_size_b"], method=DENSE)
        low_rank = [point for point in one.after.sizes if point[0] in (METHOD, "afm")]
        fit += [one.after.sizes[point] == one.before.sizes[point] for point in low_rank]
        shares = {("flap", 1): 0.8, ("flap", 2): 0.7, ("flap", 3): 0.6, ("flap", 4): 0.5, FOUR_BIT[0]: 0.5}
        numbers = [number for point in shares for number in cited(model, point, ["model_size_gb"])]
        # the printed dense size is itself rounded
        fit += [
            abs(number.value - share * dense.value) <= SIZE_HALF_CELL * (1 + share) + 1e-9
            for number, share in zip(numbers, shares.values(), strict=True)
        ]
        rests_on += [dense, *numbers]
    return Recomputed(
        follows(all(fit)),
        f"{sum(fit)} of {len(fit)} sizes in GB are numbers of parameters: one byte for every parameter of the 8-bit "
        "low-rank models, 80, 70, 60 and 50 % of the dense model's for FLAP, half a byte at 4 bits. What quantization "
        "leaves in 16 bits or adds in scales is not counted.",
        tuple(rests_on),
        {"sizes": float(len(fit)), "nominal": float(sum(fit))},
    )


@_recomputes("Table 14", "Figure 8 is said to show ASVD; the table of its exact values has none.")
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
        printed_numbers(14, ["throughput_tok_s", "memory_gb"], method=DENSE),
    )
