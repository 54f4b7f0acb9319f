"""Fields of a published row by their types; null is absent."""

import math
from collections.abc import Mapping
from typing import Any


def text_of(row: Mapping[str, Any], field: str, default: str | None = None) -> str:
    """A text, or `default`. Raises ValueError for another type, and where there is neither."""
    value = row.get(field)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ValueError(f'field "{field}" is {"missing" if value is None else "not a string"}')
    return value


def texts_of(row: Mapping[str, Any], field: str) -> list[str]:
    """A list of texts, empty where it is absent. Raises ValueError for anything else."""
    value = row.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f'field "{field}" is no list of strings')
    return value


def number_of(row: Mapping[str, Any], field: str) -> float:
    """A finite number. Raises ValueError for anything else: JSON has 1e999, and Python's reader NaN, too."""
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f'field "{field}" is {"missing" if value is None else "not a number"}')
    if not math.isfinite(value):
        raise ValueError(f'field "{field}" is not a finite number')
    return float(value)


def function_of(row: Mapping[str, Any], field: str) -> str:
    """A name that a function can have. Raises ValueError for anything else."""
    if not (name := text_of(row, field)).isidentifier():
        raise ValueError(f'field "{field}" is no name of a function')
    return name
