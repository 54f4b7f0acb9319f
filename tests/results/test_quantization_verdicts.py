"""Section 4.4 on invented cells: every verdict turns when the cells do."""

from collections.abc import Callable

import pytest

from results.measured.quantized_cells import QuantizedCell
from results.numbers.printed import TABLE_MODELS
from results.statements.run import Run
from results.statements.verdicts import Verdict, claims
from results.statements.verdicts import verdicts as verdicts_below

MakeCells = Callable[..., list[QuantizedCell]]
BENCHMARKS = ["gsm8k", "math"]
ALL_ROWS = range(1, 5)


def verdicts(cells: list[QuantizedCell], number: int = 1) -> dict[tuple[str, str | None], Verdict]:
    run = Run(quantized=cells, models=TABLE_MODELS[number], resamples=1000)
    return {(v.id, v.benchmark): v for v in verdicts_below(number, run, BENCHMARKS)}


def impact(points: float) -> dict[tuple[str, int], float]:
    return {("impact", row): points for row in ALL_ROWS}


@pytest.mark.parametrize(("number", "name"), [(1, "8_bit_7b_outperforms"), (2, "8_bit_13b_outperforms")])
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_outperforming_at_the_sizes_of_the_others(
    quantized_cells: MakeCells, number: int, name: str, benchmark: str
) -> None:
    four_bit = quantized_cells(3)
    better = verdicts([*quantized_cells(number, shift=impact(10.0)), *four_bit], number)[name, benchmark]
    assert better.verdict == "holds"
    assert "10 of 10" in better.explanation and "nominal" in better.explanation
    worse = verdicts([*quantized_cells(number, shift=impact(-12.0)), *four_bit], number)[name, benchmark]
    assert worse.verdict == "does not hold"
    few = verdicts([*quantized_cells(number, n=20), *quantized_cells(3, n=20)], number)[name, benchmark]
    assert few.verdict == "cannot be told apart"
    assert {better.printed_verdict, worse.printed_verdict, few.printed_verdict} == {"follows"}


def test_one_better_rival_is_enough_against_it(quantized_cells: MakeCells) -> None:
    cells = [*quantized_cells(shift=impact(5.0) | {("afm", 2): 20.0}), *quantized_cells(3)]
    found = verdicts(cells)["8_bit_7b_outperforms", "gsm8k"]
    assert found.verdict == "does not hold"
    assert "afm row 2" in found.explanation


def test_a_larger_rival_than_all_of_impacts_models_cannot_refute(quantized_cells: MakeCells) -> None:
    """QLoRA is at 3.45 GB in print and IMPACT's largest model at 2.40: a fair comparison has no such pair."""
    cells = [*quantized_cells(shift=impact(10.0)), *quantized_cells(3, shift={("qlora", 1): 30.0})]
    found = verdicts(cells)["8_bit_7b_outperforms", "gsm8k"]
    assert found.verdict == "cannot be told apart"
    assert "qlora" in found.explanation


def test_a_smaller_rival_than_all_of_impacts_models_can_only_refute(quantized_cells: MakeCells) -> None:
    def small(cell: QuantizedCell) -> QuantizedCell:
        tiny = (cell.method, cell.row) == ("afm", 4)
        return cell.model_copy(update={"nominal_bytes": 1_000}) if tiny else cell

    ahead = [*map(small, quantized_cells(shift=impact(10.0))), *quantized_cells(3)]
    behind = [*map(small, quantized_cells(shift=impact(10.0) | {("afm", 4): 30.0})), *quantized_cells(3)]
    assert verdicts(ahead)["8_bit_7b_outperforms", "gsm8k"].verdict == "cannot be told apart"
    assert verdicts(behind)["8_bit_7b_outperforms", "gsm8k"].verdict == "does not hold"


def test_the_example_is_about_four_models(quantized_cells: MakeCells) -> None:
    four_bit = quantized_cells(3)
    key = ("8_bit_at_1.19_gb", None)
    # all other rows are as bad as can be
    others = {(method, row): -90.0 for method in ("impact", "afm") for row in (1, 2, 4)}
    found = verdicts([*quantized_cells(shift=others), *four_bit])[key]
    assert found.verdict == "holds"
    assert found.figures["smallest_difference_points"] == pytest.approx(2.4, abs=0.1)
    assert "6 of 6" in found.explanation
    assert verdicts([*quantized_cells(shift={("impact", 3): -10.0}), *four_bit])[key].verdict == "does not hold"
    assert verdicts([*quantized_cells(shift={("flap", 1): 20.0}), *four_bit])[key].verdict == "does not hold"


def test_the_example_is_about_a_smaller_model(quantized_cells: MakeCells) -> None:
    key = ("8_bit_at_1.19_gb", None)
    for shift, outcome in ((0.0, "cannot be told apart"), (-10.0, "does not hold")):
        cells = [
            c.model_copy(update={"nominal_bytes": 10**6}) if (c.method, c.row) == ("impact", 3) else c
            for c in quantized_cells(shift={("impact", 3): shift})
        ]
        found = verdicts([*cells, *quantized_cells(3)])[key]
        assert found.verdict == outcome
        assert "smaller" in found.explanation


@pytest.mark.parametrize(
    ("dense", "quantized", "outcome"),
    [
        (0.0, 20.0, "holds"),
        (10.0, 20.0, "does not hold"),
        (0.0, 0.0, "does not hold"),
        (1.4, 20.0, "cannot be told apart"),  # one standard error of 66 % over 1,000 problems is 1.5 points
    ],
)
@pytest.mark.parametrize("number", [1, 3])
def test_8_bits_preserve_and_4_degrade(
    quantized_cells: MakeCells, number: int, dense: float, quantized: float, outcome: str
) -> None:
    lost = {"dense": dense, "quantized": quantized}
    cells = [*quantized_cells(1, lost=lost), *quantized_cells(3, lost=lost)]
    found = verdicts(cells, number)["8_bit_preserves", None]
    assert found.verdict == outcome
    assert found.figures["largest_loss_8_bit_points"] == pytest.approx(dense, abs=0.11)
    # Table 3 has the other model too, whose 8-bit one is not there
    assert ("dense of 13b" in found.explanation) == (number == 3)


def test_both_models_are_judged_where_both_are_measured(quantized_cells: MakeCells) -> None:
    key = ("8_bit_preserves", None)
    cells = [*quantized_cells(1), *quantized_cells(2), *quantized_cells(3)]
    found = verdicts(cells, 3)[key]
    assert found.verdict == "holds"
    assert "from the dense 7b" in found.explanation and "from the dense 13b" in found.explanation
    worse = [*quantized_cells(1), *quantized_cells(2, lost={"dense": 10.0}), *quantized_cells(3)]
    assert verdicts(worse, 3)[key].verdict == "does not hold"
    assert verdicts(worse, 1)[key].verdict == "holds"


@pytest.mark.parametrize(
    ("lost", "four_bit", "outcome"),
    [(0.0, 0.0, "holds"), (15.0, 0.0, "does not hold"), (0.0, 30.0, "cannot be told apart")],
)
def test_combining_against_either_alone(quantized_cells: MakeCells, lost: float, four_bit: float, outcome: str) -> None:
    cells = [*quantized_cells(lost={"impact": lost}), *quantized_cells(3, shift={("quantized", 1): four_bit})]
    found = verdicts(cells)["combined_beats_either", None]
    assert found.verdict == outcome
    # 1.67 and 2.40 GB lie above twice the smallest model's 0.75 B, and none above four times that
    assert "of 4 comparisons" in found.explanation
    assert "At 4 bytes a parameter no unquantized model" in found.explanation
    assert set(found.figures) == {"smallest_difference_at_2_bytes_points", "smallest_difference_to_4_bit_points"}


def test_what_is_combined_is_compared_at_the_same_bytes(quantized_cells: MakeCells) -> None:
    """By hand on GSM8K: 59.5 % at 2.40 GB; at 2 bytes 1.19 B are 2.38 GB with 56.8 %, 1.67 B are 3.34 with 57.7 %."""
    cells = [*quantized_cells(n=1000, lost={"impact": 0.0}), *quantized_cells(3, n=1000)]
    gsm8k = [cell.model_copy(update={"benchmarks": {"gsm8k": cell.benchmarks["gsm8k"]}}) for cell in cells]
    combined = verdicts(gsm8k)["combined_beats_either", None]
    between = 56.8 + (2.40 - 2.38) / (3.34 - 2.38) * (57.7 - 56.8)
    assert combined.figures["smallest_difference_at_2_bytes_points"] == pytest.approx(59.5 - between, abs=0.02)


def test_two_widths_that_differ_settle_nothing(quantized_cells: MakeCells) -> None:
    """At 2 bytes row 1 is as large as row 3 unquantized, which is better; at 4 bytes only bad models are so small."""
    cells = [
        c.model_copy(update={"parameters": 10_000, "nominal_bytes": 10_000})
        if (c.method, c.row) == ("impact", 4)
        else c
        for c in (*quantized_cells(shift={("impact", 4): -60.0}, lost={"impact": 10.0}), *quantized_cells(3))
    ]
    found = verdicts(cells)["combined_beats_either", None]
    at = {width: found.figures[f"smallest_difference_at_{width}_bytes_points"] for width in (2, 4)}
    assert at[2] is not None and at[4] is not None and at[2] < -5 < 3 < at[4]
    assert found.verdict == "cannot be told apart"


def test_without_unquantized_models_nothing_is_said_of_what_quantization_takes(quantized_cells: MakeCells) -> None:
    cells = [c.model_copy(update={"unquantized": {}}) for c in (*quantized_cells(), *quantized_cells(3))]
    found = verdicts(cells)
    for name in ("8_bit_preserves", "combined_beats_either"):
        assert found[name, None].verdict == "not measured"
        assert "before quantization" in found[name, None].explanation
    assert found["8_bit_at_1.19_gb", None].verdict == "holds"


def test_without_table_3_nothing_is_measured(quantized_cells: MakeCells) -> None:
    for verdict in verdicts(quantized_cells(lost={"impact": 0.0})).values():
        assert verdict.verdict == "not measured"
        assert "qlora" in verdict.explanation or "quantized" in verdict.explanation
        assert not verdict.figures


@pytest.mark.parametrize("lost", [("impact", 2), ("afm", 3), ("flap", 1)])
def test_incomplete_rows_are_not_measured(quantized_cells: MakeCells, lost: tuple[str, int]) -> None:
    cells = [c for c in (*quantized_cells(), *quantized_cells(3)) if (c.method, c.row) != lost]
    found = verdicts(cells)["8_bit_7b_outperforms", "math"]
    assert found.verdict == "not measured"
    assert f"{lost[0]} row {lost[1]} of 7b on math" in found.explanation


def test_seeds_do_not_narrow_the_intervals(quantized_cells: MakeCells) -> None:
    one = verdicts([*quantized_cells(), *quantized_cells(3)])
    three = verdicts([*quantized_cells(seeds=(0, 1, 2)), *quantized_cells(3, seeds=(0, 1, 2))])
    for key, verdict in one.items():
        assert three[key].figures == pytest.approx(verdict.figures)


def test_claims_are_judged_as_below_the_tables(quantized_cells: MakeCells) -> None:
    cells = [*quantized_cells(shift=impact(10.0)), *quantized_cells(3)]
    found = {claim.id: claim for claim in claims(Run(quantized=cells, resamples=1000))}
    for (name, benchmark), verdict in verdicts(cells).items():
        claim = found[f"{name}-{benchmark}" if benchmark else name]
        assert claim.measured_verdict == verdict.verdict
        assert claim.measured.startswith(verdict.explanation)
        assert claim.recomputed == verdict.printed
    assert found["8_bit_13b_outperforms-gsm8k"].measured_verdict == "not measured"
    assert "7b alone" in found["combined_beats_either"].measured
