"""One column of a printed table as a curve over model size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from results.matching import accuracies_at_size
from results.statistics import FloatArray


@dataclass(frozen=True)
class PrintedCurve:
    """Sizes (points,), rising, and a column's values (points,), in the units of the table."""

    sizes: FloatArray
    values: FloatArray

    @classmethod
    def of(cls, table: pd.DataFrame, methods: Sequence[str], size: str, column: str) -> "PrintedCurve":
        """The lines of some methods, most often one and the dense model."""
        lines = table[table["method"].isin(methods)].sort_values(size)
        return cls(lines[size].to_numpy(dtype=np.float64), lines[column].to_numpy(dtype=np.float64))

    def at(self, size: float) -> float:
        """The value at a size, interpolated linearly between adjacent points; beyond the ends that of the end."""
        inside = float(np.clip(size, self.sizes[0], self.sizes[-1]))
        return float(accuracies_at_size(self.sizes, self.values[:, None], inside)[0])
