"""What is said of the paper's statements, on a run and on its printed tables: below a table, and in the list of claims.

Findings stand beside the claims: facts that the printed numbers show and a reader of them should know. Sentences about
settings (learning rates, batch sizes, shares of calibration data) and about figures without a table are not here: no
printed table can speak to them.
"""

from collections.abc import Sequence

from pydantic import Field

from results.measured.record import Record
from results.numbers.printed import PrintedNumber
from results.statements.criteria import Kind, Outcome, PrintVerdict
from results.statements.run import Run
from results.statements.sentences import STATEMENTS


class Verdict(Record):
    """What this run says of one statement. ``figures`` are in percent or points and carry their own names.

    ``printed`` and ``printed_verdict`` say what the same computation gives on the paper's printed numbers.
    """

    id: str
    statement: str
    section: str
    benchmark: str | None
    verdict: Outcome
    explanation: str
    printed: str
    printed_verdict: PrintVerdict
    figures: dict[str, float | None] = Field(default_factory=dict)


class Claim(Record):
    """One claim of the paper, or one finding about its numbers, on one benchmark where it speaks of one.

    ``printed_verdict`` and ``recomputed`` say what the printed tables give, resting on the numbers ``rests_on``;
    ``measured_verdict`` and ``measured`` what the measured tables do. Figures carry their unit in their names.
    """

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


def verdicts(table: int, run: Run, benchmarks: Sequence[str] = ()) -> list[Verdict]:
    """Every statement about a table that is no headline, judged on a run, one verdict a benchmark it speaks of.

    Raises:
        ValueError: cells of one table or one model do not belong together (`results.measured.cells.grouped`).
    """
    found = []
    for said in (said for said in STATEMENTS if table in said.tables and not said.headline):
        for benchmark in said.benchmarks(benchmarks):
            judged, on_print = said.judge(run, benchmark), said.on_print(benchmark)
            found.append(
                Verdict(
                    id=said.id,
                    statement=said.sentence,
                    section=said.section,
                    benchmark=benchmark or None,
                    verdict=judged.verdict,
                    explanation=judged.explanation,
                    printed=on_print.explanation,
                    printed_verdict=on_print.verdict,
                    figures=dict(judged.figures),
                )
            )
    return found


def claims(run: Run) -> list[Claim]:
    """Every claim and finding, judged on the printed tables and on a run. Raises as `verdicts`."""
    found = []
    for said in STATEMENTS:
        for benchmark in said.benchmarks():
            judged, on_print = said.judge(run, benchmark), said.on_print(benchmark)
            found.append(
                Claim(
                    id=f"{said.name}-{benchmark}" if benchmark else said.name,
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
            )
    # the paper's order: abstract, sections, appendices; findings last
    return sorted(found, key=lambda claim: (claim.kind, claim.section != "abstract", claim.section))
