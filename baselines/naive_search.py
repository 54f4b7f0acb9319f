"""ASVD's search as published: the oracle that the fast one is tested against, and its opponent in benchmarks.

One SVD and one evaluation of the whole model for each candidate of each Linear, nothing shared.
"""

from collections.abc import Callable, Mapping

from torch import nn

from baselines.asvd import Asvd
from impact.interface import Sensitivity, Statistics


def score(
    method: Asvd,
    model: nn.Module,
    statistics: Mapping[str, Statistics],
    perplexity: Callable[[nn.Module], float],
) -> Sensitivity:
    """Perplexity with each Linear alone truncated to each candidate; the model is left as it was."""
    sensitivity: Sensitivity = {}
    for unit in method.units(model):
        dense = model.get_submodule(unit.name)
        assert isinstance(dense, nn.Linear)
        sensitivity[unit.name] = {}
        for i, ratio in enumerate(method.candidates):
            component = method.prepare(unit, [dense], statistics[unit.name])
            (truncated,) = method.realise([dense], component, method.candidate_ranks(component)[i], {})
            model.set_submodule(unit.name, truncated)
            sensitivity[unit.name][ratio] = perplexity(model)
            model.set_submodule(unit.name, dense)
    return sensitivity
