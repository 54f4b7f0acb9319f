"""Kinds of statement about quantized models: what must be true of their accuracies for a sentence of section 4.4.

Printed and measured models are compared by the same code; what is told of it differs.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from results.measured.cells import DENSE
from results.measured.quantized_cells import QLORA, QUANTIZED
from results.numbers.paper import METHOD
from results.numbers.printed import BENCHMARKS, MODELS, TABLE_MODELS, PrintedNumber, adjacent_numbers, printed_numbers
from results.numbers.rounding import PERCENT_HALF_CELL
from results.numbers.shown import shown_size
from results.numbers.statistics import FloatArray, percentile_interval, standard_error
from results.statements.criteria import Comparison, Finding, PrintVerdict, Recomputed, agreed, all_ahead, follows
from results.statements.evidence import Point
from results.statements.quantized_evidence import (
    FOUR_BIT,
    AtSize,
    Models,
    QuantizedEvidence,
    at_same_bytes,
    at_sizes_of,
    cited,
    points_in_print,
)
from results.statements.run import Run
from results.statements.statement import Statement

_RIVALS = ("flap", "afm", QUANTIZED, QLORA)
# what quantization alone makes of the dense model, in 8 and in 4 bits
_DENSE_QUANTIZED: tuple[Point, ...] = ((DENSE, 0), FOUR_BIT[0])


@dataclass(frozen=True, kw_only=True)
class QuantizedStatement(Statement, ABC):
    """A sentence about the quantized models of its ``tables``."""

    @property
    def models(self) -> list[str]:
        """Those that it speaks of."""
        return [model for model in MODELS if any(model in TABLE_MODELS[table] for table in self.tables)]

    def judge(self, run: Run, benchmark: str = "") -> Finding:
        """What a run says, on those models of which everything was measured that the sentence speaks of."""
        benchmarks = [benchmark] if benchmark else run.quantized_benchmarks
        spoken_of = [one for one in run.quantized_models if one.model in self.models]
        lacking = {one.model: one.lacking(*self._needed(one.model), benchmarks) for one in spoken_of}
        complete = [one for one in spoken_of if not lacking[one.model]]
        absent = "; ".join(text for text in lacking.values() if text)
        if not complete:
            return Finding("not measured", f"This run lacks {absent}.")
        finding = self._measured(complete, benchmarks)
        judged = " and ".join(one.model for one in complete)
        rest = f" Judged on {judged} alone: this run lacks {absent}." if absent else ""
        return replace(finding, explanation=finding.explanation + rest)

    def on_print(self, benchmark: str = "") -> Recomputed:
        evidence = [QuantizedEvidence.printed(model) for model in self.models]
        return self._printed(evidence, [benchmark] if benchmark else BENCHMARKS)

    @abstractmethod
    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        """The points that it speaks of, after and before quantization."""

    @abstractmethod
    def _measured(self, evidence: Models, benchmarks: Sequence[str]) -> Finding:
        """What complete evidence of a run says."""

    @abstractmethod
    def _printed(self, evidence: Models, benchmarks: Sequence[str]) -> Recomputed:
        """What the printed evidence says."""


def _worst(comparisons: Sequence[AtSize]) -> AtSize:
    return min(comparisons, key=lambda c: c.difference)


def _ahead(comparisons: Sequence[AtSize]) -> int:
    return sum(c.difference > 0 for c in comparisons)


def _all_ahead(comparisons: Sequence[AtSize], where: str) -> Finding:
    found, worst = all_ahead(comparisons), _worst(comparisons)
    smaller = sum(not c.supports for c in comparisons)
    silent = f"; in {smaller} the other model is smaller, which cannot support it" if smaller else ""
    text = (
        f"{where} IMPACT is ahead in {_ahead(comparisons)} of {len(comparisons)} comparisons; the smallest difference "
        f"is {worst.difference:+.1f} points against {worst} {found.explanation}{silent}."
    )
    return replace(found, explanation=text)


@dataclass(frozen=True, kw_only=True)
class OutperformsQuantized(QuantizedStatement):
    """At the nominal size of every 8-bit FLAP and AFM model, the 4-bit and the QLoRA model, 8-bit IMPACT is ahead.

    IMPACT's accuracy there is interpolated between its adjacent models. At a size above all of them its largest stands
    in, which may support the statement but not refute it; below all of them its smallest, which may only refute it. The
    verdict is that of `all_ahead`. Of printed numbers it follows when all differences are above
    zero. Sentences of this kind are about one model.
    """

    def benchmarks(self, measured: Sequence[str] | None = None) -> Sequence[str]:
        return BENCHMARKS if measured is None else measured

    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        return points_in_print(model, METHOD, *_RIVALS), ()

    def _measured(self, evidence: Models, benchmarks: Sequence[str]) -> Finding:
        comparisons = at_sizes_of(_RIVALS, evidence, benchmarks)
        return _all_ahead(comparisons, "At the nominal sizes of the other models 8-bit")

    def _printed(self, evidence: Models, benchmarks: Sequence[str]) -> Recomputed:
        (one,), (benchmark,) = evidence, benchmarks
        comparisons = at_sizes_of(_RIVALS, evidence, benchmarks)
        worst, found, sizes = _worst(comparisons), one.after.values[benchmark], one.after.sizes
        own = sorted((point for point in found if point[0] == METHOD), key=lambda point: sizes[point])
        nearest = [point for point in own if sizes[point] <= worst.size][-1]
        least = float(found[own[0]][0])
        rounding = " which rounding alone could turn" if 0 < worst.difference < PERCENT_HALF_CELL else ""
        text = (
            f"At the sizes of the {len(comparisons)} other models IMPACT is ahead of {_ahead(comparisons)}; the "
            f"smallest margin is {worst.difference:+.2f} points, against {worst.point[0]} at {worst.size:g} GB "
            f"({found[worst.point][0]:g} %){rounding}."
        )
        if better := sorted({c.point[0] for c in comparisons if found[c.point][0] > least}):
            text += (
                f" Its smallest model, {sizes[own[0]]:g} GB with {least:g} %, is less accurate than larger ones of "
                f"{', '.join(better)}."
            )
        columns = ["model_size_gb", f"{benchmark}_acc"]
        return Recomputed(
            follows(worst.difference > 0),
            text,
            (*cited(one.model, nearest, columns), *cited(one.model, worst.point, columns)),
            {"smallest_margin_points": worst.difference},
        )


@dataclass(frozen=True, kw_only=True)
class AheadOfLargerModels(QuantizedStatement):
    """IMPACT's model ``own`` is more accurate than each of ``rivals``, which are larger, on every benchmark.

    A rival that is smaller in this run (by nominal size) may only refute it. The verdict is that of
    `all_ahead`. Sentences of this kind are about one model.
    """

    own: Point
    rivals: tuple[Point, ...]

    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        return [self.own, *self.rivals], ()

    def _measured(self, evidence: Models, benchmarks: Sequence[str]) -> Finding:
        own_size = shown_size(evidence[0].after.sizes[self.own])
        where = f"With row {self.own[1]} (nominally {own_size} GB) 8-bit"
        return _all_ahead(self._comparisons(evidence[0], benchmarks), where)

    def _printed(self, evidence: Models, benchmarks: Sequence[str]) -> Recomputed:
        margins = [c.difference for c in self._comparisons(evidence[0], benchmarks)]
        columns = [f"{benchmark}_acc" for benchmark in benchmarks]
        # the sentence names the models by their sizes
        own, *others = [
            printed_numbers(table, columns, method=point[0], model_size_gb=evidence[0].after.sizes[point])
            for point in (self.own, *self.rivals)
            for table in [3 if point in FOUR_BIT else MODELS[evidence[0].model].eight_bit]
        ]
        return Recomputed(
            follows(min(margins) > 0),
            f"IMPACT's {' / '.join(f'{number.value:g}' for number in own)} % are ahead of each of the three on GSM8K "
            f"and MATH by {min(margins):.1f} to {max(margins):.1f} points.",
            (*own, *(number for numbers in others for number in numbers)),
            {"smallest_margin_points": min(margins)},
        )

    def _comparisons(self, evidence: QuantizedEvidence, benchmarks: Sequence[str]) -> list[AtSize]:
        sizes = evidence.after.sizes
        return [
            AtSize(found[self.own] - found[rival], sizes[self.own] <= sizes[rival], True, evidence, benchmark, rival)
            for benchmark in benchmarks
            for found in [evidence.after.values[benchmark]]
            for rival in self.rivals
        ]


@dataclass(frozen=True)
class _Losses:
    """What 8 and 4 bits take from dense models, (n, 2, 1 + resamples), and one standard error, (n, 2), in points.

    The n are of each model on each benchmark.
    """

    of: list[tuple[QuantizedEvidence, str]]
    points: FloatArray
    errors: FloatArray

    @classmethod
    def between(cls, evidence: Models, benchmarks: Sequence[str]) -> "_Losses":
        of = [(one, benchmark) for one in evidence for benchmark in benchmarks]
        before = np.array([[one.before.values[name][point] for point in _DENSE_QUANTIZED] for one, name in of])
        after = np.array([[one.after.values[name][point] for point in _DENSE_QUANTIZED] for one, name in of])
        problems = np.array([[one.problems[name]] for one, name in of])
        return cls(of, before - after, 100 * standard_error(before[..., 0] / 100, problems))

    @property
    def margins(self) -> FloatArray:
        """How far losses are on the side of the errors where they should be, (2 n, 1 + resamples)."""
        margins: FloatArray = np.array([[1], [-1]]) * (self.errors[..., None] - self.points)
        return margins.reshape(2 * len(self.of), -1)

    @property
    def figures(self) -> dict[str, float | None]:
        """Those of the accuracies themselves that stand most against the sentence."""
        return {
            "largest_loss_8_bit_points": float(self.points[:, 0, 0].max()),
            "smallest_loss_4_bit_points": float(self.points[:, 1, 0].min()),
        }


@dataclass(frozen=True, kw_only=True)
class EightBitsPreserve(QuantizedStatement):
    """8 bits take less than one standard error of the accuracy from the dense model, and 4 bits take more.

    Losses are paired on the same problems. The verdict is that of `all_ahead` on the differences
    between losses and standard errors.
    """

    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        return _DENSE_QUANTIZED, _DENSE_QUANTIZED

    def _measured(self, evidence: Models, benchmarks: Sequence[str]) -> Finding:
        losses = _Losses.between(evidence, benchmarks)
        texts = []
        for (one, benchmark), points, errors in zip(losses.of, losses.points, losses.errors, strict=True):
            eight, four = (
                f"{loss[0]:.1f} points (95 % {interval.low:.1f} to {interval.high:.1f})"
                for loss in points
                for interval in [percentile_interval(loss[1:])]
            )
            texts.append(
                f"On {benchmark} 8 bits take {eight} from the dense {one.model} and 4 bits {four}; one standard error "
                f"is {errors[1]:.1f}."
            )
        found = all_ahead([Comparison(margin, True, True) for margin in losses.margins])
        return Finding(found.verdict, " ".join(texts), losses.figures)

    def _printed(self, evidence: Models, benchmarks: Sequence[str]) -> Recomputed:
        losses = _Losses.between(evidence, benchmarks)
        eight, four = losses.points[..., 0].T
        return Recomputed(
            follows(bool((losses.margins > 0).all())),
            f"8 bits take {eight.min():.1f} to {eight.max():.1f} points from the dense models, 4 bits take "
            f"{four.min():.1f} to {four.max():.1f}; one standard error is {losses.errors.min():.1f} to "
            f"{losses.errors.max():.1f}.",
            tuple(
                number
                for one, benchmark in losses.of
                for point, before in (((DENSE, 0), True), ((DENSE, 0), False), (FOUR_BIT[0], False))
                for number in cited(one.model, point, [f"{benchmark}_acc"], before=before)
            ),
            losses.figures,
        )


@dataclass(frozen=True, kw_only=True)
class CombinedBeatsEither(QuantizedStatement):
    """8-bit IMPACT is more accurate than IMPACT alone and than quantization alone, each at the same number of bytes.

    IMPACT alone is interpolated at the nominal bytes of the 8-bit models, for each of some widths of an unquantized
    parameter, with the unquantized dense model as the largest, and only where the unquantized models reach down to that
    size; where two widths differ in the verdict it cannot be told apart. Quantization alone is the 4-bit and the QLoRA
    model, compared as in `OutperformsQuantized`. It holds if it holds against both, and does not if against one.
    Printed numbers are compared with IMPACT alone, and settle it where those of both widths do.
    """

    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        own = points_in_print(model, METHOD)
        return [*own, *FOUR_BIT], [(DENSE, 0), *own]

    def _measured(self, evidence: Models, benchmarks: Sequence[str]) -> Finding:
        low_rank: dict[int, Finding] = {}
        texts = []
        for width, comparisons in at_same_bytes(evidence, benchmarks).items():
            if comparisons:
                low_rank[width] = _all_ahead(comparisons, f"At {width} bytes an unquantized parameter 8-bit")
                texts.append(low_rank[width].explanation)
            else:
                texts.append(f"At {width} bytes a parameter no unquantized model is as small as an 8-bit one.")
        alone = at_sizes_of((QUANTIZED, QLORA), evidence, benchmarks)
        quantized = _all_ahead(alone, "At the nominal sizes of the 4-bit models 8-bit")
        either = (agreed(found.verdict for found in low_rank.values()), quantized.verdict)
        figures = {
            f"smallest_difference_{against}_points": found.figures["smallest_difference_points"]
            for against, found in (
                *((f"at_{width}_bytes", low_rank[width]) for width in low_rank),
                ("to_4_bit", quantized),
            )
        }
        return Finding(
            "does not hold" if "does not hold" in either else agreed(either),
            f"Low rank alone: {' '.join(texts)} Quantization alone: {quantized.explanation}",
            figures,
        )

    def _printed(self, evidence: Models, benchmarks: Sequence[str]) -> Recomputed:
        texts: list[str] = []
        verdicts: set[PrintVerdict] = set()
        rests_on: list[PrintedNumber] = []
        figures: dict[str, float | None] = {}
        for width, comparisons in at_same_bytes(evidence, benchmarks).items():
            if not comparisons:
                texts.append(f"at {width} bytes a parameter none is so small")
                verdicts.add("cannot be derived")
                continue
            worst = _worst(comparisons)
            eight, full, _ = MODELS[worst.evidence.model]
            texts.append(
                f"at {width} bytes a parameter the 8-bit model is ahead in {_ahead(comparisons)} of "
                f"{len(comparisons)} comparisons, the smallest margin {worst.difference:+.1f} points (Table {eight}, "
                f"{worst.benchmark}, {worst.size:g} GB)"
            )
            verdicts.add(follows(worst.difference > 0))
            figures[f"smallest_margin_at_{width}_bytes_points"] = worst.difference
            accuracy = f"{worst.benchmark}_acc"
            rests_on += cited(worst.evidence.model, worst.point, ["model_size_gb", accuracy])
            rests_on += adjacent_numbers(full, ["model_size_b", accuracy], METHOD, worst.size / width)
        return Recomputed(
            verdicts.pop() if len(verdicts) == 1 else "cannot be derived",
            "The paper does not say how many bytes an unquantized parameter has. Against IMPACT without quantization "
            f"at the same number of bytes: {'; '.join(texts)}.",
            tuple(rests_on),
            figures,
        )
