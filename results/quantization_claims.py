"""Section 4.4 recomputed: quantization with and without low-rank compression, Tables 1 to 3 against 6 and 7."""

from collections.abc import Mapping

import numpy as np

from results.cells import DENSE
from results.evidence import METHOD
from results.printed import (
    PRINTED_PROBLEMS,
    PrintedNumber,
    PrintVerdict,
    Recomputed,
    adjacent_numbers,
    follows,
    printed_numbers,
    printed_table,
)
from results.printed_curve import PrintedCurve
from results.rounding import PERCENT_HALF_CELL, SIZE_HALF_CELL
from results.statistics import standard_error

BENCHMARKS = ("gsm8k", "math")
# Llama 2-7B and -13B: the table at 8 bits and that at full precision, and the name in Table 3
MODELS: Mapping[str, tuple[int, int, str]] = {
    "7b": (1, 6, "llama-2-7b"),
    "13b": (2, 7, "llama-2-13b"),
}
# the models of each table
TABLE_MODELS: Mapping[int, tuple[str, ...]] = {1: ("7b",), 2: ("13b",), 3: ("7b", "13b")}
# bytes of an unquantized parameter: the paper does not say which
WIDTHS = (2, 4)


def eight_bit_example() -> Recomputed:
    """8-bit IMPACT at 1.19 GB against three larger models, on both benchmarks."""
    columns = [f"{benchmark}_acc" for benchmark in BENCHMARKS]
    own = printed_numbers(1, columns, method=METHOD, model_size_gb=1.19)
    rivals = [
        printed_numbers(1, columns, method="flap", model_size_gb=5.39),
        printed_numbers(1, columns, method="afm", model_size_gb=1.30),
        printed_numbers(3, columns, method="qlora", model_size_gb=3.45),
    ]
    margins = [mine.value - theirs.value for rival in rivals for mine, theirs in zip(own, rival, strict=True)]
    return Recomputed(
        follows(min(margins) > 0),
        f"IMPACT's {own[0].value:g} / {own[1].value:g} % are ahead of each of the three on GSM8K and MATH by "
        f"{min(margins):.1f} to {max(margins):.1f} points.",
        (*own, *(number for rival in rivals for number in rival)),
        {"smallest_margin_points": min(margins)},
    )


def beats_quantized_models(model: str, benchmark: str) -> Recomputed:
    """8-bit IMPACT at the size of every 8-bit FLAP and AFM, 4-bit and QLoRA model, on one benchmark.

    IMPACT's accuracy there is interpolated between its models; at sizes above its largest, that one stands for it.
    """
    number, _, name = MODELS[model]
    column = f"{benchmark}_acc"
    eight, four = printed_table(number), printed_table(3)
    own = PrintedCurve.of(eight, [METHOD], "model_size_gb", column)
    rivals = [
        printed_numbers(number, ["model_size_gb", column], method=str(method), row=int(row))
        for method, row in zip(eight["method"], eight["row"], strict=True)
        if method not in (METHOD, DENSE)
    ] + [
        printed_numbers(3, ["model_size_gb", column], method=str(method), model=name)
        for method in four.loc[four["model"] == name, "method"]
    ]
    margins = [own.at(size.value) - accuracy.value for size, accuracy in rivals]
    least = int(np.argmin(margins))
    size, accuracy = rivals[least]
    text = (
        f"At the sizes of the {len(rivals)} other models IMPACT is ahead of {sum(margin > 0 for margin in margins)}; "
        f"the smallest margin is {margins[least]:+.2f} points, against {size.method} at {size.value:g} GB "
        f"({accuracy.value:g} %){' which rounding alone could turn' if 0 < margins[least] < PERCENT_HALF_CELL else ''}."
    )
    if better := sorted({str(a.method) for _, a in rivals if a.value > own.values[0]}):
        text += (
            f" Its smallest model, {own.sizes[0]:g} GB with {own.values[0]:g} %, is less accurate than larger ones of "
            f"{', '.join(better)}."
        )
    nearest = float(own.sizes[own.sizes <= size.value][-1])
    return Recomputed(
        follows(min(margins) > 0),
        text,
        (
            *printed_numbers(number, ["model_size_gb", column], method=METHOD, model_size_gb=nearest),
            *(size, accuracy),
        ),
        {"smallest_margin_points": margins[least]},
    )


def eight_bits_preserve() -> Recomputed:
    """What 8 and 4 bits take from the dense models, against one standard error of the accuracy."""
    rests_on: list[PrintedNumber] = []
    losses: dict[int, list[float]] = {8: [], 4: []}
    errors: list[float] = []
    for eight, full, name in MODELS.values():
        for benchmark in BENCHMARKS:
            column = [f"{benchmark}_acc"]
            (before,) = printed_numbers(full, column, method=DENSE)
            after = {
                8: printed_numbers(eight, column, method=DENSE)[0],
                4: printed_numbers(3, column, method="quantized", model=name)[0],
            }
            rests_on += [before, *after.values()]
            errors.append(100 * standard_error(before.value / 100, PRINTED_PROBLEMS[benchmark]))
            for bits, number in after.items():
                losses[bits].append(before.value - number.value)
    small = all(loss < error for loss, error in zip(losses[8], errors, strict=True))
    large = all(loss > error for loss, error in zip(losses[4], errors, strict=True))
    return Recomputed(
        follows(small and large),
        f"8 bits take {min(losses[8]):.1f} to {max(losses[8]):.1f} points from the dense models, 4 bits take "
        f"{min(losses[4]):.1f} to {max(losses[4]):.1f}; one standard error is {min(errors):.1f} to {max(errors):.1f}.",
        tuple(rests_on),
        {"largest_loss_8_bit_points": max(losses[8]), "smallest_loss_4_bit_points": min(losses[4])},
    )


def eight_bits_cost_low_rank() -> Recomputed:
    """What 8 bits take from the low-rank models on GSM8K: Tables 1 and 2 against 6 and 7, model by model."""
    rests_on: list[PrintedNumber] = []
    losses: dict[str, list[float]] = {METHOD: [], "afm": []}
    for eight, full, _ in MODELS.values():
        table = printed_table(eight)
        for method, found in losses.items():
            for size in table.loc[table["method"] == method, "model_size_gb"].astype(float):
                (after,) = printed_numbers(eight, ["gsm8k_acc"], method=method, model_size_gb=size)
                (before,) = printed_numbers(full, ["gsm8k_acc"], method=method, model_size_b=size)
                found.append(before.value - after.value)
                rests_on += [before, after]
    dense = eight_bits_preserve().figures["largest_loss_8_bit_points"]
    assert dense is not None
    return Recomputed(
        follows(min(min(found) for found in losses.values()) > dense),
        "On GSM8K 8 bits take "
        + " and ".join(f"{min(found):.1f} to {max(found):.1f} points from {m}'s" for m, found in losses.items())
        + f" models, and at most {dense:.1f} from the dense ones.",
        tuple(rests_on),
        {f"largest_loss_{method}_points": max(found) for method, found in losses.items()},
    )


def combined_beats_either() -> Recomputed:
    """8-bit IMPACT against IMPACT alone at the same number of bytes, for two widths of the unquantized parameters.

    Only where the unquantized models reach down to that size.
    """
    texts: list[str] = []
    behind: dict[int, bool | None] = {}
    rests_on: list[PrintedNumber] = []
    figures: dict[str, float | None] = {}
    for width in WIDTHS:
        margins = _margins_over_unquantized(width)
        behind[width] = any(margin <= 0 for margin, *_ in margins) if margins else None
        if not margins:
            texts.append(f"at {width} bytes a parameter none is so small")
            continue
        worst, eight, full, benchmark, size = min(margins)
        texts.append(
            f"at {width} bytes a parameter the 8-bit model is ahead in {sum(m[0] > 0 for m in margins)} of "
            f"{len(margins)} comparisons, the smallest margin {worst:+.1f} points (Table {eight}, {benchmark}, "
            f"{size:g} GB)"
        )
        figures[f"smallest_margin_at_{width}_bytes_points"] = worst
        accuracy = f"{benchmark}_acc"
        rests_on += printed_numbers(eight, ["model_size_gb", accuracy], method=METHOD, model_size_gb=size)
        rests_on += adjacent_numbers(full, ["model_size_b", accuracy], METHOD, size / width)
    verdict: PrintVerdict = "cannot be derived"
    if len(set(behind.values())) == 1 and None not in behind.values():
        verdict = follows(not any(behind.values()))
    return Recomputed(
        verdict,
        "The paper does not say how many bytes an unquantized parameter has. Against IMPACT without quantization at "
        f"the same number of bytes: {'; '.join(texts)}.",
        tuple(rests_on),
        figures,
    )


def _margins_over_unquantized(width: int) -> list[tuple[float, int, int, str, float]]:
    """(points ahead, both tables, benchmark, size in GB) of each 8-bit model with an unquantized one no larger."""
    margins = []
    for eight, full, _ in MODELS.values():
        alone = printed_table(full)
        alone["model_size_gb"] = width * alone["model_size_b"]
        for benchmark in BENCHMARKS:
            column = f"{benchmark}_acc"
            reference = PrintedCurve.of(alone, [METHOD, DENSE], "model_size_gb", column)
            combined = PrintedCurve.of(printed_table(eight), [METHOD], "model_size_gb", column)
            margins += [
                (float(value) - reference.at(size), eight, full, benchmark, float(size))
                for size, value in zip(combined.sizes, combined.values, strict=True)
                if size >= reference.sizes[0]
            ]
    return margins


def nominal_sizes() -> Recomputed:
    """Sizes in GB of Tables 1 to 3 against the numbers of parameters of Tables 6 and 7."""
    fit: list[bool] = []
    rests_on: list[PrintedNumber] = []
    for eight, full, name in MODELS.values():
        counted, parameters = printed_table(eight), printed_table(full)
        (dense,) = printed_numbers(full, ["model_size_b"], method=DENSE)
        for method in (METHOD, "afm"):
            sizes = set(parameters.loc[parameters["method"] == method, "model_size_b"])
            fit += [size in sizes for size in counted.loc[counted["method"] == method, "model_size_gb"]]
        shares = [
            (printed_numbers(eight, ["model_size_gb"], method="flap", row=row)[0], share)
            for row, share in ((1, 0.8), (2, 0.7), (3, 0.6), (4, 0.5))
        ] + [(printed_numbers(3, ["model_size_gb"], method="quantized", model=name)[0], 0.5)]
        # the printed dense size is itself rounded
        fit += [abs(n.value - share * dense.value) <= SIZE_HALF_CELL * (1 + share) + 1e-9 for n, share in shares]
        rests_on += [dense, *(number for number, _ in shares)]
    return Recomputed(
        follows(all(fit)),
        f"{sum(fit)} of {len(fit)} sizes in GB are numbers of parameters: one byte for every parameter of the 8-bit "
        "low-rank models, 80, 70, 60 and 50 % of the dense model's for FLAP, half a byte at 4 bits. What quantization "
        "leaves in 16 bits or adds in scales is not counted.",
        tuple(rests_on),
        {"sizes": float(len(fit)), "nominal": float(sum(fit))},
    )
