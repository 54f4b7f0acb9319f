"""Kinds of statement about quantized models: what must be true of a run's models for a sentence of section 4.4."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from results import quantization_claims
from results.cells import DENSE, BenchmarkResult
from results.criteria import Finding, Outcome, Sentence, all_above_zero
from results.documents import shown_size
from results.evidence import METHOD, Evidence, name_points, resampled
from results.matching import accuracies_at_size
from results.printed import Recomputed, printed_table
from results.quantization_claims import MODELS, WIDTHS
from results.quantized_cells import QLORA, QUANTIZED, QuantizedCell, grouped_by_model
from results.statistics import FloatArray, percentile_interval, standard_error

Point = tuple[str, int]

# the models of Table 3, which prints no rows
FOUR_BIT: tuple[Point, ...] = ((QUANTIZED, 1), (QLORA, 1))
RIVALS = ("flap", "afm")


@dataclass(frozen=True)
class QuantizedEvidence:
    """One model's points by (method, row), ``after`` and ``before`` quantization, with paired resamples.

    Sizes are nominal GB after it and billions of parameters before it; ``problems`` counts those of each benchmark.
    """

    model: str
    after: Evidence
    before: Evidence
    problems: Mapping[str, int]

    @classmethod
    def measured(
        cls, cells: Sequence[QuantizedCell], model: str, *, resamples: int = 2000, seed: int = 0
    ) -> "QuantizedEvidence":
        """The cells of one model, of all tables; with several seeds a problem's score is its mean over seeds.

        Raises:
            ValueError: they do not belong together (`results.quantized_cells.grouped_by_model`).
        """
        groups = {point[1:]: group for point, group in grouped_by_model(c for c in cells if c.model == model).items()}

        def evidence(
            results: Callable[[QuantizedCell], Mapping[str, BenchmarkResult]], size: Callable[[QuantizedCell], float]
        ) -> Evidence:
            accuracies: dict[str, dict[Point, FloatArray]] = {}
            for name in problems:
                scores = {
                    point: np.mean([results(cell)[name].correct for cell in group], axis=0)
                    for point, group in groups.items()
                    if all(name in results(cell) for cell in group)
                }
                accuracies[name] = resampled(scores, resamples, seed) if scores else {}
            sizes = {point: float(np.mean([size(cell) for cell in group])) for point, group in groups.items()}
            return Evidence(sizes=sizes, settings={}, accuracies=accuracies)

        problems = {
            name: result.n for group in groups.values() for cell in group for name, result in cell.benchmarks.items()
        }
        return cls(
            model=model,
            after=evidence(lambda cell: cell.benchmarks, lambda cell: cell.nominal_bytes / 1e9),
            before=evidence(lambda cell: cell.unquantized, lambda cell: cell.parameters / 1e9),
            problems=problems,
        )


@dataclass(frozen=True, kw_only=True)
class QuantizationStatement(Sentence, ABC):
    """A sentence about quantized models of one or both ``models``; the verdict on it is shown in ``tables``."""

    models: tuple[str, ...]
    tables: tuple[int, ...]

    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        """The benchmarks that get a verdict each; None for one verdict over all of them."""
        return (None,)

    def judge(self, evidence: Sequence[QuantizedEvidence], benchmarks: Sequence[str]) -> Finding:
        """What a run says, on those models of which everything was measured that the sentence speaks of.

        It is "not measured" where there is none.
        """
        spoken_of = [one for one in evidence if one.model in self.models]
        lacking = {one.model: self._lacking(one, benchmarks) for one in spoken_of}
        complete = [one for one in spoken_of if not lacking[one.model]]
        absent = "; ".join(text for text in lacking.values() if text)
        if not complete:
            return Finding("not measured", f"This run lacks {absent}.")
        finding = self._settled(complete, benchmarks)
        judged = " and ".join(one.model for one in complete)
        rest = f" Judged on {judged} alone: this run lacks {absent}." if absent else ""
        return replace(finding, explanation=finding.explanation + rest)

    @abstractmethod
    def on_print(self, benchmark: str | None) -> Recomputed:
        """What the printed tables say."""

    @abstractmethod
    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        """The points that it speaks of, after and before quantization."""

    @abstractmethod
    def _settled(self, evidence: Sequence[QuantizedEvidence], benchmarks: Sequence[str]) -> Finding:
        """What complete evidence says."""

    def _lacking(self, evidence: QuantizedEvidence, benchmarks: Sequence[str]) -> str:
        if not evidence.after.sizes:
            return f"every quantized model of {evidence.model}"
        after, before = self._needed(evidence.model)
        texts = []
        for benchmark in benchmarks:
            gone = [point for point in after if point not in evidence.after.accuracies.get(benchmark, {})]
            earlier = evidence.before.accuracies.get(benchmark, {})
            gone_before = [point for point in before if point not in earlier and point not in gone]
            for points, when in ((gone, ""), (gone_before, " before quantization")):
                if points:
                    texts.append(f"{name_points(points)} of {evidence.model} on {benchmark}{when}")
        return "; ".join(texts)


@dataclass(frozen=True)
class _Comparison:
    """IMPACT against ``rival``: its accuracy minus the rival's, (1 + resamples,) in points, and what that may show."""

    rival: str
    differences: FloatArray
    supports: bool
    refutes: bool


def _ahead(comparisons: Sequence[_Comparison], where: str) -> Finding:
    found = all_above_zero(
        np.array([c.differences for c in comparisons]),
        supports=[c.supports for c in comparisons],
        refutes=[c.refutes for c in comparisons],
    )
    worst = min(comparisons, key=lambda c: float(c.differences[0]))
    smaller = sum(not c.supports for c in comparisons)
    return Finding(
        found.verdict,
        f"{where} IMPACT is ahead in {sum(c.differences[0] > 0 for c in comparisons)} of {len(comparisons)} "
        f"comparisons; the smallest difference is {worst.differences[0]:+.1f} points against {worst.rival} "
        f"{found.explanation}{f'; in {smaller} the other model is smaller, which cannot support it' * (smaller > 0)}.",
        found.figures,
    )


@dataclass(frozen=True, kw_only=True)
class OutperformsQuantized(QuantizationStatement):
    """At the nominal size of every 8-bit FLAP and AFM model, the 4-bit and the QLoRA model, 8-bit IMPACT is ahead.

    IMPACT's accuracy there is interpolated between its adjacent models. At a size above all of them its largest stands
    in, which may support the statement but not refute it; below all of them its smallest, which may only refute it. The
    verdict is that of `results.criteria.all_above_zero`.
    """

    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        return measured

    def on_print(self, benchmark: str | None) -> Recomputed:
        assert benchmark is not None
        (model,) = self.models
        return quantization_claims.beats_quantized_models(model, benchmark)

    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        return [*_printed_points(model, METHOD, *RIVALS), *FOUR_BIT], ()

    def _settled(self, evidence: Sequence[QuantizedEvidence], benchmarks: Sequence[str]) -> Finding:
        rivals = {*RIVALS, *(method for method, _ in FOUR_BIT)}
        comparisons = [c for one in evidence for name in benchmarks for c in _at_rival_sizes(one, name, rivals)]
        return _ahead(comparisons, "At the nominal sizes of the other models 8-bit")


def _at_rival_sizes(evidence: QuantizedEvidence, benchmark: str, rivals: Collection[str]) -> list[_Comparison]:
    found, sizes = evidence.after.accuracies[benchmark], evidence.after.sizes
    own = [point for point in found if point[0] == METHOD]
    own_sizes, own_accuracies = np.array([sizes[p] for p in own]), np.array([found[p] for p in own])
    comparisons = []
    for point, accuracy in found.items():
        if point[0] in rivals:
            size = sizes[point]
            at = float(np.clip(size, own_sizes.min(), own_sizes.max()))
            differences = accuracies_at_size(own_sizes, own_accuracies, at) - accuracy
            comparisons.append(_Comparison(_named(point, size, benchmark), differences, at <= size, at >= size))
    return comparisons


@dataclass(frozen=True, kw_only=True)
class AheadOfLargerModels(QuantizationStatement):
    """IMPACT's model ``own`` is more accurate than each of ``rivals``, which are larger, on every benchmark.

    A rival that is smaller in this run (by nominal size) may only refute it. The verdict is that of
    `results.criteria.all_above_zero`.
    """

    own: Point
    rivals: tuple[Point, ...]

    def on_print(self, benchmark: str | None) -> Recomputed:
        return quantization_claims.eight_bit_example()

    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        return [self.own, *self.rivals], ()

    def _settled(self, evidence: Sequence[QuantizedEvidence], benchmarks: Sequence[str]) -> Finding:
        comparisons = []
        for one in evidence:
            sizes = one.after.sizes
            for benchmark in benchmarks:
                found = one.after.accuracies[benchmark]
                comparisons += [
                    _Comparison(
                        rival=_named(rival, sizes[rival], benchmark),
                        differences=found[self.own] - found[rival],
                        supports=sizes[self.own] <= sizes[rival],
                        refutes=True,
                    )
                    for rival in self.rivals
                ]
        # sentences of this kind are about one model
        own_size = shown_size(evidence[0].after.sizes[self.own])
        return _ahead(comparisons, f"With row {self.own[1]} (nominally {own_size} GB) 8-bit")


@dataclass(frozen=True, kw_only=True)
class EightBitsPreserve(QuantizationStatement):
    """8 bits take less than one standard error of the accuracy from the dense model, and 4 bits take more.

    Losses are paired on the same problems. The verdict is that of `results.criteria.all_above_zero` on the differences
    between losses and standard errors.
    """

    def on_print(self, benchmark: str | None) -> Recomputed:
        return quantization_claims.eight_bits_preserve()

    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        points = [(DENSE, 0), FOUR_BIT[0]]
        return points, points

    def _settled(self, evidence: Sequence[QuantizedEvidence], benchmarks: Sequence[str]) -> Finding:
        differences: list[FloatArray] = []
        losses: dict[int, list[float]] = {8: [], 4: []}
        texts = []
        for one in evidence:
            for benchmark in benchmarks:
                told = []
                for bits, point, sign in ((8, (DENSE, 0), -1), (4, FOUR_BIT[0], 1)):
                    before = one.before.accuracies[benchmark][point]
                    loss = before - one.after.accuracies[benchmark][point]
                    error = 100 * standard_error(float(before[0]) / 100, one.problems[benchmark])
                    differences.append(sign * (loss - error))
                    losses[bits].append(float(loss[0]))
                    interval = percentile_interval(loss[1:])
                    told.append(f"{loss[0]:.1f} points (95 % {interval.low:.1f} to {interval.high:.1f})")
                texts.append(
                    f"On {benchmark} 8 bits take {told[0]} from the dense {one.model} and 4 bits {told[1]}; one "
                    f"standard error is {error:.1f}."
                )
        everything = [True] * len(differences)
        found = all_above_zero(np.array(differences), supports=everything, refutes=everything)
        return Finding(
            found.verdict,
            " ".join(texts),
            {"largest_loss_8_bit_points": max(losses[8]), "smallest_loss_4_bit_points": min(losses[4])},
        )


@dataclass(frozen=True, kw_only=True)
class CombinedBeatsEither(QuantizationStatement):
    """8-bit IMPACT is more accurate than IMPACT alone and than quantization alone, each at the same number of bytes.

    IMPACT alone is interpolated at the nominal bytes of the 8-bit models, for each of `WIDTHS` of an unquantized
    parameter, with the unquantized dense model as the largest, and only where the unquantized models reach down to that
    size; where two widths differ in the verdict it cannot be told apart. Quantization alone is the 4-bit and the QLoRA
    model, compared as in `OutperformsQuantized`. It holds if it holds against both, and does not if against one.
    """

    def on_print(self, benchmark: str | None) -> Recomputed:
        return quantization_claims.combined_beats_either()

    def _needed(self, model: str) -> tuple[Sequence[Point], Sequence[Point]]:
        own = _printed_points(model, METHOD)
        return [*own, *FOUR_BIT], [(DENSE, 0), *own]

    def _settled(self, evidence: Sequence[QuantizedEvidence], benchmarks: Sequence[str]) -> Finding:
        low_rank = self._against_low_rank(evidence, benchmarks)
        alone = {method for method, _ in FOUR_BIT}
        comparisons = [c for one in evidence for name in benchmarks for c in _at_rival_sizes(one, name, alone)]
        quantized = _ahead(comparisons, "At the nominal sizes of the 4-bit models 8-bit")
        verdict: Outcome = low_rank.verdict if low_rank.verdict == quantized.verdict else "cannot be told apart"
        if "does not hold" in (low_rank.verdict, quantized.verdict):
            verdict = "does not hold"
        figures = {"smallest_difference_to_4_bit_points": quantized.figures["smallest_difference_points"]}
        explanation = f"Low rank alone: {low_rank.explanation} Quantization alone: {quantized.explanation}"
        return Finding(verdict, explanation, {**low_rank.figures, **figures})

    def _against_low_rank(self, evidence: Sequence[QuantizedEvidence], benchmarks: Sequence[str]) -> Finding:
        texts: list[str] = []
        outcomes: set[Outcome] = set()
        figures: dict[str, float | None] = {}
        for width in WIDTHS:
            comparisons = [c for one in evidence for name in benchmarks for c in _at_same_bytes(one, name, width)]
            if not comparisons:
                texts.append(f"At {width} bytes a parameter no unquantized model is as small as an 8-bit one.")
                continue
            found = _ahead(comparisons, f"At {width} bytes an unquantized parameter 8-bit")
            outcomes.add(found.verdict)
            texts.append(found.explanation)
            figures[f"smallest_difference_at_{width}_bytes_points"] = found.figures["smallest_difference_points"]
        if not outcomes:
            return Finding("not measured", " ".join(texts))
        verdict: Outcome = outcomes.pop() if len(outcomes) == 1 else "cannot be told apart"
        return Finding(verdict, " ".join(texts), figures)


def _at_same_bytes(evidence: QuantizedEvidence, benchmark: str, width: int) -> list[_Comparison]:
    alone = evidence.before.curve(METHOD, benchmark)
    sizes = width * alone.sizes
    found = evidence.after.accuracies[benchmark]
    return [
        _Comparison(
            rival=f"unquantized IMPACT at the size of row {point[1]}, {shown_size(size)} GB, on {benchmark}",
            differences=accuracy - accuracies_at_size(sizes, alone.accuracies, size),
            supports=True,
            refutes=True,
        )
        for point, accuracy in found.items()
        for size in [evidence.after.sizes[point]]
        if point[0] == METHOD and sizes.min() <= size <= sizes.max()
    ]


def _printed_points(model: str, *methods: str) -> list[Point]:
    table = printed_table(MODELS[model][0])
    points = zip(table["method"], table["row"], strict=True)
    return [(str(method), int(row)) for method, row in points if method in methods]


def _named(point: Point, size: float, benchmark: str) -> str:
    method, row = point
    which = method if point in FOUR_BIT else f"{method} row {row}"
    return f"{which} at {shown_size(size)} GB on {benchmark}"
