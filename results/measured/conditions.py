"""What measured times and memory have in common, or they could not be compared: the load and the machine."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from results.measured.record import Record


class Machine(Record):
    """Where something was measured, and the type of its weights."""

    dtype: str
    device: str
    hardware: str
    threads: int = Field(gt=0)

    def __str__(self) -> str:
        where = self.hardware + (f", {self.threads} threads" if self.device == "cpu" else "")
        return f"{self.dtype} weights, on {self.device} ({where})"


def check_comparable(points: Sequence[Any], nothing: str) -> None:
    """Raises ValueError if there is no point, which ``nothing`` says, if one ``place`` of the table occurs twice, or if
    points were measured under different ``conditions``."""
    if not points:
        raise ValueError(nothing)
    first, seen = points[0].conditions, set[str]()
    for point in points:
        if point.place in seen:
            raise ValueError(f"{point.place} occurs twice")
        seen.add(point.place)
        fields = type(first).model_fields
        if differing := [name for name in fields if getattr(point.conditions, name) != getattr(first, name)]:
            raise ValueError(f"{point.place} was measured under another {', '.join(differing)} than the first point")
