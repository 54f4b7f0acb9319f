import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

import results.numbers.printed
from results.measured.cells import Cell
from results.numbers.printed import PAPER_TABLES, printed_table
from results.statements import findings as print_findings
from results.statements.reductions import reductions_from_paper
from results.statements.run import Run
from results.statements.sentences import STATEMENTS
from results.statements.verdicts import Claim, claims, verdicts
from results.tables.claims import claims_document

MakeCells = Callable[..., list[Cell]]
SHARED = Path(os.environ.get("IMPACT_SHARED", Path(__file__).parents[3] / "shared"))
PAPER = SHARED / "paper" / "impact.md"


@pytest.fixture(scope="module")
def unmeasured() -> dict[str, Claim]:
    return {claim.id: claim for claim in claims(Run())}


@pytest.fixture
def edit_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, dict[str, object], str, float], None]:
    """Change one printed number, to see what rests on it: the table, the line by its columns, the column, the value."""
    tables = tmp_path / "paper"
    shutil.copytree(PAPER_TABLES, tables)
    monkeypatch.setattr(results.numbers.printed, "PAPER_TABLES", tables)

    def edit(number: int, line: dict[str, object], column: str, value: float) -> None:
        table = pd.read_csv(tables / f"table{number}.csv")
        found = (table[list(line)] == list(line.values())).all(axis=1)
        assert found.sum() == 1
        table.loc[found, column] = value
        table.to_csv(tables / f"table{number}.csv", index=False)
        results.numbers.printed._read.cache_clear()

    return edit


def test_every_claim_is_one_of_its_own(unmeasured: dict[str, Claim]) -> None:
    assert len(unmeasured) == len(claims(Run()))
    assert {statement.sentence for statement in STATEMENTS} == {claim.sentence for claim in unmeasured.values()}


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper's text is not at hand (IMPACT_SHARED)")
def test_sentences_are_the_papers(unmeasured: dict[str, Claim]) -> None:
    def letters(text: str) -> str:
        """Without line ends, hyphens at them and marks of formulas."""
        return re.sub(r"[^a-z0-9%.]", "", text.lower().replace(r"\times", "x").replace(r"\eta", "η"))

    paper = letters(PAPER.read_text(encoding="utf-8"))
    for claim in unmeasured.values():
        if claim.kind == "claim":
            assert letters(claim.sentence) in paper, claim.id


def test_every_number_is_printed_where_it_says(unmeasured: dict[str, Claim]) -> None:
    for claim in unmeasured.values():
        assert claim.rests_on, claim.id
        for number in claim.rests_on:
            table = printed_table(number.table)
            column, _, rest = number.column.partition(" (")
            at: list[tuple[str, object]] = [
                (k, v) for k, v in (("method", number.method), ("row", number.row)) if v is not None
            ]
            at += [tuple(pair.rsplit(" ", 1)) for pair in rest.rstrip(")").split(", ") if pair]  # type: ignore[misc]
            for name, value in at:
                numeric = pd.api.types.is_numeric_dtype(table[name])
                table = table[table[name] == (float(str(value)) if numeric else value)]
            assert table[column].tolist() == [number.value], (claim.id, number)


def test_without_measured_tables_nothing_is_measured(unmeasured: dict[str, Claim]) -> None:
    assert {claim.measured_verdict for claim in unmeasured.values()} == {"not measured"}
    assert not any(claim.measured_figures for claim in unmeasured.values())


@pytest.mark.parametrize(
    ("claim", "verdict", "figures"),
    [
        ("table6-largest_reduction-gsm8k", "follows", {"reduction_pct": 54.9}),
        ("table6-largest_reduction-math", "follows", {"reduction_pct": 31.9}),
        ("table6-abstract_up_to-gsm8k", "follows", {"reduction_pct": 54.9}),
        ("table6-reduction_everywhere-gsm8k", "follows", {"reduction_pct": 49.0}),
        ("table6-reduction_everywhere-math", "does not follow", {"reduction_pct": 39.7}),
        ("table7-largest_reduction-gsm8k", "follows", {"reduction_pct": 39.9}),
        ("table7-largest_reduction-math", "follows", {"reduction_pct": 36.6}),
        ("table7-reduction_above_2.5x-gsm8k", "follows", {}),
        ("table7-reduction_above_2.5x-math", "follows", {"reduction_pct": 37.9}),
        ("table8-largest_reduction-humaneval", "follows", {"reduction_pct": 24.2}),
        ("table8-largest_reduction-mbpp", "follows", {"reduction_pct": 30.9}),
        ("table9-largest_reduction-humaneval", "follows", {"reduction_pct": 18.2}),
        ("table9-largest_reduction-mbpp", "follows", {"reduction_pct": 28.1}),
        ("table6-strongest_baseline-gsm8k", "follows", {"rows": 5}),
        ("table7-strongest_baseline-math", "follows", {"rows": 5}),
        ("throughput", "cannot be derived", {"largest_gsm8k_pct": 48.3, "largest_math_pct": 26.3}),
        ("memory", "cannot be derived", {"largest_gsm8k_pct": -47.3, "largest_math_pct": -26.4}),
        ("8_bit_at_1.19_gb", "follows", {"smallest_margin_points": 2.4}),
        ("profiling_under_two_hours", "follows", {"hours": 1.53}),
        ("problems-mbpp", "follows", {"problems": 378, "numbers_that_fit": 1}),
        ("problems-humaneval", "follows", {"problems": 164, "numbers_that_fit": 3}),
        ("matches_not_by_footnote_2", "follows", {"entries": 1}),
        ("matches_of_rounded_accuracies", "follows", {"rounded_only": 3}),
        ("eta_differs_by_row", "follows", {"rows_found": 3, "different_eta": 2}),
    ],
)
def test_what_the_printed_numbers_give(
    unmeasured: dict[str, Claim], claim: str, verdict: str, figures: dict[str, float]
) -> None:
    """Figures computed once by hand and apart from this code."""
    found = unmeasured[claim]
    assert found.printed_verdict == verdict
    for name, value in figures.items():
        assert found.printed_figures[name] == pytest.approx(value, abs=0.05)


def test_the_rows_with_their_k_and_eta(unmeasured: dict[str, Claim]) -> None:
    text = unmeasured["eta_differs_by_row"].recomputed
    for part in ("3.11 B is k = 70, eta = 0 ", "2.40 B is k = 60, eta = 0.25 ", "1.67 B is k = 50, eta = 0.25 "):
        assert part in text


def test_no_number_of_problems_is_found_where_none_fits() -> None:
    found = print_findings.problems_behind("gsm8k", 100, 499)
    assert found.verdict == "does not follow"
    assert found.figures["numbers_that_fit"] == 0


EditPrint = Callable[[int, dict[str, object], str, float], None]


def test_verdicts_turn_with_the_printed_numbers(edit_print: EditPrint) -> None:
    """Every verdict here is computed: another number in the tables, another verdict."""
    of_costs = {statement.id: statement for statement in STATEMENTS if {14, 5} & {*statement.tables}}
    edit_print(5, {"method": "impact"}, "profiling_time_h", 2.5)
    assert of_costs["profiling_under_two_hours"].on_print().verdict == "does not follow"
    edit_print(8, {"method": "svd", "row": 1}, "mbpp_acc", 54.9)
    assert print_findings.problems_behind("mbpp").verdict == "does not follow"
    edit_print(4, {"keep_pct": 70, "eta": 0}, "math_acc", 19.6)
    found = print_findings.eta_differs_by_row()
    assert found.figures["rows_found"] == 2 and found.verdict == "does not follow"
    edit_print(12, {"benchmark": "humaneval", "impact_size_b": 0.84}, "baseline_size_b", 0.92)
    assert "discrepancy" not in set(reductions_from_paper(12).rows["verdict"])
    edit_print(6, {"method": "asvd", "row": 3}, "math_acc", 17.2)
    (everywhere,) = [s for s in STATEMENTS if s.id == "reduction_everywhere"]
    assert everywhere.on_print("math").verdict == "follows"
    edit_print(14, {"method": "impact", "row": 3}, "throughput_tok_s", 481.0)
    assert of_costs["throughput"].on_print().figures["largest_gsm8k_pct"] == pytest.approx(46.1, abs=0.1)


def test_a_measured_table_is_judged_as_in_its_verdicts(table6_cells: MakeCells) -> None:
    cells = table6_cells(shift={("impact", row): 25.0 for row in range(1, 6)})
    found = {claim.id: claim for claim in claims(Run({6: cells}))}
    for verdict in verdicts(6, Run({6: cells}), ["gsm8k", "math"]):
        name = "-".join(part for part in ("table6", verdict.id, verdict.benchmark) if part)
        assert found[name].measured_verdict == verdict.verdict
        assert found[name].measured == verdict.explanation
        assert found[name].recomputed == verdict.printed
    assert found["table6-abstract_up_to-gsm8k"].measured_verdict == "holds"
    assert found["table6-conclusion_consistently-math"].measured_verdict == "holds"
    others = [claim for claim in found.values() if not claim.id.startswith("table6")]
    assert others and {claim.measured_verdict for claim in others} == {"not measured"}


def test_files_say_the_same(table6_cells: MakeCells, tmp_path: Path) -> None:
    found = claims(Run({6: table6_cells()}))
    claims_document(found, {"command": "./reproduce.sh claims", "preset": "tiny"}).write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["claims.csv", "claims.json", "claims.md"]
    record = json.loads((tmp_path / "claims.json").read_text())
    assert [Claim.model_validate(claim) for claim in record["claims"]] == found
    csv = pd.read_csv(tmp_path / "claims.csv")
    assert list(csv["id"]) == [claim.id for claim in found]
    assert list(csv["measured_verdict"]) == [claim.measured_verdict for claim in found]
    text = (tmp_path / "claims.md").read_text()
    assert "./reproduce.sh claims" in text
    for claim in found:
        for part in (claim.id, claim.sentence, claim.recomputed, claim.measured):
            assert part in text


def test_claims_need_a_command(unmeasured: dict[str, Claim], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="command"):
        claims_document(list(unmeasured.values()), {}).write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [120, 180])
def test_the_terminal_shows_one_line_a_claim(unmeasured: dict[str, Claim], width: int) -> None:
    stream = io.StringIO()
    Console(file=stream, width=width).print(claims_document(list(unmeasured.values()), {}).terminal())
    lines = stream.getvalue().splitlines()
    for claim in unmeasured.values():
        (line,) = [line for line in lines if line.split()[:1] == [claim.id]]
        assert claim.printed_verdict in line and claim.measured_verdict in line
