"""The paper's claims one by one: the sentence, what its printed tables give for it, and what a run's measured ones do.

Findings stand beside the claims: facts that the printed numbers show and a reader of them should know. Sentences about
settings (learning rates, batch sizes, shares of calibration data) and about figures without a table are not here: no
printed table can speak to them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ConfigDict

from results import cost_claims, print_findings, quantization_claims
from results.cells import Cell
from results.cost_verdicts import COST_CLAIMS, MeasuredCosts
from results.criteria import Finding, Kind, Outcome, Sentence, Statement
from results.evidence import Evidence
from results.printed import PRINTED_MODEL, PrintedNumber, PrintVerdict, Recomputed, printed_benchmarks
from results.profiling import ProfilingPoint
from results.quantization_claims import BENCHMARKS, MODELS
from results.quantization_criteria import QuantizedEvidence
from results.quantization_verdicts import QUANTIZATION_STATEMENTS
from results.quantized_cells import QuantizedCell
from results.speed import SpeedPoint
from results.statements import HEADLINES, STATEMENTS
from results.verdicts import judge_statement


class Claim(BaseModel):
    """One claim of the paper, or one finding about its numbers, on one benchmark where it speaks of one.

    ``printed_verdict`` and ``recomputed`` say what the printed tables give, resting on the numbers ``rests_on``;
    ``measured_verdict`` and ``measured`` what the measured tables do. Figures carry their unit in their names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    kind: Kind
    sentence: str
    section: str
    benchmark: str | None
    rests_on: list[PrintedNumber]
    printed_verdict: PrintVerdict
    recomputed: str
    printed_figures: dict[str, float | None]
    measured_verdict: Outcome
    measured: str
    measured_figures: dict[str, float | None]


@dataclass(frozen=True)
class PrintedClaim:
    """A sentence that only printed numbers can speak to in this harness, and the function that recomputes it."""

    id: str
    kind: Kind
    section: str
    sentence: str
    recompute: Callable[[], Recomputed]
    benchmark: str | None = None


PRINTED_CLAIMS: tuple[PrintedClaim, ...] = (
    PrintedClaim(
        "eta_is_stable",
        "claim",
        "B.2",
        "performance remains relatively stable across this range. In particular, moderate values of η generally "
        "achieve strong results across both GSM8K and MATH.",
        print_findings.eta_is_stable,
    ),
    PrintedClaim(
        "eta_differs_by_row",
        "finding",
        "Tables 4 and 6",
        "IMPACT's rows of Table 6 were made with different eta.",
        print_findings.eta_differs_by_row,
    ),
    *(
        PrintedClaim(
            "problems",
            "finding",
            "Tables 8 and 9",
            f"How many problems {benchmark} accuracies are counts of.",
            partial(print_findings.problems_behind, benchmark),
            benchmark,
        )
        for benchmark in ("humaneval", "mbpp")
    ),
    PrintedClaim(
        "matches_not_by_footnote_2",
        "finding",
        "Tables 10 to 13",
        "Printed size reductions that footnote 2 does not give.",
        print_findings.matches_not_by_footnote_2,
    ),
    PrintedClaim(
        "matches_of_rounded_accuracies",
        "finding",
        "Tables 10 to 13",
        "Printed size reductions that come from rounded accuracies, not from counts of solved problems.",
        print_findings.matches_of_rounded_accuracies,
    ),
    PrintedClaim(
        "what_the_headline_counts",
        "finding",
        "Tables 6 and 10",
        "The reductions are from the baseline's size at the same accuracy, not differences of reductions from the "
        "dense model.",
        print_findings.what_the_headline_counts,
    ),
    PrintedClaim(
        "headline_sampling_error",
        "finding",
        "Table 6",
        "How far the largest reduction moves with the sampling of the problems.",
        print_findings.headline_sampling_error,
    ),
    PrintedClaim(
        "8_bit_costs_low_rank",
        "finding",
        "Tables 1, 2, 6 and 7",
        "8 bits cost the low-rank models more accuracy than the dense ones.",
        quantization_claims.eight_bits_cost_low_rank,
    ),
    PrintedClaim(
        "nominal_sizes",
        "finding",
        "Tables 1 to 3",
        "Sizes of quantized and pruned models are nominal.",
        quantization_claims.nominal_sizes,
    ),
    PrintedClaim(
        "asvd_not_in_table_14",
        "finding",
        "Table 14",
        "Figure 8 is said to show ASVD; the table of its exact values has none.",
        cost_claims.asvd_not_in_table_14,
    ),
)


def claims(
    measured: Mapping[int, Sequence[Cell]],
    quantized: Sequence[QuantizedCell] = (),
    speed: Sequence[SpeedPoint] = (),
    profiling: Sequence[ProfilingPoint] = (),
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Claim]:
    """Every claim and finding, judged on the printed tables and on the measured ones.

    Args:
        measured: the cells of measured tables by the number of the printed one, 6 to 9.
        quantized: the cells of measured Tables 1 to 3 together.
        speed, profiling: the points of measured Tables 14 and 5. A claim about any other table is "not measured".
        resamples, seed: of the bootstrap over problems.

    Raises:
        ValueError: cells of one table or one model do not belong together (`results.cells.grouped`).
    """
    found = []
    for number in PRINTED_MODEL:
        cells = measured.get(number, ())
        evidence = Evidence.measured(cells, resamples=resamples, seed=seed) if cells else None
        for statement in (*HEADLINES[number], *STATEMENTS[number]):
            found += [
                _judged(statement, number, benchmark, evidence)
                for benchmark in statement.benchmarks(printed_benchmarks(number))
            ]
    found += _quantized(quantized, resamples, seed)
    costs = MeasuredCosts(speed, profiling, measured.get(6, ()))
    found += [_claim(claim, claim.id, None, claim.recompute(), claim.judge(costs)) for claim in COST_CLAIMS]
    found += [_recomputed(claim) for claim in PRINTED_CLAIMS]
    # the paper's order: abstract, sections, appendices; findings last
    return sorted(found, key=lambda claim: (claim.kind, claim.section != "abstract", claim.section))


def _judged(statement: Statement, number: int, benchmark: str | None, evidence: Evidence | None) -> Claim:
    judged = (
        judge_statement(statement, evidence, number, benchmark)
        if evidence
        else Finding("not measured", f"Table {number} is not measured.")
    )
    return _claim(statement, f"table{number}-{statement.id}", benchmark, statement.on_print(number, benchmark), judged)


def _quantized(cells: Sequence[QuantizedCell], resamples: int, seed: int) -> list[Claim]:
    evidence = [QuantizedEvidence.measured(cells, model, resamples=resamples, seed=seed) for model in MODELS]
    measured = [name for name in BENCHMARKS if any(name in one.problems for one in evidence)] or BENCHMARKS
    return [
        _claim(
            statement,
            statement.id,
            benchmark,
            statement.on_print(benchmark),
            statement.judge(evidence, [benchmark] if benchmark else measured),
        )
        for statement in QUANTIZATION_STATEMENTS
        for benchmark in statement.benchmarks(BENCHMARKS)
    ]


def _recomputed(claim: PrintedClaim) -> Claim:
    on_print = claim.recompute()
    tables = " and ".join(f"Table {number}" for number in sorted({number.table for number in on_print.rests_on}))
    measured = {
        "claim": f"What it rests on is not measured: {tables}.",
        "finding": "About the printed numbers only.",
    }
    return _claim(claim, claim.id, claim.benchmark, on_print, Finding("not measured", measured[claim.kind]))


def _claim(
    said: Sentence | PrintedClaim, name: str, benchmark: str | None, on_print: Recomputed, judged: Finding
) -> Claim:
    return Claim(
        id=f"{name}-{benchmark}" if benchmark else name,
        kind=said.kind,
        sentence=said.sentence,
        section=said.section,
        benchmark=benchmark,
        rests_on=list(on_print.rests_on),
        printed_verdict=on_print.verdict,
        recomputed=on_print.explanation,
        printed_figures=dict(on_print.figures),
        measured_verdict=judged.verdict,
        measured=judged.explanation,
        measured_figures=dict(judged.figures),
    )
