"""What measured cells say of the paper's statements about an accuracy table, beside what its printed numbers say."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from results.cells import DENSE, Cell
from results.criteria import Finding, Outcome, Sentence, Statement
from results.evidence import METHOD, Evidence, name_missing
from results.printed import PrintVerdict, Recomputed
from results.statements import STATEMENTS


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
    def of(cls, said: Sentence, benchmark: str | None, finding: Finding, on_print: Recomputed) -> "Verdict":
        """The verdict on a sentence from what the run's points and the printed numbers say of it."""
        return cls(
            id=said.id,
            statement=said.sentence,
            section=said.section,
            benchmark=benchmark,
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
        ValueError: the cells do not belong together (`results.cells.grouped_by_point`).
    """
    evidence = Evidence.measured(cells, resamples=resamples, seed=seed)
    verdicts = []
    for statement in STATEMENTS.get(number, ()):
        for benchmark in statement.benchmarks(benchmarks):
            finding = judge_statement(statement, evidence, number, benchmark)
            verdicts.append(Verdict.of(statement, benchmark, finding, statement.on_print(number, benchmark)))
    return verdicts


def judge_statement(statement: Statement, evidence: Evidence, number: int, benchmark: str | None) -> Finding:
    """What a run's points say of one statement about a printed table.

    It is "not measured" unless all the points it speaks of, the dense model included, were measured.
    """
    spoken_of = {METHOD, *statement.methods} | ({DENSE} if benchmark else set())
    found = evidence.accuracies.get(benchmark, {}) if benchmark else evidence.sizes
    if missing := name_missing(number, found, spoken_of):
        return Finding("not measured", f"This run lacks {missing}.")
    return statement.judge(evidence, benchmark)


def verdict_lines(verdicts: Sequence[Verdict], number: int) -> list[str]:
    """The verdicts of one table as Markdown, under their statements; no line without any."""
    lines = [f"## What this run says of the paper's statements about Table {number}", ""] if verdicts else []
    for statement in dict.fromkeys((v.id, v.statement, v.section) for v in verdicts):
        lines += [f"**{statement[0]}**: “{statement[1]}” ({statement[2]})", ""]
        lines += [
            f"- {f'{v.benchmark}: ' if v.benchmark else ''}**{v.verdict}**. {v.explanation} "
            f"*The same on the printed numbers: {v.printed}*"
            for v in verdicts
            if v.id == statement[0]
        ]
        lines.append("")
    return lines
