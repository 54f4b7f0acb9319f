"""The shared-moment pass and the reduced eigenproblem against Algorithm 1 as printed (impact.naive)."""

from typing import Any

import pytest
import torch

from impact import naive
from impact.interface import RankRule
from impact.method import Impact


@pytest.fixture(scope="module")
def profile(tiny_model: Any, batch: Any) -> Any:
    return naive.profile(tiny_model, [batch])


@pytest.mark.parametrize("eta", (0.0, 0.25, 1.0))
def test_ranks_products_and_biases_are_those_of_algorithm_1(
    tiny_model: Any, gathered: Any, profile: Any, full_rank: Any, eta: float
) -> None:
    method = Impact(eta=eta)
    components = full_rank(method, tiny_model, gathered)
    assert set(components) == set(profile)
    for k in (10, 30, 50, 70, 90, 99):
        kept = method.allocate(RankRule("nuclear_norm", k), components, None)
        for name, component in components.items():
            dense = tiny_model.get_submodule(name)
            W = dense.weight.data
            b = W.new_zeros(len(W)) if dense.bias is None else dense.bias.data
            W1, W2, bias, rank = naive.compress_linear(W, b, profile[name], k, eta)
            assert kept[name] == rank, (name, k)
            (layer,) = method.realise([dense], component, rank, {})
            torch.testing.assert_close(layer.up.weight @ layer.down.weight, W2 @ W1, rtol=0, atol=1e-9)
            torch.testing.assert_close(layer.up.bias.data, bias, rtol=0, atol=1e-9)


def test_ranks_differ_between_layers(tiny_model: Any, gathered: Any, full_rank: Any) -> None:
    """So that agreement above is no agreement on a constant."""
    method = Impact()
    kept = method.allocate(RankRule("nuclear_norm", 50), full_rank(method, tiny_model, gathered), None)
    assert len(set(kept.values())) >= 3
