"""How a number reads: missing ones as a dash, intervals in brackets, sizes without an exponent."""

import numpy as np
import pandas as pd

BLANK = "—"


def shown(value: float, spec: str) -> str:
    """A number formatted by ``spec``, or a dash where it is missing."""
    return BLANK if pd.isna(value) else format(value, spec)


def shown_interval(value: float, low: float, high: float, spec: str) -> str:
    """A number with its interval in brackets, all formatted by ``spec``, or a dash where it is missing."""
    return BLANK if pd.isna(value) else f"{value:{spec}} [{low:{spec}}, {high:{spec}}]"


def shown_size(value: float) -> str:
    """A size to four significant digits, never in exponents: that of a small model is far below a unit."""
    return BLANK if pd.isna(value) else np.format_float_positional(value, precision=4, fractional=False, trim="-")
