"""The paper's claims one by one: the sentence, what its printed tables give for it, and what a run's measured ones do.

Findings stand beside the claims: facts that the printed numbers show and a reader of them should know. Sentences about
settings (learning rates, batch sizes, shares of calibration data) and about figures without a table are not here: no
printed table can speak to them.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from results.measured.cells import Cell
from results.measured.profiling_points import ProfilingPoint
from results.measured.quantized_cells import QuantizedCell
from results.measured.speed_points import SpeedPoint
from results.numbers.printed import BENCHMARKS, MODELS, PRINTED_MODEL, PrintedNumber, printed_benchmarks
from results.statements.accuracy import COST_STATEMENTS, HEADLINES, QUANTIZED_STATEMENTS, STATEMENTS
from results.statements.accuracy_criteria import Statement
from results.statements.cost_evidence import MeasuredCosts
from results.statements.criteria import Finding, Kind, Outcome, PrintVerdict, Recomputed, Sentence
from results.statements.evidence import Evidence
from results.statements.findings import PRINTED_STATEMENTS, PrintedStatement
from results.statements.quantized_evidence import QuantizedEvidence
from results.statements.verdicts import judge_statement


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
        ValueError: cells of one table or one model do not belong together (`results.measured.cells.grouped`).
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
    for said in (said for table in COST_STATEMENTS.values() for said in table):
        found.append(_claim(said, said.id, "", said.on_print(), said.judge(costs)))
    found += [_recomputed(said) for said in PRINTED_STATEMENTS]
    # the paper's order: abstract, sections, appendices; findings last
    return sorted(found, key=lambda claim: (claim.kind, claim.section != "abstract", claim.section))


def _judged(statement: Statement, number: int, benchmark: str, evidence: Evidence | None) -> Claim:
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
        for statement in QUANTIZED_STATEMENTS
        for benchmark in statement.benchmarks(BENCHMARKS)
    ]


def _recomputed(said: PrintedStatement) -> Claim:
    on_print = said.recompute()
    tables = " and ".join(f"Table {number}" for number in sorted({number.table for number in on_print.rests_on}))
    measured = {
        "claim": f"What it rests on is not measured: {tables}.",
        "finding": "About the printed numbers only.",
    }
    return _claim(said, said.id, said.benchmark, on_print, Finding("not measured", measured[said.kind]))


def _claim(said: Sentence, name: str, benchmark: str, on_print: Recomputed, judged: Finding) -> Claim:
    return Claim(
        id=f"{name}-{benchmark}" if benchmark else name,
        kind=said.kind,
        sentence=said.sentence,
        section=said.section,
        benchmark=benchmark or None,
        rests_on=list(on_print.rests_on),
        printed_verdict=on_print.verdict,
        recomputed=on_print.explanation,
        printed_figures=dict(on_print.figures),
        measured_verdict=judged.verdict,
        measured=judged.explanation,
        measured_figures=dict(judged.figures),
    )
