"""What a model weighs with what its units keep, and how much may be kept for a size."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from impact.compression import parameter_count
from impact.interface import Kept, Method, Unit


def dense_where_larger(kept: Mapping[str, Kept], model: nn.Module, method: Method) -> dict[str, Kept]:
    """Without what takes as many parameters as the dense unit itself: lossless, and smaller."""
    saved = {unit.name: _saved(method, model, unit, kept[unit.name]) for unit in method.units(model)}
    return {name: what if saved[name] > 0 else None for name, what in kept.items()}


def largest_value(allocate: Callable[[float], dict[str, Kept]], model: nn.Module, target: int, method: Method) -> float:
    """The largest value of the method's rule, in percent, whose model has at most `target` parameters.

    allocate: value -> what each unit keeps. Raises ValueError if no value has.
    """

    def size(value: float) -> int:
        kept = allocate(value)
        return parameter_count(model) - sum(
            _saved(method, model, unit, kept[unit.name]) for unit in method.units(model)
        )

    low, high = 100 * getattr(method, "candidates", (1e-9,))[0], 100.0
    if (smallest := size(low)) > target:
        raise ValueError(
            f"the smallest model that {method.name} can make of this one has {smallest:,} parameters: "
            f"a target of {target:,} is out of reach"
        )
    if size(high) <= target:
        return high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= target else (low, middle)
    return low


def _saved(method: Method, model: nn.Module, unit: Unit, kept: Kept) -> int:
    """How many parameters fewer a unit has with what it keeps than dense."""
    modules: list[Any] = [model.get_submodule(name) for name in unit.modules]
    return method.parameters(unit, modules, None) - method.parameters(unit, modules, kept)
