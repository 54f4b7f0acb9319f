"""Kinds of statement about profiling: what must be true of Table 5 for what appendix B.3 says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log10

from results.measured.profiling_points import ProfilingPoint
from results.numbers.paper import METHOD, PAPER
from results.numbers.printed import PrintedNumber, printed_numbers
from results.statements.cost_evidence import RIVAL, change_pct
from results.statements.criteria import Finding, Recomputed, follows
from results.statements.run import Run
from results.statements.statement import Statement

# the models that appendix B.3 speaks of have 13.02 billion
_PARAMETERS_13B = 12.5e9
# time in the unit of its source, and peak memory
Profile = tuple[float, float]


def profiles_of(points: Iterable[ProfilingPoint]) -> dict[str, Profile]:
    """By method; time in seconds."""
    return {point.method: (point.total_seconds, point.memory_gb) for point in points}


def printed_profiles(*methods: str) -> tuple[dict[str, Profile], tuple[PrintedNumber, ...]]:
    """Of Table 5 by method, time in hours, and the numbers themselves."""
    columns = ["profiling_time_h", "peak_gpu_memory_gb"]
    numbers = {method: printed_numbers(5, columns, method=method) for method in methods}
    profiles = {method: (time.value, memory.value) for method, (time, memory) in numbers.items()}
    return profiles, tuple(number for found in numbers.values() for number in found)


def overhead(profiles: Mapping[str, Profile]) -> tuple[float, float]:
    """By how many percent IMPACT's profiling takes more time and more memory than the rival's."""
    time, memory = (change_pct(own, other) for own, other in zip(profiles[METHOD], profiles[RIVAL], strict=True))
    return time, memory


@dataclass(frozen=True, kw_only=True)
class ProfilingUnderTwoHours(Statement):
    """IMPACT's profiling of a model of 13 billion parameters on a GPU against two hours."""

    def judge(self, run: Run, benchmark: str = "") -> Finding:
        if not (found := run.profiled(METHOD)):
            return Finding("not measured", f"Table 5 lacks {METHOD}.")
        (point,) = found
        conditions, hours = point.conditions, point.total_seconds / 3600
        if conditions.device == "cpu" or conditions.parameters < _PARAMETERS_13B:
            there = f"; extrapolated to 13B it is {point.extrapolated.hours:.3g} hours" if point.extrapolated else ""
            return Finding("not measured", f"Table 5 is of no 13B model on a GPU: {conditions}{there}.")
        return Finding("holds" if hours < 2 else "does not hold", f"{hours:.2f} hours: {conditions}.", {"hours": hours})

    def on_print(self, benchmark: str = "") -> Recomputed:
        (number,) = printed_numbers(5, ["profiling_time_h"], method=METHOD)
        hours = number.value
        text = (
            f"{hours:g} hours for {PAPER[5].model} on mathematical reasoning; no time is printed for code generation."
        )
        return Recomputed(follows(hours < 2), text, (number,), {"hours": hours})


@dataclass(frozen=True, kw_only=True)
class ProfilingOverhead(Statement):
    """IMPACT's profiling time and peak memory over AFM's, as this harness profiles, one measurement of each.

    “Modest” has no figure, so the paper's own overhead stands for it.
    """

    def judge(self, run: Run, benchmark: str = "") -> Finding:
        found = run.profiled(METHOD, RIVAL)
        if len(found) < 2:
            return Finding("not measured", f"Table 5 lacks {METHOD} or {RIVAL}.")
        time, memory = overhead(profiles_of(found))
        printed_time, printed_memory = overhead(printed_profiles(METHOD, RIVAL)[0])
        return Finding(
            "holds" if time <= printed_time and memory <= printed_memory else "does not hold",
            f"IMPACT's profiling takes {time:.1f} % more time and {memory:.1f} % more memory than AFM's; in print "
            f"{printed_time:.1f} and {printed_memory:.1f} %. {found[0].conditions}.",
            {"time_pct": time, "memory_pct": memory},
        )

    def on_print(self, benchmark: str = "") -> Recomputed:
        profiles, numbers = printed_profiles(METHOD, RIVAL)
        time, memory = overhead(profiles)
        return Recomputed(
            "cannot be derived",
            f"“Modest” has no figure: IMPACT's profiling takes {time:.1f} % more time and {memory:.1f} % more memory.",
            numbers,
            {"time_pct": time, "memory_pct": memory},
        )


@dataclass(frozen=True, kw_only=True)
class AsvdOrdersOfMagnitude(Statement):
    """ASVD's profiling time over IMPACT's and AFM's, two orders of magnitude to the nearest, at a lower peak memory.

    As this harness profiles, one measurement of each.
    """

    def judge(self, run: Run, benchmark: str = "") -> Finding:
        found = run.profiled("asvd", METHOD, RIVAL)
        if len(found) < 3:
            return Finding("not measured", f"Table 5 lacks asvd, {METHOD} or {RIVAL}.")
        holds, text, figures = self._read(profiles_of(found), ".3g")
        at_13b = {point.method: point.extrapolated.hours for point in found if point.extrapolated}
        if "asvd" in at_13b and len(at_13b) > 1:
            asvd = at_13b.pop("asvd")
            ratios = {method: asvd / hours for method, hours in at_13b.items()}
            text += f" Extrapolated to 13B, every candidate evaluated on all rows, {_times(ratios, '.3g')}."
        return Finding("holds" if holds else "does not hold", text, figures)

    def on_print(self, benchmark: str = "") -> Recomputed:
        profiles, numbers = printed_profiles("asvd", METHOD, RIVAL)
        holds, text, figures = self._read(profiles, ".0f")
        return Recomputed(follows(holds), text, numbers, figures)

    def _read(self, profiles: Mapping[str, Profile], spec: str) -> tuple[bool, str, dict[str, float]]:
        (time, asvd), *_ = profiles.values()
        others = [memory for method, (_, memory) in profiles.items() if method != "asvd"]
        ratios = {method: time / own for method, (own, _) in profiles.items() if method != "asvd"}
        return (
            all(round(log10(ratio)) >= 2 for ratio in ratios.values()) and asvd < min(others),
            f"ASVD's time is {_times(ratios, spec)}; its peak memory is {asvd:.3g} GB against "
            f"{' and '.join(f'{memory:.3g}' for memory in others)}.",
            {f"times_{method}": ratio for method, ratio in ratios.items()},
        )


def _times(ratios: Mapping[str, float], spec: str) -> str:
    return " and ".join(f"{ratio:{spec}} times {method}'s" for method, ratio in ratios.items())
