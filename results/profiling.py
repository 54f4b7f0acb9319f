"""Table 5: what profiling costs, measured, beside the paper's printed numbers."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from results.printed import printed_table

TABLE = 5
PHASES = ("calibration", "decomposition", "search")
# what a way of profiling is compared with
_REFERENCE = "impact"
_NAIVE = "naive"


class ProfilingConditions(BaseModel):
    """What points of one table share, or they could not be compared: the calibration set and the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: int = Field(gt=0)
    rows: int = Field(gt=0)
    tokens: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    dtype: str
    device: str
    hardware: str
    threads: int = Field(gt=0)

    def __str__(self) -> str:
        where = self.hardware + (f", {self.threads} threads" if self.device == "cpu" else "")
        return (
            f"{self.parameters / 1e9:.4g} B parameters, {self.rows} rows of {self.tokens} tokens in batches of "
            f"{self.batch_size}, {self.dtype} weights, on {self.device} ({where})"
        )


class Extrapolation(BaseModel):
    """What a point would cost elsewhere: counted from operations and bytes, not measured.

    hours: each phase at the rate that was measured. memory_gb: weights and accumulators alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hours: float = Field(gt=0)
    memory_gb: float = Field(gt=0)


class ProfilingPoint(BaseModel):
    """One way of profiling for one method: seconds by phase, and memory in GB of 10^9 bytes.

    ``implementation`` is "ours", "streamed", "estimated" or "naive". ``memory_before_gb`` is what was held once the
    model was there, on a CPU with all libraries. ``search``: of what a search consists, in words. ``runs`` names the
    stage's run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    implementation: str
    conditions: ProfilingConditions
    seconds: dict[str, float]
    memory_gb: float = Field(gt=0)
    memory_before_gb: float = Field(gt=0)
    memory_kind: str
    weights_gb: float = Field(gt=0)
    search: str = ""
    extrapolated: Extrapolation | None = None
    runs: dict[str, str] = {}

    @property
    def total_seconds(self) -> float:
        """All phases together."""
        return sum(self.seconds.values())


def build_profiling_table(points: Sequence[ProfilingPoint]) -> pd.DataFrame:
    """One row a measured (method, implementation), with the printed numbers of the same method beside.

    ``time_s`` and its phases are seconds, ``memory_gb`` is the peak, ``memory_above_gb`` the part of it above what the
    loaded model took. ``time_vs_impact`` is a multiple of IMPACT's time, of the naive one for a naive row and of ours
    for the others; ``naive_vs_this`` says how many times longer the method's naive form took. ``extrapolated_*`` are
    counted, not measured; ``printed_*`` are the paper's, for its own model and machine.

    Raises:
        ValueError: no point, a point that occurs twice, or points measured under different conditions.
    """
    conditions_of(points)
    printed = {str(line["method"]): line for line in printed_table(TABLE).to_dict("records")}
    methods = [*printed, *sorted({point.method for point in points} - printed.keys())]
    times = {(point.method, point.implementation): point.total_seconds for point in points}
    ordered = sorted(points, key=lambda point: methods.index(point.method))
    records = [_record(point, times, printed.get(point.method, {}), printed[_REFERENCE]) for point in ordered]
    table = pd.DataFrame(records)
    texts = ("method", "implementation", "memory_kind")
    return table.astype({name: "float64" for name in table.columns if name not in texts})


def _record(
    point: ProfilingPoint,
    times: Mapping[tuple[str, str], float],
    printed: Mapping[Hashable, Any],
    printed_reference: Mapping[Hashable, Any],
) -> dict[str, object]:
    time = point.total_seconds
    reference = times.get((_REFERENCE, _NAIVE if point.implementation == _NAIVE else "ours"))
    naive = times.get((point.method, _NAIVE))
    hours = printed.get("profiling_time_h")
    return {
        "method": point.method,
        "implementation": point.implementation,
        "time_s": time,
        **{f"{phase}_s": point.seconds.get(phase) for phase in PHASES},
        "time_vs_impact": time / reference if reference else None,
        "naive_vs_this": naive / time if naive else None,
        "memory_gb": point.memory_gb,
        "memory_above_gb": point.memory_gb - point.memory_before_gb,
        "memory_kind": point.memory_kind,
        "extrapolated_time_h": point.extrapolated.hours if point.extrapolated else None,
        "extrapolated_memory_gb": point.extrapolated.memory_gb if point.extrapolated else None,
        "printed_time_h": hours,
        "printed_memory_gb": printed.get("peak_gpu_memory_gb"),
        "printed_time_vs_impact": hours / printed_reference["profiling_time_h"] if hours else None,
    }


def conditions_of(points: Sequence[ProfilingPoint]) -> ProfilingConditions:
    """What all points were measured under.

    Raises:
        ValueError: no point, a point that occurs twice, or points measured under different conditions.
    """
    if not points:
        raise ValueError("no profiling was measured: there is no Table 5 to build")
    first = points[0].conditions
    seen = set()
    for point in points:
        where = f"{point.method} ({point.implementation})"
        if where in seen:
            raise ValueError(f"{where} occurs twice")
        seen.add(where)
        fields = ProfilingConditions.model_fields
        if differing := [name for name in fields if getattr(point.conditions, name) != getattr(first, name)]:
            raise ValueError(f"{where} was measured under another {', '.join(differing)} than the first point")
    return first
