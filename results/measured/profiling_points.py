"""The typed record of one measured point of Table 5: one way of profiling for one method."""

from pydantic import Field

from results.measured.conditions import Machine
from results.measured.record import Record


class _Load(Record):
    parameters: int = Field(gt=0)
    rows: int = Field(gt=0)
    tokens: int = Field(gt=0)
    batch_size: int = Field(gt=0)


# the load comes first in JSON
class ProfilingConditions(Machine, _Load):
    """What points of one table share, or they could not be compared: the calibration set and the machine."""

    def __str__(self) -> str:
        load = f"{self.rows} rows of {self.tokens} tokens in batches of {self.batch_size}"
        return f"{self.parameters / 1e9:.4g} B parameters, {load}, {super().__str__()}"


class Extrapolation(Record):
    """What a point would cost elsewhere: counted from operations and bytes, not measured.

    hours: each phase at the rate that was measured. memory_gb: weights and accumulators alone.
    """

    hours: float = Field(gt=0)
    memory_gb: float = Field(gt=0)


class ProfilingPoint(Record):
    """One way of profiling for one method: seconds by phase, and memory in GB of 10^9 bytes.

    ``implementation`` is "ours", "streamed", "estimated" or "naive". ``memory_before_gb`` is what was held once the
    model was there, on a CPU with all libraries. ``search``: of what a search consists, in words. ``runs`` names the
    stage's run.
    """

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
    runs: dict[str, str] = Field(default_factory=dict)

    @property
    def place(self) -> str:
        """Which point of the table it is."""
        return f"{self.method} ({self.implementation})"

    @property
    def total_seconds(self) -> float:
        """All phases together."""
        return sum(self.seconds.values())
