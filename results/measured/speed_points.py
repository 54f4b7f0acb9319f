"""The typed record of one measured point of Table 14: a model's speed and memory on one route."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from results.measured.cells import DENSE
from results.measured.conditions import Machine
from results.measured.record import Record


class Spread(Record):
    """Median, lowest and highest over repetitions."""

    median: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "Spread":
        if not self.low <= self.median <= self.high:
            raise ValueError(f"{self.low:g}, {self.median:g} and {self.high:g} are no lowest, median and highest")
        return self


class PhaseSpeed(Record):
    """Tokens a second of one phase, and what the machine allows: by memory bandwidth, and by its matrix rate."""

    tokens_per_s: Spread
    bandwidth_bound_tok_s: float | None = Field(default=None, gt=0)
    rate_bound_tok_s: float | None = Field(default=None, gt=0)

    @property
    def of_bound_pct(self) -> float:
        """Measured, in percent of the lower of the two bounds; missing without any."""
        bounds = [bound for bound in (self.bandwidth_bound_tok_s, self.rate_bound_tok_s) if bound is not None]
        return 100 * self.tokens_per_s.median / min(bounds) if bounds else np.nan


class _Load(Record):
    batch_size: int = Field(gt=0)
    prompt_tokens: int = Field(gt=0)
    new_tokens: int = Field(gt=0)


# the load comes first in JSON
class Conditions(Machine, _Load):
    """What points of one table share, or they could not be compared: the load and the machine."""

    def __str__(self) -> str:
        load = f"batch {self.batch_size}, prompts of {self.prompt_tokens} tokens, {self.new_tokens} new tokens"
        return f"{load}, {super().__str__()}"


class SpeedPoint(Record):
    """One measured point: a model's speed and memory on one route.

    ``route`` is how it ran, in words ("hf growing", "hf cuda_graph fused", "vllm native"). ``total`` counts generated
    tokens over the time of prefill and decoding together, ``prefill`` prompt tokens; an engine that can't tell the two
    apart leaves them out. Memory is in GB of 10^9 bytes, ``memory_kind`` says of what. ``random_weights``: no method
    was run, the ranks are one share of full rank everywhere. ``runs`` names the stages' runs.
    """

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
    runs: dict[str, str] = Field(default_factory=dict)
    note: str = ""

    @property
    def place(self) -> str:
        """Which point of the table it is."""
        return f"{self.method} row {self.row} on {self.route}"

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
) -> SpeedPoint:
    """A point from a measurement of `evals.speed` as a mapping (``dataclasses.asdict``, or what JSON made of it).

    An engine that does not tell prefill and decoding apart has null for both.

    Raises:
        ValueError: something is missing, or is no measurement.
    """
    settings, limits = measured["settings"], measured["limits"]
    phases: dict[str, Any] = {
        name: PhaseSpeed(
            tokens_per_s=speed["tokens_per_s"],
            bandwidth_bound_tok_s=speed["bandwidth_bound"],
            rate_bound_tok_s=speed["rate_bound"],
        )
        for name in ("prefill", "decode", "total")
        if (speed := measured[name])
    }
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
        **phases,
        memory_gb=measured["peak_memory"] / 1e9,
        memory_kind=measured["memory_kind"],
        weights_gb=measured["weight_memory"] / 1e9,
        bandwidth_gb_s=limits["bandwidth"] / 1e9 if limits else None,
        matrix_rate_tflop_s=limits["matrix_rate"] / 1e12 if limits else None,
        runs=dict(runs or {}),
    )
