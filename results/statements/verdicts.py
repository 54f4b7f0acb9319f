"""What a run says of the paper's statements about a table, beside what its printed numbers say."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from results.measured.cells import DENSE, Cell
from results.measured.quantized_cells import QuantizedCell
from results.numbers.paper import METHOD
from results.numbers.printed import TABLE_MODELS
from results.statements.accuracy import COST_STATEMENTS, QUANTIZED_STATEMENTS, STATEMENTS
from results.statements.accuracy_criteria import Statement
from results.statements.cost_evidence import MeasuredCosts
from results.statements.criteria import Finding, Outcome, PrintVerdict, Recomputed, Sentence
from results.statements.evidence import Evidence, name_missing
from results.statements.quantized_evidence import QuantizedEvidence


class Verdict(BaseModel):
    """What this run says of one statement. ``figures`` are in percent or points and carry their own names.

    ``printed`` and ``printed_verdict`` say what the same computation gives on the paper's printed numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    statement: str
    section: str
    benchmark: str | None
    verdict: Outcome
    explanation: str
    printed: str
    printed_verdict: PrintVerdict
    figures: dict[str, float | None] = {}

    @classmethod
    def of(cls, said: Sentence, benchmark: str, finding: Finding, on_print: Recomputed) -> "Verdict":
        """The verdict on a sentence from what the run's points and the printed numbers say of it."""
        return cls(
            id=said.id,
            statement=said.sentence,
            section=said.section,
            benchmark=benchmark or None,
            verdict=finding.verdict,
            explanation=finding.explanation,
            printed=on_print.explanation,
            printed_verdict=on_print.verdict,
            figures=dict(finding.figures),
        )


def judge(
    cells: Sequence[Cell], number: int, benchmarks: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> list[Verdict]:
    """Every statement about one of Tables 6-9, judged on the measured cells, one verdict a benchmark it speaks of.

    Args:
        resamples, seed: of the bootstrap over problems.

    Raises:
        ValueError: the cells do not belong together (`results.measured.cells.grouped_by_point`).
    """
    evidence = Evidence.measured(cells, resamples=resamples, seed=seed)
    verdicts = []
    for statement in STATEMENTS.get(number, ()):
        for benchmark in statement.benchmarks(benchmarks):
            finding = judge_statement(statement, evidence, number, benchmark)
            verdicts.append(Verdict.of(statement, benchmark, finding, statement.on_print(number, benchmark)))
    return verdicts


def judge_statement(statement: Statement, evidence: Evidence, number: int, benchmark: str) -> Finding:
    """What a run's points say of one statement about a printed table.

    It is "not measured" unless all the points it speaks of, the dense model included, were measured.
    """
    spoken_of = {METHOD, *statement.methods} | ({DENSE} if benchmark else set())
    found = evidence.values.get(benchmark, {}) if benchmark else evidence.sizes
    if missing := name_missing(number, found, spoken_of):
        return Finding("not measured", f"This run lacks {missing}.")
    return statement.judge(evidence, benchmark)


def judge_quantization(
    cells: Sequence[QuantizedCell], number: int, benchmarks: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> list[Verdict]:
    """Every statement shown below Table 1, 2 or 3, judged on the measured cells of all three.

    Args:
        resamples, seed: of the bootstrap over problems.

    Raises:
        ValueError: the cells do not belong together (`results.measured.quantized_cells.grouped_by_model`).
    """
    evidence = [
        QuantizedEvidence.measured(cells, model, resamples=resamples, seed=seed) for model in TABLE_MODELS[number]
    ]
    verdicts = []
    for statement in QUANTIZED_STATEMENTS:
        for benchmark in statement.benchmarks(benchmarks) if number in statement.tables else ():
            finding = statement.judge(evidence, [benchmark] if benchmark else benchmarks)
            verdicts.append(Verdict.of(statement, benchmark, finding, statement.on_print(benchmark)))
    return verdicts


def judge_costs(number: int, costs: MeasuredCosts) -> list[Verdict]:
    """Every sentence about Table 5 or 14, judged on a run's costs."""
    return [Verdict.of(said, "", said.judge(costs), said.on_print()) for said in COST_STATEMENTS[number]]
