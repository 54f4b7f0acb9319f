"""Table 14: throughput and memory, measured, beside the paper's printed numbers."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from results.cells import DENSE
from results.printed import printed_table

TABLE = 14
# Two decimals are printed, and a rank is a whole number.
_SIZE_TOLERANCE_B = 0.006


class Spread(BaseModel):
    """Median, lowest and highest over repetitions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    median: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "Spread":
        if not self.low <= self.median <= self.high:
            raise ValueError(f"{self.low:g}, {self.median:g} and {self.high:g} are no lowest, median and highest")
        return self


class PhaseSpeed(BaseModel):
    """Tokens a second of one phase, and what the machine allows: by memory bandwidth, and by its matrix rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens_per_s: Spread
    bandwidth_bound_tok_s: float | None = Field(default=None, gt=0)
    rate_bound_tok_s: float | None = Field(default=None, gt=0)

    @property
    def of_bound_pct(self) -> float:
        """Measured, in percent of the lower of the two bounds; missing without any."""
        bounds = [bound for bound in (self.bandwidth_bound_tok_s, self.rate_bound_tok_s) if bound is not None]
        return 100 * self.tokens_per_s.median / min(bounds) if bounds else np.nan


class Conditions(BaseModel):
    """What points of one table share, or they could not be compared: the load and the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: int = Field(gt=0)
    prompt_tokens: int = Field(gt=0)
    new_tokens: int = Field(gt=0)
    dtype: str
    device: str
    hardware: str
    threads: int = Field(gt=0)

    def __str__(self) -> str:
        where = self.hardware + (f", {self.threads} threads" if self.device == "cpu" else "")
        return (
            f"batch {self.batch_size}, prompts of {self.prompt_tokens} tokens, {self.new_tokens} new tokens, "
            f"{self.dtype} weights, on {self.device} ({where})"
        )


class SpeedPoint(BaseModel):
    """One measured point: a model's speed and memory on one route.

    ``route`` is how it ran, in words ("hf growing", "hf cuda_graph fused", "vllm native"). ``total`` counts generated
    tokens over the time of prefill and decoding together, ``prefill`` prompt tokens; an engine that can't tell the two
    apart leaves them out. Memory is in GB of 10^9 bytes, ``memory_kind`` says of what. ``random_weights``: no method
    was run, the ranks are one share of full rank everywhere. ``runs`` names the stages' runs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    row: int = Field(ge=0)
    route: str
    parameters: int = Field(gt=0)
    random_weights: bool
    conditions: Conditions
    repetitions: int = Field(gt=0)
    prefill: PhaseSpeed | None = None
    decode: PhaseSpeed | None = None
    total: PhaseSpeed
    memory_gb: float = Field(gt=0)
    memory_kind: str
    weights_gb: float = Field(gt=0)
    bandwidth_gb_s: float | None = Field(default=None, gt=0)
    matrix_rate_tflop_s: float | None = Field(default=None, gt=0)
    runs: dict[str, str] = {}
    note: str = ""

    @model_validator(mode="after")
    def _dense_is_row_zero(self) -> "SpeedPoint":
        if (self.row == 0) != (self.method == DENSE):
            raise ValueError(f"row 0 is for {DENSE} alone, got method {self.method!r} at row {self.row}")
        return self


def speed_point(
    measured: Mapping[str, Any],
    method: str,
    row: int,
    *,
    engine: str = "hf",
    random_weights: bool = False,
    runs: Mapping[str, str] | None = None,
    note: str = "",
) -> SpeedPoint:
    """A point from a measurement of `evals.throughput` as a mapping (``dataclasses.asdict``, or what JSON made of it).

    An engine that does not tell prefill and decoding apart has null for both.

    Raises:
        ValueError: something is missing, or is no measurement.
    """
    settings, limits = measured["settings"], measured["limits"]

    def phase(name: str) -> PhaseSpeed:
        values = measured[name]
        return PhaseSpeed(
            tokens_per_s=Spread(**values["tokens_per_s"]),
            bandwidth_bound_tok_s=values["bandwidth_bound"],
            rate_bound_tok_s=values["rate_bound"],
        )

    return SpeedPoint(
        method=method,
        row=row,
        route=f"{engine} {settings['route']}{' fused' * settings['fused']}",
        parameters=measured["parameters"],
        random_weights=random_weights,
        conditions=Conditions(
            **{name: settings[name] for name in ("batch_size", "prompt_tokens", "new_tokens")},
            **{name: measured[name] for name in ("dtype", "device", "hardware", "threads")},
        ),
        repetitions=settings["repetitions"],
        prefill=phase("prefill") if measured["prefill"] else None,
        decode=phase("decode") if measured["decode"] else None,
        total=phase("total"),
        memory_gb=measured["peak_memory"] / 1e9,
        memory_kind=measured["memory_kind"],
        weights_gb=measured["weight_memory"] / 1e9,
        bandwidth_gb_s=limits["bandwidth"] / 1e9 if limits else None,
        matrix_rate_tflop_s=limits["matrix_rate"] / 1e12 if limits else None,
        runs=dict(runs or {}),
        note=note,
    )


def printed_points() -> list[tuple[str, int, int]]:
    """(method, row, parameters) of every point that Table 14 prints, as `--random-weights` is to measure them."""
    return [
        (str(line["method"]), int(line["row"]), round(line["model_size_b"] * 1e9))
        for line in printed_table(TABLE).to_dict("records")
    ]


def build_speed_table(points: Sequence[SpeedPoint]) -> pd.DataFrame:
    """One row a measured (route, method, row), in the paper's order, with the printed numbers of the same point beside.

    ``*_tok_s`` are tokens a second with ``*_low`` and ``*_high`` over repetitions, ``*_of_bound_pct`` percent of what
    the machine's bandwidth and matrix rate allow, ``*_vs_dense`` multiples of the dense model's number on the same
    route. Columns ``printed_*`` are the paper's, for its own model and machine; ``printed_*_vs_dense`` are made of
    them alone. What was not measured or is not printed is missing.

    Raises:
        ValueError: no point, a point that occurs twice, or points measured under different conditions.
    """
    conditions_of(points)
    printed = printed_table(TABLE)
    lines = {(str(r["method"]), int(r["row"])): r for r in printed.to_dict("records")}
    routes = list(dict.fromkeys(point.route for point in points))
    methods = {method: i for i, method in enumerate(dict.fromkeys(printed["method"]))}
    ordered = sorted(
        points, key=lambda p: (routes.index(p.route), methods.get(p.method, len(methods)), p.method, p.row)
    )
    dense = {point.route: point for point in points if point.method == DENSE}
    records = [_record(p, dense.get(p.route), lines.get((p.method, p.row), {}), lines[DENSE, 0]) for p in ordered]
    table = pd.DataFrame(records)
    texts = ("route", "method", "memory_kind", "random_weights", "row")
    return table.astype({name: "float64" for name in table.columns if name not in texts})


def _record(
    point: SpeedPoint, dense: SpeedPoint | None, printed: Mapping[Hashable, Any], printed_dense: Mapping[Hashable, Any]
) -> dict[str, object]:
    total, decode = point.total.tokens_per_s, point.decode.tokens_per_s if point.decode else None
    dense_decode = dense.decode.tokens_per_s if dense and dense.decode else None
    return {
        "route": point.route,
        "method": point.method,
        "row": point.row,
        "model_size_b": point.parameters / 1e9,
        "throughput_tok_s": total.median,
        "throughput_low": total.low,
        "throughput_high": total.high,
        "memory_gb": point.memory_gb,
        "memory_kind": point.memory_kind,
        "weights_gb": point.weights_gb,
        "throughput_vs_dense": total.median / dense.total.tokens_per_s.median if dense else None,
        "memory_vs_dense": point.memory_gb / dense.memory_gb if dense else None,
        "decode_vs_dense": decode.median / dense_decode.median if decode and dense_decode else None,
        "throughput_of_bound_pct": point.total.of_bound_pct,
        "prefill_tok_s": point.prefill.tokens_per_s.median if point.prefill else None,
        "prefill_of_bound_pct": point.prefill.of_bound_pct if point.prefill else None,
        "decode_tok_s": decode.median if decode else None,
        "decode_low": decode.low if decode else None,
        "decode_high": decode.high if decode else None,
        "decode_of_bound_pct": point.decode.of_bound_pct if point.decode else None,
        "decode_bandwidth_bound_tok_s": point.decode.bandwidth_bound_tok_s if point.decode else None,
        "decode_rate_bound_tok_s": point.decode.rate_bound_tok_s if point.decode else None,
        "random_weights": point.random_weights,
        "printed_model_size_b": printed.get("model_size_b"),
        "printed_throughput_tok_s": printed.get("throughput_tok_s"),
        "printed_memory_gb": printed.get("memory_gb"),
        **{
            f"printed_{name}_vs_dense": printed[column] / printed_dense[column] if printed else None
            for name, column in (("throughput", "throughput_tok_s"), ("memory", "memory_gb"))
        },
    }


def conditions_of(points: Sequence[SpeedPoint]) -> Conditions:
    """What all points were measured under.

    Raises:
        ValueError: no point, a point that occurs twice, or points measured under different conditions.
    """
    if not points:
        raise ValueError("no point was measured: there is no Table 14 to build")
    first = points[0].conditions
    seen = set()
    for point in points:
        where = f"{point.method} row {point.row} on {point.route}"
        if (point.route, point.method, point.row) in seen:
            raise ValueError(f"{where} occurs twice")
        seen.add((point.route, point.method, point.row))
        fields = Conditions.model_fields
        if differing := [name for name in fields if getattr(point.conditions, name) != getattr(first, name)]:
            raise ValueError(f"{where} was measured under another {', '.join(differing)} than the first point")
    return first


def size_mismatches(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a measured table whose size is not the printed one of the same point."""
    return table[(table["model_size_b"] - table["printed_model_size_b"]).abs() > _SIZE_TOLERANCE_B]


def memory_line(sizes: Iterable[float], memory: Iterable[float]) -> tuple[float, float] | None:
    """Least squares line through memory (GB) against size (B): GB a billion parameters, and GB at size zero.

    None with fewer than three sizes. The printed memory has 3.97 GB a billion: four bytes a weight.
    """
    x, y = np.asarray(list(sizes)), np.asarray(list(memory))
    if len(np.unique(x)) < 3:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)
